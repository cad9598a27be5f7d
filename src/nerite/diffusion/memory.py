"""How much a row costs, measured once a model is loaded: admission is bounded by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nerite.diffusion.job import Params
from nerite.diffusion.limits import Limits
from nerite.diffusion.space import Space, is_out_of_memory

# The rest is for what other processes take, and for what the measured peaks did not show.
_USABLE = 0.9


class Probed(Protocol):
    limits: Limits

    def probe(self, rows: int) -> None:
        """One forward of so many rows of the usual size."""
        ...

    def probe_decoder(self) -> None:
        """Decode one picture of the usual size."""
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
    """What two rows more take tells what a row takes, without what is taken once and for all.

    What the decoder takes is left free for it.
    """
    probes: Sequence[Callable[[], None]] = (
        lambda: None,
        lambda: pipeline.probe(1),
        lambda: pipeline.probe(3),
        pipeline.probe_decoder,
    )
    peaks: list[int] = []
    for probe in probes:
        space.trim()
        space.begin_peak()
        try:
            probe()
        except Exception as error:
            if not is_out_of_memory(error) or len(peaks) < 2:
                raise
        peaks.append(space.peak() or 0)
    space.trim()
    free = space.free_memory()
    if not all(peaks) or free is None:
        return Memory()
    used, one, three, decoder = peaks
    pixels = pipeline.limits.width * pipeline.limits.height
    budget = int(free * _USABLE) - max(0, decoder - used)
    return Memory(max(0, three - one) / 2 / pixels, max(0, budget))
