"""Two types for two lives: what a user asked for (Params), and the work it becomes (Job)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.samplers import Table
from nerite.diffusion.space import Array, Generator

Conditioning = Mapping[str, Array]
"""A network's further inputs by name; in a Job each is one row, [1, ...]."""

Key = tuple[object, ...]
"""What tensors force to be equal in one forward: latent shape and conditioning shapes."""

STRENGTH, MASKED_STRENGTH = 0.8, 1.0


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
    ``image``, uint8 [h, w, 3], is painted over with ``strength`` from 0 to 1 (None: 0.8, or 1
    under a mask); ``mask``, uint8 [h, w], is 255 where it is to be painted anew and 0 where it
    stays. Both are scaled to the picture's size. ``clip_skip`` leaves out so many of the text
    encoder's last layers.
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
    clip_skip: int = 0
    strength: float | None = None
    image: NDArray[np.uint8] | None = field(default=None, compare=False)
    mask: NDArray[np.uint8] | None = field(default=None, compare=False)

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance needs a second branch (diffusers' rule)."""
        return self.guidance_scale > 1

    @property
    def chosen_strength(self) -> float:
        if self.strength is not None:
            return self.strength
        return STRENGTH if self.mask is None else MASKED_STRENGTH


@dataclass(frozen=True, slots=True)
class Painted:
    """A finished request: ``images`` is uint8 [num_images, height, width, 3], RGB."""

    images: NDArray[np.uint8]
    seed: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A request that is not finished.

    ``step`` of ``steps`` are done. ``queue_position`` is 0 once it runs, else how many are before
    it, itself counted. ``eta_seconds`` is a guess, NaN before anything was painted. ``preview``
    is uint8 [h, w, 3], of the first image, where one was asked for at this step.
    """

    step: int
    steps: int
    queue_position: int
    eta_seconds: float
    preview: NDArray[np.uint8] | None = None


class Work(Protocol):
    """A request on its way, as the engine sees it."""

    params: Params
    index: int
    wants_clean: bool
    """Whether the next step should leave what a preview is made of."""
    deadline: float | None
    """When it is wanted at the latest, on the engine's clock."""

    @property
    def rows(self) -> int:
        """Its images."""
        ...

    @property
    def steps(self) -> int: ...

    @property
    def done(self) -> bool: ...

    @property
    def key(self) -> Key:
        """Works of equal keys may share a forward."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays of an image under a mask: float32 latents of it and of its noise, [n, c, h, w].

    ``mask`` is float32 [n, 1, h, w], 1 where the picture is painted anew.
    """

    image: Array
    noise: Array
    mask: Array


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way: the sampler's states of its images and where it stands.

    ``states`` is float32 [num_images, SLOTS, channels, height, width] (see samplers.Table);
    ``negative`` is None where guidance is off. ``extra``, [num_images, ...], are further
    channels of the network's input. ``clean`` is the estimate of the finished latents,
    [num_images, channels, height, width], where ``wants_clean`` asked for it before the step.
    """

    params: Params
    table: Table
    states: Array
    positive: Conditioning
    negative: Conditioning | None
    generators: list[Generator]
    kept: Kept | None = None
    extra: Array | None = None
    index: int = 0
    wants_clean: bool = False
    deadline: float | None = None
    clean: Array | None = None

    @property
    def rows(self) -> int:
        return len(self.states)

    @property
    def steps(self) -> int:
        return self.table.steps

    @property
    def done(self) -> bool:
        return self.index >= self.steps

    @property
    def latents(self) -> Array:
        """Float32 [num_images, channels, height, width]."""
        return self.states[:, 0]

    @property
    def key(self) -> Key:
        conditioning = tuple(
            (name, tuple(row.shape[1:])) for name, row in sorted(self.positive.items())
        )
        return (tuple(self.states.shape[2:]), conditioning)
