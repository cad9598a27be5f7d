"""The UNet of Stable Diffusion 1.x, 2.x and XL, and what their folders say of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.folder import read_json
from nerite.diffusion.job import Conditioning
from nerite.diffusion.limits import Limits
from nerite.diffusion.network import Runtime, expect_inputs
from nerite.diffusion.samplers import build_table
from nerite.diffusion.space import Array

_STEPS = 4  # which every sampler takes


class Unet:
    """``further`` inputs are as expect_inputs wants them; rows may differ in their timesteps."""

    def __init__(
        self, runtime: Runtime, config: Mapping[str, Any], further: Mapping[str, str]
    ) -> None:
        self._network = runtime.load("unet")
        self._space = runtime.space
        expect_inputs(self._network, "unet", {"sample": "b?hw", "timestep": None, **further})
        in_graph = self._network.inputs["sample"].shape[1]
        taken = in_graph if isinstance(in_graph, int) else int(config.get("in_channels", 4))
        self.channels = int(config.get("out_channels") or taken)
        self.extra_channels = taken - self.channels
        if self.extra_channels not in (0, self.channels + 1):
            raise ValueError(
                f"the UNet takes {taken} channels and gives {self.channels}: it is neither a "
                "text-to-image nor an inpainting model"
            )
        self.timestep_per_row = True

    def ways(self) -> tuple[bool, ...]:
        """Whether rows may differ in their timesteps, as far as the graph tells: what to try."""
        shape = self._network.inputs["timestep"].shape
        vector = len(shape) == 1 and not isinstance(shape[0], int)
        return (True, False) if vector else (False,)

    @property
    def rigid(self) -> bool:
        """Whether sides must halve evenly: always so in a graph, nobody knows how it was traced."""
        return self._network.traced

    def takes_any_length(self, context: str) -> bool:
        """Whether a prompt may have more tokens than the text encoder takes at once."""
        return not isinstance(self._network.inputs[context].shape[1], int)

    def forward(self, latents: Array, timesteps: Array, conditioning: Conditioning) -> Array:
        feeds = {"sample": latents, "timestep": timesteps, **conditioning}
        if self.timestep_per_row:
            return self._network.run(feeds)[0]
        return self._by_timestep(feeds)

    def _by_timestep(self, feeds: Mapping[str, Array]) -> Array:
        """One forward per distinct timestep, for a graph that takes a single one."""
        timesteps = self._space.take(feeds["timestep"])
        shape = (1,) * len(self._network.inputs["timestep"].shape)
        parts, order = [], []
        for timestep in np.unique(timesteps):
            rows = np.flatnonzero(timesteps == timestep)
            chosen = {name: value[self._space.put(rows)] for name, value in feeds.items()}
            chosen["timestep"] = self._space.put(np.full(shape, timestep))
            parts.append(self._network.run(chosen)[0])
            order.append(rows)
        back = np.argsort(np.concatenate(order))
        return self._space.concat(parts)[self._space.put(back)]


def read_schedule(folder: Path, bent: Mapping[str, Any]) -> dict[str, Any]:
    """The scheduler's options, with those that diffusers' pipeline for the family bends."""
    path = folder / "scheduler" / "scheduler_config.json"
    # Latents have no range to be clipped to.
    options = {**read_json(path), **bent, "clip_sample": False}
    if options.get("_class_name") != "PNDMScheduler":
        options.setdefault("skip_prk_steps", True)
    try:
        build_table(options, _STEPS)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return options


def unet_limits(
    config: Mapping[str, Any], pixels: int, multiple: int, schedule: Mapping[str, Any]
) -> Limits:
    """``pixels`` a latent's side stands for; sizes must be multiples of ``multiple``."""
    size = config.get("sample_size") or 64
    height, width = size if isinstance(size, list) else (size, size)
    # Far above the trained size pictures fall apart, and attention's memory grows as size ** 4.
    largest = max(2 * pixels * max(height, width), 256)
    return Limits(
        width=width * pixels,
        height=height * pixels,
        min_size=max(64, multiple),
        max_size=largest // multiple * multiple,
        size_multiple=multiple,
        max_steps=int(schedule.get("num_train_timesteps", 1000)),
    )


def guidance_embedding(scale: float, width: int) -> NDArray[np.float32]:
    """float32 [1, width]: the guidance scale for a UNet that was distilled to take it."""
    half = width // 2
    rates = np.exp(np.arange(half) * -(np.log(10000.0) / (half - 1)))
    angles = (scale - 1) * 1000.0 * rates
    embedded = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(width % 2)])
    return embedded[None].astype(np.float32)
