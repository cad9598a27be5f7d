"""Writes the one-model repository of the wheel from trained checkpoints.

The layout is diffusers' with an ONNX graph beside each weights file that points into it; the
two graphs of the autoencoder have folders of their own and point into ``../vae``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from painter import graphs, tokenizer
from painter.loop import load_average
from painter.networks import LATENTS, TOKENS, WIDTH, new_text_encoder, new_unet, new_vae

VERSION = Path("src/nerite/painter/repository/painter/1")
DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"
TEXT_FILE = "model.safetensors"


def halve(network: nn.Module) -> dict[str, Tensor]:
    """The network's weights in half precision, as files keep them."""
    return {
        name: value.detach().half().contiguous().cpu()
        for name, value in network.state_dict().items()
    }


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Names in order, so that the same weights give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(sorted(weights.items())), path, metadata={"format": "pt"})
    path.chmod(0o644)


def rounded(network: nn.Module) -> nn.Module:
    """The network as it is after a trip through half precision."""
    return network.half().float().eval()


def write_text_encoder(network: CLIPTextModel, folder: Path) -> None:
    rounded(network)
    network.config.save_pretrained(folder)
    network.config.architectures = ["CLIPTextModel"]
    settings = json.loads((folder / "config.json").read_text())
    settings.update(architectures=["CLIPTextModel"], dtype="float32")
    write_json(folder / "config.json", settings)
    write_weights(halve(network), folder / TEXT_FILE)
    ids = torch.zeros(2, TOKENS, dtype=torch.int64)
    axes = {"input_ids": {0: "batch"}, "last_hidden_state": {0: "batch"}}
    graph = graphs.TextGraph(network)
    target = graphs.Target(folder / "model.onnx", folder / TEXT_FILE)
    graphs.write_graph(graph, {"input_ids": ids}, "last_hidden_state", target, axes)


def write_unet(network: UNet2DConditionModel, folder: Path) -> None:
    rounded(network)
    network.save_config(folder)
    write_weights(halve(network), folder / DIFFUSERS_FILE)
    inputs = {
        "sample": torch.zeros(2, LATENTS, 17, 15),
        "timestep": torch.zeros(2, dtype=torch.int64),
        "encoder_hidden_states": torch.zeros(2, TOKENS, WIDTH),
    }
    picture = {0: "batch", 2: "height", 3: "width"}
    axes = {
        "sample": picture,
        "timestep": {0: "batch"},
        "encoder_hidden_states": {0: "batch"},
        "out_sample": picture,
    }
    target = graphs.Target(folder / "model.onnx", folder / DIFFUSERS_FILE)
    graphs.write_graph(graphs.UnetGraph(network), inputs, "out_sample", target, axes)


def write_vae(vae: AutoencoderKL, folder: Path) -> None:
    """One weights file for diffusers, and two graphs in their own folders that point into it."""
    rounded(vae)
    vae.save_config(folder / "vae")
    weights = folder / "vae" / DIFFUSERS_FILE
    write_weights(halve(vae), weights)
    latents = {"latent_sample": torch.zeros(1, LATENTS, 17, 15)}
    picture = {"sample": torch.zeros(1, 3, 136, 120)}
    axes = {"latent_sample": _grid("latent_"), "sample": _grid("")}
    for part, graph, inputs, output in (
        ("vae_decoder", graphs.DecoderGraph(vae), latents, "sample"),
        ("vae_encoder", graphs.EncoderGraph(vae), picture, "latent_sample"),
    ):
        (folder / part).mkdir(parents=True, exist_ok=True)
        target = graphs.Target(folder / part / "model.onnx", weights)
        graphs.write_graph(graph, inputs, output, target, axes)


def _grid(prefix: str) -> dict[int, str]:
    return {0: "batch", 2: f"{prefix}height", 3: f"{prefix}width"}


def write_rest(folder: Path) -> None:
    """Scheduler, tokenizer and the index of the pipeline."""
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        solver_order=2,
        steps_offset=1,
        timestep_spacing="leading",
    )
    scheduler.save_config(folder / "scheduler")
    tokenizer.write(folder / "tokenizer")
    pipeline = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.30.0",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    write_json(folder / "model_index.json", pipeline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("painter/runs"))
    parser.add_argument("--out", type=Path, default=VERSION)
    given = parser.parse_args()
    write_rest(given.out)
    words = tokenizer.load(given.out / "tokenizer")
    text = new_text_encoder(words.get_vocab_size(), *tokenizer.edges(words))
    vae, unet = new_vae(), new_unet()
    parts = ((text, "text", "text_encoder"), (vae, "vae-white", "vae"), (unet, "unet", "unet"))
    for network, name, part in parts:
        checkpoint = given.runs / f"{name}.pt"
        if checkpoint.exists():
            load_average(network, checkpoint)
        elif (given.out / part / "config.json").is_file():
            print(f"{checkpoint} is not there: {part} stays as it is")
            kept = type(network).from_pretrained(given.out / part)
            network.load_state_dict(kept.float().state_dict())
        else:
            sys.exit(f"{checkpoint} is not there, and {given.out / part} holds no weights to keep")
    write_text_encoder(text, given.out / "text_encoder")
    write_vae(vae, given.out)
    write_unet(unet, given.out / "unet")


if __name__ == "__main__":
    main()
