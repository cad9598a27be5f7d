"""Families exported to ONNX in optimum's layout paint what they paint on torch."""

from dataclasses import replace

import numpy as np
import pytest

from nerite.diffusion import Engine, InvalidParams, Params, Watch, open_pipeline

from . import tiny as models

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("onnx")

pytestmark = pytest.mark.filterwarnings("ignore")

REQUEST = Params("a red house in the snow", seed=5, steps=3, width=64, height=64)
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


class Call(torch.nn.Module):
    """A network called as a graph is: tensors in, a tuple out."""

    def __init__(self, network, call):
        super().__init__()
        self.network = network
        self.call = call

    def forward(self, *inputs):
        return self.call(self.network, *inputs)


def export(path, network, call, inputs, outputs):
    """``inputs`` by name: an example, and a letter for each dimension that is free."""
    path.parent.mkdir(exist_ok=True)
    axes = {
        name: {i: letter for i, letter in enumerate(letters) if letter != "?"}
        for name, (_, letters) in inputs.items()
    }
    with torch.no_grad():
        torch.onnx.export(
            Call(network, call).eval(),
            tuple(example for example, _ in inputs.values()),
            path,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )


def export_text(folder, pipe, part):
    def call(network, ids):
        output = network(ids, output_hidden_states=True)
        pooled = getattr(output, "text_embeds", None)
        pooled = output.pooler_output if pooled is None else pooled
        return pooled, output.last_hidden_state, *output.hidden_states

    network = getattr(pipe, part)
    layers = [f"hidden_states.{i}" for i in range(network.config.num_hidden_layers + 1)]
    ids = torch.ones(2, 77, dtype=torch.int64)
    outputs = ["text_embeds", "last_hidden_state", *layers]
    export(folder / part / "model.onnx", network, call, {"input_ids": (ids, "bs")}, outputs)


def export_vae(folder, pipe):
    channels = pipe.vae.config.latent_channels
    export(
        folder / "vae_decoder" / "model.onnx",
        pipe.vae,
        lambda vae, latents: vae.decode(latents).sample,
        {"latent_sample": (torch.randn(1, channels, 9, 9), "b?hw")},
        ["sample"],
    )
    export(
        folder / "vae_encoder" / "model.onnx",
        pipe.vae,
        lambda vae, sample: vae.encode(sample).latent_dist.parameters,
        {"sample": (torch.randn(1, 3, 72, 72), "b?hw")},
        ["latent_parameters"],
    )


def export_xl(folder, pipe):
    export_text(folder, pipe, "text_encoder")
    export_text(folder, pipe, "text_encoder_2")

    def call(unet, sample, timestep, context, embeds, ids):
        added = {"text_embeds": embeds, "time_ids": ids}
        return unet(sample, timestep, context, added_cond_kwargs=added)[0]

    inputs = {
        "sample": (torch.randn(2, 4, 9, 9), "b?hw"),
        "timestep": (torch.rand(2), "b"),
        "encoder_hidden_states": (torch.randn(2, 77, 40), "bs?"),
        "text_embeds": (torch.randn(2, 24), "b?"),
        "time_ids": (torch.randn(2, 6), "b?"),
    }
    export(folder / "unet" / "model.onnx", pipe.unet, call, inputs, ["out_sample"])


def export_3(folder, pipe):
    export_text(folder, pipe, "text_encoder")
    export_text(folder, pipe, "text_encoder_2")
    export(
        folder / "text_encoder_3" / "model.onnx",
        pipe.text_encoder_3,
        lambda network, ids: network(ids)[0],
        {"input_ids": (torch.ones(2, 256, dtype=torch.int64), "b?")},
        ["last_hidden_state"],
    )

    def call(transformer, latents, context, pooled, timestep):
        return transformer(latents, context, pooled, timestep)[0]

    inputs = {
        "hidden_states": (torch.randn(2, 16, 8, 8), "b?hw"),
        "encoder_hidden_states": (torch.randn(2, 333, 48), "bs?"),
        "pooled_projections": (torch.randn(2, 40), "b?"),
        "timestep": (torch.rand(2), "b"),
    }
    export(folder / "transformer" / "model.onnx", pipe.transformer, call, inputs, ["out_sample"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """kind -> (our pipeline on onnxruntime, ours on torch)"""
    made = {}

    def get(kind):
        if kind not in made:
            torch.set_num_threads(1)
            folder = tmp_path_factory.mktemp("export") / kind
            pipe = models.make(kind, folder)
            plain = open_pipeline(folder, threads=1, runtime="torch")
            {"sdxl": export_xl, "sd3": export_3}[kind](folder, pipe)
            export_vae(folder, pipe)
            made[kind] = open_pipeline(folder, threads=1), plain
        return made[kind]

    return get


def paint(pipeline, params, **options):
    engine, events = Engine(pipeline), []
    engine.add(params, events.append, **options)
    while engine.step():
        pass
    if isinstance(events[0], BaseException):
        raise events[0]
    return events[0].images


@pytest.mark.parametrize("kind", ["sdxl", "sd3"])
def test_a_graph_paints_what_torch_paints(exported, kind):
    graph, plain = exported(kind)
    for change in (
        {"num_images": 2},
        {"guidance_scale": 1.0, "width": 80, "height": 96},
        {"clip_skip": 1, "negative_prompt": "a boat"},
        {"image": IMAGE, "strength": 0.7, "steps": 5},
    ):
        params = replace(REQUEST, **change)
        difference = np.abs(paint(graph, params).astype(int) - paint(plain, params))
        assert difference.max() <= 2, change


def test_long_and_weighted_prompts_on_a_graph(exported):
    graph, plain = exported("sdxl")
    for prompt in ("a red house, " * 40, "a (red house)1.4 in the snow"):
        params = replace(REQUEST, prompt=prompt)
        difference = np.abs(paint(graph, params).astype(int) - paint(plain, params))
        assert difference.max() <= 2
    # This text encoder cannot look past a word, so the word is left out.
    assert np.isfinite(paint(graph, replace(REQUEST, prompt="a (red)0.3 house"))).all()


def test_more_layers_than_the_graph_gives_cannot_be_skipped(exported):
    with pytest.raises(InvalidParams, match="clip_skip is not served"):
        exported("sdxl")[0].check(replace(REQUEST, clip_skip=9))


@pytest.mark.parametrize("exact", [False, True])
def test_previews_never_change_the_picture(exported, exact):
    graph, _ = exported("sdxl")
    params, told = replace(REQUEST, steps=5, scheduler="euler_a"), []
    plain = paint(graph, params)
    watched = paint(graph, params, watch=Watch(told.append, previews=1, exact=exact))
    assert (plain == watched).all()
    previews = [progress.preview for progress in told if progress.preview is not None]
    assert [preview.shape for preview in previews] == [(64, 64, 3) if exact else (8, 8, 3)] * 4
