"""Stable Diffusion as the three models of Triton's tutorial: text_encoder, vae, and a BLS pipeline.

The repository is one of Triton's own: its model.py needs torch, diffusers and transformers there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nerite.diffusion.export import Graph, export_name, graph_of, open_part, write_graph
from nerite.sources import plan

_CODE = Path(__file__).parent / "pipeline" / "model.py"
_MODEL = """name: "{name}"
platform: "{platform}"
max_batch_size: {rows}
input [ {{ name: "{input}" data_type: {input_type} dims: [ {input_dims} ] }} ]
output [ {outputs} ]
"""
_PIPELINE = """name: "pipeline"
backend: "python"
max_batch_size: 8
input [
  { name: "prompt" data_type: TYPE_STRING dims: [ 1 ] },
  { name: "negative_prompt" data_type: TYPE_STRING dims: [ 1 ] optional: true },
  { name: "seed" data_type: TYPE_INT64 dims: [ 1 ] optional: true },
  { name: "steps" data_type: TYPE_INT32 dims: [ 1 ] optional: true },
  { name: "guidance_scale" data_type: TYPE_FP32 dims: [ 1 ] optional: true }
]
output [ { name: "generated_image" data_type: TYPE_FP32 dims: [ -1, -1, 3 ] } ]
"""
_PARTS = ("unet", "tokenizer", "scheduler")


def write_repository(
    folder: Path, target: Path, *, opset: int, tensorrt: bool, told: Callable[[str], None]
) -> list[str]:
    """Write the repository ``target`` of the model ``folder``; what there is to say of it.

    Raises ValueError for a model that has other parts, or what to write it with is missing.
    """
    if export_name(folder) != "OnnxStableDiffusionPipeline":
        raise ValueError(
            f"{folder} is no Stable Diffusion 1.x or 2.x, of which the pipeline is made"
        )
    encoder, vae = open_part(folder, "text_encoder"), open_part(folder, "vae")
    told("text_encoder")
    whole = graph_of("text_encoder", encoder)
    text = Graph(whole.part, lambda ids: whole.call(ids)[:2], whole.inputs, whole.outputs[:2])
    write_graph(encoder, text, target / "text_encoder" / "1", opset)
    told("vae")
    write_graph(vae, graph_of("vae_decoder", vae), target / "vae" / "1", opset)
    notices, platform = [], "onnxruntime_onnx"
    if tensorrt:
        try:
            plan.build(target / "vae" / "1" / "model.onnx", _sizes(vae))
            platform = "tensorrt_plan"
        except plan.NoPlan as error:
            notices.append(f"vae stays in ONNX: {error}")
    _configure(target, encoder.config.hidden_size, vae.config.latent_channels, platform)
    told("pipeline")
    pipeline = target / "pipeline" / "1"
    for part in _PARTS:
        shutil.copytree(folder / part, pipeline / part)
    shutil.copyfile(_CODE, pipeline / "model.py")
    shutil.copyfile(folder / "vae" / "config.json", pipeline / "vae.json")
    return notices


def _sizes(vae: Any) -> plan.Sizes:
    side = max(8, int(vae.config.sample_size or 512) // 8)
    channels = int(vae.config.latent_channels)
    return {"latent_sample": tuple((rows, channels, side, side) for rows in (1, 4, 8))}


def _configure(target: Path, width: int, channels: int, platform: str) -> None:
    text = _MODEL.format(
        name="text_encoder", platform="onnxruntime_onnx", rows=16,  # with a negative prompt each
        input="input_ids", input_type="TYPE_INT32", input_dims="-1",
        outputs=f'{{ name: "last_hidden_state" data_type: TYPE_FP32 dims: [ -1, {width} ] }}, '
        f'{{ name: "pooler_output" data_type: TYPE_FP32 dims: [ {width} ] }}',
    )  # fmt: skip
    vae = _MODEL.format(
        name="vae", platform=platform, rows=8,
        input="latent_sample", input_type="TYPE_FP32", input_dims=f"{channels}, -1, -1",
        outputs='{ name: "sample" data_type: TYPE_FP32 dims: [ 3, -1, -1 ] }',
    )  # fmt: skip
    for name, content in (("text_encoder", text), ("vae", vae), ("pipeline", _PIPELINE)):
        (target / name).mkdir(parents=True, exist_ok=True)
        (target / name / "config.pbtxt").write_text(content, encoding="utf-8")
