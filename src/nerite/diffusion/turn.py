"""What the engine does in one turn of its loop: start newcomers, one forward, decode, tell.

Starting and decoding take no longer than about a step, as far as they were measured, while
others wait for theirs. Where memory runs out, the next forwards are smaller.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.job import Progress, Work
from nerite.diffusion.pipeline import Pipeline
from nerite.diffusion.plan import Plan
from nerite.diffusion.space import is_out_of_memory
from nerite.diffusion.ticket import Ticket

_log = logging.getLogger(__name__)

_SMOOTH = 0.5
Lost = list[tuple[Ticket, BaseException]]


class Turn:
    """Holds what was learnt of times and memory; the tickets are the engine's."""

    def __init__(self, pipeline: Pipeline, plan: Plan, clock: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self._plan = plan
        self._clock = clock
        self._step_seconds = 0.0
        self._start_seconds: float | None = None  # of a request
        self._decode_seconds: dict[tuple[int, int], float] = {}  # of an image, by its size
        self._bytes: int | None = None  # a forward may cost, once one has failed
        self._spare = 0.0  # seconds that previews by the decoder may take
        self._previews = 0

    def newcomers(self, others_run: bool) -> int | float:
        """How many requests may start now."""
        return self._at_once(self._start_seconds) if others_run else math.inf

    def _at_once(self, seconds: float | None) -> int:
        """How many things of so many seconds fit into a step's time, at least one."""
        return max(1, int(self._step_seconds / seconds)) if seconds else 1

    def budget(self, measured: int | None) -> int | None:
        """Bytes that all running requests may cost."""
        bounds = [bound for bound in (measured, self._bytes) if bound is not None]
        return min(bounds) if bounds else None

    def start(self, tickets: Sequence[Ticket]) -> None:
        """Gives each ticket its work; raises what the pipeline raises."""
        began = self._clock()
        works = self._pipeline.start([ticket.params for ticket in tickets])
        self._start_seconds = _mean(self._start_seconds, (self._clock() - began) / len(tickets))
        for ticket, work in zip(tickets, works, strict=True):
            ticket.work = work
            work.deadline = ticket.deadline

    def advance(self, tickets: Sequence[Ticket], now: float) -> Lost:
        """One forward; those that it failed for."""
        by_work = {id(one.work): one for one in tickets if one.work and not one.work.done}
        chosen = self._plan.pick([one.work for one in by_work.values() if one.work], now)
        works = self._within_bytes(chosen, by_work)
        if not works:
            return []
        stepped = [by_work[id(work)] for work in works]
        for ticket, work in zip(stepped, works, strict=True):
            work.wants_clean = ticket.previews_after(work.index + 1) or ticket.preview_due
        try:
            self._pipeline.step(works)
        except Exception as error:
            return self._failed(stepped, error)
        self._step_seconds = self._clock() - now
        self._plan.charge(works, self._step_seconds)
        self._spare = self._step_seconds + min(self._spare, self._dearest())
        for ticket in sorted(stepped, key=lambda ticket: ticket.previewed):
            if ticket.watch is not None:
                self._tell(ticket, alone=len(tickets) == 1)
        return []

    def _dearest(self) -> float:
        """Seconds of the picture that takes longest to decode: more need not be saved up."""
        return max(self._decode_seconds.values(), default=0.0)

    def _within_bytes(self, works: Sequence[Work], tickets: dict[int, Ticket]) -> list[Work]:
        """As many of ``works`` as one forward may have, the first in any case."""
        taken: list[Work] = []
        total = 0
        for work in works:
            total += max(1, tickets[id(work)].cost)
            if taken and self._bytes is not None and total > self._bytes:
                break
            taken.append(work)
        return taken

    def _failed(self, tickets: Sequence[Ticket], error: Exception) -> Lost:
        """Memory ran out: fewer next time, and only who fails alone is lost."""
        if not is_out_of_memory(error):
            return [(ticket, error) for ticket in tickets]
        self._pipeline.trim()
        cost = sum(max(1, ticket.cost) for ticket in tickets)
        if len(tickets) == 1:
            return [(tickets[0], error)]
        self._bytes = cost // 2
        _log.warning("memory ran out with %d requests: fewer share a forward now", len(tickets))
        return []

    def decode(self, tickets: Sequence[Ticket]) -> Lost:
        """Pictures of finished works, of one size; those that cannot be decoded."""
        left = [
            (ticket, k)
            for ticket in tickets
            if ticket.work is not None and ticket.work.done
            for k in range(ticket.params.num_images)
            if k not in ticket.images
        ]
        if not left:
            return []
        size = _size(left[0][0])
        alike = [(ticket, k) for ticket, k in left if _size(ticket) == size]
        if any(ticket.work is not None and not ticket.work.done for ticket in tickets):
            alike = alike[: self._at_once(self._decode_seconds.get(size))]
        return self._decode(alike)

    def _decode(self, images: Sequence[tuple[Ticket, int]]) -> Lost:
        began = self._clock()
        try:
            pixels = self._pipeline.decode([(t.work, k) for t, k in images if t.work is not None])
        except Exception as error:
            if len(images) > 1 and is_out_of_memory(error):
                self._pipeline.trim()
                lost = [one for image in images for one in self._decode([image])]
                return list({id(ticket): (ticket, why) for ticket, why in lost}.values())
            return list({id(ticket): (ticket, error) for ticket, _ in images}.values())
        size = _size(images[0][0])
        took = (self._clock() - began) / len(images)
        self._decode_seconds[size] = _mean(self._decode_seconds.get(size), took)
        for (ticket, k), picture in zip(images, pixels, strict=True):
            ticket.images[k] = picture
        return []

    def eta(self, ticket: Ticket, running: Sequence[Ticket]) -> float:
        """Seconds until a request is painted, as the steps took until now; NaN before any."""
        if not self._step_seconds:
            return math.nan
        turn = self._plan.turn_seconds() or self._step_seconds
        work = ticket.work
        left = (work.steps - work.index) if work is not None else ticket.params.steps
        if work is None:  # it waits until as many others have left as are before it
            ends = sorted(one.work.steps - one.work.index for one in running if one.work)
            left += ends[min(ticket.position, len(ends)) - 1] if ends else 0
        size = _size(ticket)
        return left * turn + self._decode_seconds.get(size, 0.0) * ticket.params.num_images

    def _tell(self, ticket: Ticket, *, alone: bool) -> None:
        work, watch = ticket.work, ticket.watch
        assert work is not None and watch is not None
        try:
            preview = None
            if ticket.previews_after(work.index) or ticket.preview_due:
                preview = self._preview(ticket, work, exact=watch.exact, alone=alone)
            eta = self.eta(ticket, ())
            watch.on_progress(Progress(work.index, work.steps, 0, eta, preview))
        except Exception:
            _log.exception("on_progress failed")

    def _preview(
        self, ticket: Ticket, work: Work, *, exact: bool, alone: bool
    ) -> NDArray[np.uint8] | None:
        """None where the decoder's time would be the others': it comes as soon as it was saved."""
        size = _size(ticket)
        took = self._decode_seconds.get(size, self._step_seconds)
        ticket.preview_due = exact and not alone and took > self._spare and not work.done
        if ticket.preview_due or work.done:
            return None
        began = self._clock()
        preview = self._pipeline.preview(work, exact=exact)
        if exact:
            took = self._clock() - began
            self._spare -= took
            self._previews += 1
            ticket.previewed = self._previews
            self._decode_seconds[size] = _mean(self._decode_seconds.get(size), took)
        return preview


def _size(ticket: Ticket) -> tuple[int, int]:
    return ticket.params.width, ticket.params.height


def _mean(before: float | None, seconds: float) -> float:
    return seconds if before is None else before + _SMOOTH * (seconds - before)
