"""Paints with the exported graphs on onnxruntime, for the evaluation.

The schedule is diffusers' own, so that what is measured is the model and not the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from painter import tokenizer
from painter.data import Pixels
from painter.networks import LATENTS

_HOME = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a picture is painted."""

    steps: int = 20
    guidance: float = 4.0
    spacing: str | None = None
    side: int = 128


def session(folder: Path, part: str) -> onnxruntime.InferenceSession:
    """The graph of a part; those of the autoencoder take their weights from ``vae/``."""
    path = folder / part / "model.onnx"
    options = onnxruntime.SessionOptions()
    home = folder / ("vae" if part.startswith("vae_") else part)
    options.add_session_config_entry(_HOME, str(home))
    return onnxruntime.InferenceSession(path.read_bytes(), options)


class Painter:
    """The four parts of an exported folder, wired together."""

    def __init__(self, folder: Path) -> None:
        self._words = tokenizer.load(folder / "tokenizer")
        self._text = session(folder, "text_encoder")
        self._unet = session(folder, "unet")
        self._decoder = session(folder, "vae_decoder")
        self._folder = folder

    def paint(self, prompts: list[str], seeds: list[int], settings: Settings) -> Pixels:
        """One picture for each prompt and seed."""
        hidden = self._hidden([""] * len(prompts) + prompts)
        own = {"timestep_spacing": settings.spacing} if settings.spacing else {}
        plan = DPMSolverMultistepScheduler.from_pretrained(self._folder / "scheduler", **own)
        plan.set_timesteps(settings.steps)
        side = settings.side // 8
        drawn = [
            torch.randn(1, LATENTS, side, side, generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        latents = torch.cat(drawn) * plan.init_noise_sigma
        for step in plan.timesteps:
            noise = self._noise(latents, int(step), hidden, settings.guidance)
            latents = plan.step(noise, step, latents).prev_sample
        picture = self._decoder.run(None, {"latent_sample": latents.numpy()})[0]
        shown = np.clip(picture / 2 + 0.5, 0, 1).transpose(0, 2, 3, 1) * 255
        return shown.round().astype(np.uint8)

    def _hidden(self, texts: list[str]) -> np.ndarray:
        ids = np.array(tokenizer.encode_all(self._words, texts), np.int64)
        hidden: np.ndarray = self._text.run(None, {"input_ids": ids})[0]
        return hidden

    def _noise(self, latents: Tensor, step: int, hidden: np.ndarray, guidance: float) -> Tensor:
        rows = torch.cat([latents, latents]).numpy()
        feeds = {
            "sample": rows,
            "timestep": np.full(len(rows), step, np.int64),
            "encoder_hidden_states": hidden,
        }
        plain, told = torch.from_numpy(self._unet.run(None, feeds)[0]).chunk(2)
        return plain + guidance * (told - plain)
