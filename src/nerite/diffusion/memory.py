"""How much a row costs, measured once a model is loaded: admission is bounded by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nerite.diffusion.job import Params
from nerite.diffusion.limits import Limits
from nerite.diffusion.space import Space

# The rest is for what other processes take, and for what the measured peaks did not show.
_USABLE = 0.9


class Probed(Protocol):
    limits: Limits

    def probe(self, rows: int) -> None:
        """Go through all networks with so many rows of the usual size."""
        ...


@dataclass(frozen=True, slots=True)
class Memory:
    """``per_pixel`` bytes for every pixel of every row of a forward, out of a ``budget``.

    ``budget`` None means that nobody knows.
    """

    per_pixel: float = 0.0
    budget: int | None = None

    def cost(self, params: Params) -> int:
        """Bytes of a request: guidance makes two rows of an image."""
        rows = params.num_images * (2 if params.guided else 1)
        return int(self.per_pixel * params.width * params.height * rows)


def measure(pipeline: Probed, space: Space) -> Memory:
    """What two rows more take tells what a row takes, without what is taken once and for all."""
    peaks = []
    for rows in (1, 3):
        space.begin_peak()
        pipeline.probe(rows)
        peaks.append(space.peak())
    space.trim()
    free = space.free_memory()
    if peaks[0] is None or peaks[1] is None or free is None:
        return Memory()
    pixels = pipeline.limits.width * pipeline.limits.height
    return Memory(max(0, peaks[1] - peaks[0]) / 2 / pixels, int(free * _USABLE))
