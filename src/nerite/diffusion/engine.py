"""Step-level continuous batching: requests join and leave between any two denoising steps.

Callers of any thread add and abort; one thread turns the loop and answers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from nerite.diffusion.job import InvalidParams, Painted, Params, Progress
from nerite.diffusion.memory import Memory
from nerite.diffusion.pipeline import Pipeline
from nerite.diffusion.plan import Plan
from nerite.diffusion.space import is_out_of_memory
from nerite.diffusion.ticket import OnEvent, Ticket, Watch
from nerite.diffusion.turn import Turn

_log = logging.getLogger(__name__)


class Aborted(Exception):
    """The event of a request that its caller gave up."""


class Overdue(Exception):
    """The event of a request whose time was up before it was painted."""


class EngineClosed(RuntimeError):
    """The engine takes no more requests, or was closed before this one was painted."""


class Engine:
    """Paints what is added, at most ``max_running_images`` images at a time.

    ``memory``, as the pipeline measured it, bounds them too. ``max_waiting`` requests may wait
    here before ``wait_for_room`` says that there is none. ``start`` gives the engine a thread of
    its own; without one, ``step`` turns the loop in the caller's. ``clock`` gives seconds.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        max_running_images: int = 8,
        max_waiting: int = 0,
        memory: Memory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_running_images < 1:
            raise ValueError(f"max_running_images is {max_running_images}: it must be 1 or more")
        self._pipeline = pipeline
        self._max_images = max_running_images
        self._max_waiting = max_waiting
        self._memory = memory or Memory()
        self._clock = clock
        self._turn = Turn(pipeline, Plan(), clock)
        self._changed = threading.Condition()  # guards everything below
        self._waiting: deque[Ticket] = deque()
        self._running: list[Ticket] = []
        self._closed = False
        self._draining = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Turn the loop in a thread of its own; once only."""
        with self._changed:
            if self._thread is not None or self._closed:
                raise RuntimeError("an engine starts once")
            self._thread = threading.Thread(target=self._loop, name="diffusion-engine", daemon=True)
            self._thread.start()

    def close(self, *, drain: bool = True) -> None:
        """Refuse new requests and end the thread; returns when it has ended.

        Open requests are painted first, or with ``drain=False`` fail with EngineClosed after the
        step in progress. May be called again, from any thread but the engine's.
        """
        with self._changed:
            self._closed = True
            self._draining = drain
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            return
        while drain and self.step():
            pass
        self._fail_open(EngineClosed("the engine was closed"))

    def add(
        self,
        params: Params,
        on_event: OnEvent,
        *,
        watch: Watch | None = None,
        timeout: float | None = None,
    ) -> Ticket:
        """Queue a request; returns at once, raises InvalidParams or EngineClosed.

        ``on_event`` is called exactly once, from the engine's thread: with the pictures, or with
        the exception that kept them from being painted, Overdue where ``timeout`` seconds pass
        first. Before it ``watch`` is told of the way. Both should return quickly.
        """
        self._pipeline.check(params)
        if params.num_images > self._max_images:
            raise InvalidParams(
                "num_images",
                f"num_images is {params.num_images}: it must be a whole number from 1 to "
                f"{self._max_images}",
            )
        deadline = None if timeout is None else self._clock() + timeout
        ticket = Ticket(params, on_event, watch, deadline, self._memory.cost(params))
        with self._changed:
            if self._closed:
                raise EngineClosed("the engine is closed")
            self._waiting.append(ticket)
            self._changed.notify_all()
        return ticket

    def abort(self, ticket: Ticket) -> None:
        """Give a request up: its rows are free before the next step and its event is Aborted.

        Does nothing for a request that has had its event.
        """
        with self._changed:
            ticket.aborted = True
            self._changed.notify_all()

    def wait_for_room(self, timeout: float | None = None) -> bool:
        """Block until another request may be added.

        That is when fewer than ``max_waiting`` wait, or, where that is 0, nobody waits and an
        image could start at once. False where ``timeout`` seconds pass first or the engine is
        closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(), timeout)
            return not self._closed and self._has_room()

    def step(self) -> bool:
        """One turn: drop who left, admit, one forward, decode. Whether work is left."""
        self._drop()
        self._admit()
        self._tell_waiting()
        self._settle_all(self._turn.advance(self._running, self._clock()))
        self._settle_all(self._turn.decode(self._running))
        for ticket in [one for one in self._running if len(one.images) == one.params.num_images]:
            images = np.stack([ticket.images[k] for k in range(ticket.params.num_images)])
            self._settle(ticket, Painted(images, ticket.params.seed))
        with self._changed:
            return bool(self._waiting or self._running)

    def _has_room(self) -> bool:
        if self._max_waiting:
            return len(self._waiting) < self._max_waiting
        return not self._waiting and self._images() < self._max_images

    def _images(self) -> int:
        return sum(ticket.params.num_images for ticket in self._running)

    def _loop(self) -> None:
        while self._wait_for_work():
            try:
                self.step()
            except Exception as error:
                _log.exception("the engine's loop failed; its requests fail with it")
                self._fail_open(error)
        self._fail_open(EngineClosed("the engine was closed"))

    def _wait_for_work(self) -> bool:
        """Blocks while there is nothing to do; False when the loop should end."""
        with self._changed:
            while not self._closed and not self._waiting and not self._running:
                self._changed.wait()
            open_requests = bool(self._waiting or self._running)
            return open_requests and (self._draining or not self._closed)

    def _drop(self) -> None:
        """Those that were aborted, and those whose time is up."""
        now = self._clock()
        with self._changed:
            tickets = [*self._running, *self._waiting]
        for ticket in tickets:
            if ticket.aborted:
                self._settle(ticket, Aborted("the request was aborted"))
            elif ticket.deadline is not None and ticket.deadline <= now:
                self._settle(ticket, Overdue("the request's time was up before it was painted"))

    def _admit(self) -> None:
        """Start, in one call, the waiting requests that fit, in the order they came."""
        newcomers: list[Ticket] = []
        with self._changed:
            images = self._images()
            bytes_taken = sum(ticket.cost for ticket in self._running)
            most = self._turn.newcomers(bool(self._running))
            while self._waiting and len(newcomers) < most:
                images += self._waiting[0].params.num_images
                bytes_taken += self._waiting[0].cost
                alone = not (self._running or newcomers)
                if images > self._max_images or not (alone or self._fits(bytes_taken)):
                    break
                newcomers.append(self._waiting.popleft())
            self._running += newcomers
            self._changed.notify_all()
        if newcomers:
            self._start(newcomers)

    def _fits(self, bytes_taken: int) -> bool:
        budget = self._turn.budget(self._memory.budget)
        return budget is None or bytes_taken <= budget

    def _start(self, newcomers: Sequence[Ticket]) -> None:
        try:
            self._turn.start(newcomers)
        except Exception as error:
            if len(newcomers) > 1 and is_out_of_memory(error):
                self._pipeline.trim()
                for ticket in newcomers:
                    self._start([ticket])
                return
            self._settle_all([(ticket, error) for ticket in newcomers])

    def _tell_waiting(self) -> None:
        with self._changed:
            waiting = list(self._waiting)
        for place, ticket in enumerate(waiting, 1):
            if ticket.watch is None or ticket.position == place:
                continue
            ticket.position = place
            eta = self._turn.eta(ticket, self._running)
            _tell(ticket, Progress(0, ticket.params.steps, place, eta))

    def _fail_open(self, error: Exception) -> None:
        with self._changed:
            tickets = [*self._running, *self._waiting]
        self._settle_all([(ticket, error) for ticket in tickets])

    def _settle_all(self, lost: Sequence[tuple[Ticket, BaseException]]) -> None:
        for ticket, error in lost:
            self._settle(ticket, error)

    def _settle(self, ticket: Ticket, event: Painted | BaseException) -> None:
        """Take a request out and tell its caller, never under the lock."""
        with self._changed:
            (self._running if ticket in self._running else self._waiting).remove(ticket)
            work, ticket.work = ticket.work, None
            self._changed.notify_all()
        if work is not None:
            self._pipeline.drop(work)
        try:
            ticket.on_event(event)
        except Exception:
            _log.exception("on_event failed")


def _tell(ticket: Ticket, progress: Progress) -> None:
    assert ticket.watch is not None
    try:
        ticket.watch.on_progress(progress)
    except Exception:
        _log.exception("on_progress failed")
