"""A request in the engine, from its arrival to its last event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.job import Painted, Params, Progress, Work

OnEvent = Callable[[Painted | BaseException], None]
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Watch:
    """How a request's way is told: ``on_progress`` after every step, and as its place changes.

    ``previews`` above 0 adds a picture every so many steps, by the decoder where ``exact``.
    """

    on_progress: OnProgress
    previews: int = 0
    exact: bool = False


@dataclass(slots=True, eq=False)
class Ticket:
    """A request in the engine; give it to ``Engine.abort``.

    ``deadline`` is on the engine's clock. ``cost`` is bytes of a forward. ``position`` is the
    place in the queue that was last told. ``images`` are those that are decoded. ``preview_due``:
    one was wanted when there was no time for it; ``previewed`` numbers the last one.
    """

    params: Params
    on_event: OnEvent
    watch: Watch | None = None
    deadline: float | None = None
    cost: int = 0
    aborted: bool = False
    work: Work | None = None
    position: int = 0
    preview_due: bool = False
    previewed: int = 0
    images: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def previews_after(self, step: int) -> bool:
        """Whether a preview is wanted when ``step`` steps are done."""
        watch, work = self.watch, self.work
        if watch is None or work is None or not watch.previews:
            return False
        return step % watch.previews == 0 and step < work.steps
