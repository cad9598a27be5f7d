"""Two types for two lives: what a user asked for (Params), and the work it becomes (Job)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.noise import TorchGenerator
from nerite.diffusion.samplers import Table

Array = NDArray[Any]
"""A tensor; the docstring at hand says its shape and dtype."""

Conditioning = Mapping[str, Array]
"""A network's further inputs by name; in a Job each is one row, float32 [1, ...]."""

Key = tuple[object, ...]
"""What tensors force to be equal in one forward: latent shape and conditioning shapes."""


class InvalidParams(ValueError):
    """A request that cannot be painted; ``field`` names the guilty member of Params."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Params:
    """A picture in the user's words.

    Image k of a request is drawn from ``seed + k``, of which the low 32 bits count, as in torch.
    ``scheduler`` None means the one the model folder names. ``width`` and ``height`` are pixels.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    steps: int = 20
    guidance_scale: float = 7.5
    width: int = 512
    height: int = 512
    num_images: int = 1
    scheduler: str | None = None

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance needs a second branch (diffusers' rule)."""
        return self.guidance_scale > 1


@dataclass(frozen=True, slots=True)
class Painted:
    """A finished request: ``images`` is uint8 [num_images, height, width, 3], RGB."""

    images: NDArray[np.uint8]
    seed: int


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way: the sampler's states of its images and where it stands.

    ``states`` is float32 [num_images, SLOTS, channels, height, width] (see samplers.Table);
    ``negative`` is None where guidance is off.
    """

    params: Params
    table: Table
    states: Array
    positive: Conditioning
    negative: Conditioning | None
    generators: list[TorchGenerator]
    index: int = field(default=0)

    @property
    def rows(self) -> int:
        return len(self.states)

    @property
    def done(self) -> bool:
        return self.index >= len(self.table.timesteps)

    @property
    def latents(self) -> Array:
        """Float32 [num_images, channels, height, width]."""
        latents: Array = self.states[:, 0]
        return latents

    @property
    def key(self) -> Key:
        conditioning = tuple((name, row.shape[1:]) for name, row in sorted(self.positive.items()))
        return (self.states.shape[2:], conditioning)
