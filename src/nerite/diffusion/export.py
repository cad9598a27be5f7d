"""A folder of diffusers as ONNX graphs, in diffusers' ONNX layout: what runtimes/onnx.py reads.

The networks are traced at odd sizes, so that every size works, and in float32. Needs torch,
diffusers and onnx; nothing of the running engine uses this.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nerite.diffusion.folder import INDEX, read_json

OPSET = 18
_FAMILIES = {
    "StableDiffusion3": "ORTStableDiffusion3{}Pipeline",
    "StableDiffusionXL": "ORTStableDiffusionXL{}Pipeline",
    "StableDiffusion": "OnnxStableDiffusion{}Pipeline",
}
_TASKS = ("Inpaint", "Img2Img", "")
_COPIED = ("scheduler", "tokenizer", "tokenizer_2", "tokenizer_3", "feature_extractor")
_CHECKER = "safety_checker"
# Beyond this a graph and its weights do not fit into one file.
_ONE_FILE = 1 << 30


@dataclass(frozen=True, slots=True)
class Graph:
    """inputs: an example for each, and a letter for each dimension, "?" for one that is fixed."""

    part: str
    call: Callable[..., Any]
    inputs: Mapping[str, tuple[Any, str]]
    outputs: Sequence[str]


def export_folder(
    folder: Path, target: Path, *, opset: int = OPSET, told: Callable[[str], None] = print
) -> None:
    """Write the graphs of the model ``folder`` to ``target``, part by part, each told of.

    Raises ValueError for a pipeline or a part that cannot be exported.
    """
    index = read_json(folder / INDEX)
    name = export_name(folder)
    target.mkdir(parents=True)
    written: dict[str, Any] = {"_class_name": name}
    for part in [name for name in index if name.startswith(("text_encoder", "unet", "transf"))]:
        if index[part] and index[part][0]:
            network = open_part(folder, part)
            told(part)
            write_graph(network, graph_of(part, network), target / part, opset)
            shutil.copyfile(folder / part / "config.json", target / part / "config.json")
            written[part] = ["diffusers", "OnnxRuntimeModel"]
    vae = open_part(folder, "vae")
    for part in ("vae_decoder", "vae_encoder"):
        told(part)
        write_graph(vae, graph_of(part, vae), target / part, opset)
        shutil.copyfile(folder / "vae" / "config.json", target / part / "config.json")
        written[part] = ["diffusers", "OnnxRuntimeModel"]
    for part in _COPIED:
        if (folder / part).is_dir():
            shutil.copytree(folder / part, target / part)
            written[part] = index[part]
    written[_CHECKER] = [None, None]
    if index.get(_CHECKER, [None])[0] and (folder / _CHECKER).is_dir():
        told(_CHECKER)
        checker = open_part(folder, _CHECKER)
        write_graph(checker, graph_of(_CHECKER, checker), target / _CHECKER, opset)
        written[_CHECKER] = ["diffusers", "OnnxRuntimeModel"]
    further = {key: value for key, value in index.items() if not isinstance(value, list)}
    content = {**further, **written}
    (target / INDEX).write_text(json.dumps(content, indent=2), encoding="utf-8")


def _require() -> None:
    try:
        import diffusers  # noqa: F401
        import onnx  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install 'nerite[export]'") from None


def export_name(folder: Path) -> str:
    """The class that an export's index names. Raises ValueError for what cannot be exported."""
    name = str(read_json(folder / INDEX).get("_class_name"))
    for family, exported in _FAMILIES.items():
        for task in _TASKS:
            if name == f"{family}{task}Pipeline":
                return exported.format(task)
    raise ValueError(f"{name} cannot be exported: Stable Diffusion 1.x, 2.x, XL and 3 can")


def open_part(folder: Path, part: str) -> Any:
    """A part of the folder as a module in float32, by the class that its index names.

    Raises ValueError where it cannot be had.
    """
    _require()
    import diffusers
    import torch
    import transformers
    from diffusers.pipelines import stable_diffusion

    library, name = read_json(folder / INDEX)[part]
    weights = [path.name for path in (folder / part).glob("*.safetensors")]
    if not weights:
        raise ValueError(f"{folder / part} holds no safetensors, which are what is exported")
    options: dict[str, Any] = {"torch_dtype": torch.float32}
    if library == "transformers":  # whose other implementations of attention cannot be traced
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
    if all(".fp16" in weight for weight in weights):
        options["variant"] = "fp16"
    libraries = {"diffusers": diffusers, "stable_diffusion": stable_diffusion.safety_checker}
    kind: Any = getattr(libraries.get(library, transformers), name)
    transformers.utils.logging.disable_progress_bar()
    module = kind.from_pretrained(
        folder / part, use_safetensors=True, local_files_only=True, **options
    )
    return module.eval().requires_grad_(False)


def graph_of(part: str, network: Any) -> Graph:
    """How a part is called, and what it gives."""
    if part.startswith("text_encoder"):
        return _text(part, network)
    if part == "unet":
        return _unet(network)
    if part == "transformer":
        return _transformer(network)
    if part == _CHECKER:
        return _safety_checker(network)
    return _vae(part, network)


def _text(part: str, network: Any) -> Graph:
    import torch

    ids = torch.ones(2, 77, dtype=torch.int32)
    if "T5" in type(network).__name__:
        inputs = {"input_ids": (ids, "bs")}
        return Graph(part, lambda ids: network(ids)[0], inputs, ["last_hidden_state"])

    def call(ids: Any) -> Any:
        output = network(ids, output_hidden_states=True)
        pooled = getattr(output, "text_embeds", None)
        pooled = output.pooler_output if pooled is None else pooled
        return output.last_hidden_state, pooled, *output.hidden_states

    layers = [f"hidden_states.{i}" for i in range(network.config.num_hidden_layers + 1)]
    pooled = "text_embeds" if "Projection" in type(network).__name__ else "pooler_output"
    outputs = ["last_hidden_state", pooled, *layers]
    return Graph(part, call, {"input_ids": (ids, "bs")}, outputs)


def _unet(network: Any) -> Graph:
    import torch

    config = network.config
    inputs = {
        "sample": (torch.randn(2, config.in_channels, *_odd(network)), "b?hw"),
        "timestep": (torch.tensor([500.0, 501.0]), "b"),
        "encoder_hidden_states": (torch.randn(2, 77, config.cross_attention_dim), "bs?"),
    }
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        inputs["text_embeds"] = (torch.randn(2, pooled), "b?")
        inputs["time_ids"] = (torch.randn(2, 6), "b?")
    if config.time_cond_proj_dim:
        inputs["timestep_cond"] = (torch.randn(2, config.time_cond_proj_dim), "b?")
    names = list(inputs)

    def call(*values: Any) -> Any:
        given = dict(zip(names, values, strict=True))
        added = {name: given[name] for name in ("text_embeds", "time_ids") if name in given}
        return network(
            *values[:3], timestep_cond=given.get("timestep_cond"), added_cond_kwargs=added or None
        ).sample

    return Graph("unet", call, inputs, ["out_sample"])


def _odd(network: Any) -> tuple[int, int]:
    """A size that rounds on its way down, so that the trace measures it on its way up."""
    halved = 2 ** (len(network.config.block_out_channels) - 1)
    return 2 * halved + 1, 2 * halved + 1


def _transformer(network: Any) -> Graph:
    import torch

    config = network.config
    inputs = {
        "hidden_states": (torch.randn(2, config.in_channels, 8, 8), "b?hw"),
        "encoder_hidden_states": (torch.randn(2, 333, config.joint_attention_dim), "bs?"),
        "pooled_projections": (torch.randn(2, config.pooled_projection_dim), "b?"),
        "timestep": (torch.tensor([500.0, 501.0]), "b"),
    }
    return Graph("transformer", lambda *values: network(*values).sample, inputs, ["out_sample"])


def _vae(part: str, vae: Any) -> Graph:
    import torch

    if part == "vae_decoder":
        latents = torch.randn(1, vae.config.latent_channels, 9, 9)
        inputs = {"latent_sample": (latents, "b?hw")}
        return Graph(part, lambda value: vae.decode(value).sample, inputs, ["sample"])
    picture = torch.randn(1, 3, 72, 72)

    def encode(value: Any) -> Any:
        return vae.encode(value).latent_dist.parameters

    return Graph(part, encode, {"sample": (picture, "b?hw")}, ["latent_parameters"])


def _safety_checker(network: Any) -> Graph:
    import torch

    side = network.config.vision_config.image_size
    inputs = {
        "clip_input": (torch.randn(2, 3, side, side), "b???"),
        "images": (torch.rand(2, 9, 9, 3), "bhw?"),
    }
    return Graph(_CHECKER, network.forward_onnx, inputs, ["out_images", "has_nsfw_concepts"])


def _called(network: Any, call: Callable[..., Any]) -> Any:
    """The network called as a graph is: tensors in, tensors out."""
    import torch

    def forward(self: Any, *values: Any) -> Any:
        return call(*values)

    module: Any = type("Called", (torch.nn.Module,), {"forward": forward})()
    module.network = network  # or its weights would be constants, not initializers
    return module.eval()


def write_graph(network: Any, graph: Graph, folder: Path, opset: int) -> None:
    """``folder``/model.onnx, with its weights beside it where they are large."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    large = sum(one.numel() * one.element_size() for one in network.parameters()) > _ONE_FILE
    # Where weights are large, the exporter writes a file for each of them.
    path = (folder / "pieces" if large else folder) / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    axes = {
        name: {i: letter for i, letter in enumerate(letters) if letter != "?"}
        for name, (_, letters) in graph.inputs.items()
    }
    axes |= {name: {0: "b"} for name in graph.outputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _called(network, graph.call),
            tuple(example for example, _ in graph.inputs.values()),
            str(path),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
    if large:
        _gather(path, folder / "model.onnx")


def _gather(pieces: Path, target: Path) -> None:
    import onnx

    onnx.save_model(
        onnx.load(str(pieces)),
        str(target),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="model.onnx_data",
    )
    shutil.rmtree(pieces.parent)
