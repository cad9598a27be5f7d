"""Step-level continuous batching: requests join and leave between any two denoising steps.

Callers of any thread add and abort; one thread turns the loop and answers.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nerite.diffusion.job import InvalidParams, Job, Painted, Params
from nerite.diffusion.pipeline import Pipeline
from nerite.diffusion.plan import Plan

_log = logging.getLogger(__name__)

OnEvent = Callable[[Painted | BaseException], None]


class Aborted(Exception):
    """The event of a request that its caller gave up."""


class EngineClosed(RuntimeError):
    """The engine takes no more requests, or was closed before this one was painted."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request in the engine; give it to ``Engine.abort``."""

    params: Params
    on_event: OnEvent
    aborted: bool = False
    job: Job | None = None


class Engine:
    """Paints what is added, at most ``max_running_images`` images at a time.

    ``start`` gives it a thread of its own; without one, ``step`` turns the loop in the caller's.
    """

    def __init__(self, pipeline: Pipeline, *, max_running_images: int = 8) -> None:
        if max_running_images < 1:
            raise ValueError(f"max_running_images is {max_running_images}: it must be 1 or more")
        self._pipeline = pipeline
        self._max_images = max_running_images
        self._plan = Plan()
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

    def add(self, params: Params, on_event: OnEvent) -> Ticket:
        """Queue a request; returns at once, raises InvalidParams or EngineClosed.

        ``on_event`` is called exactly once, from the engine's thread: with the pictures, or with
        the exception that kept them from being painted. It should return quickly.
        """
        self._pipeline.check(params)
        if params.num_images > self._max_images:
            raise InvalidParams(
                "num_images",
                f"num_images is {params.num_images}: it must be a whole number from 1 to "
                f"{self._max_images}",
            )
        ticket = Ticket(params, on_event)
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
        """Block until nobody waits and an image could start at once.

        False where ``timeout`` seconds pass first or the engine is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(), timeout)
            return not self._closed and self._has_room()

    def step(self) -> bool:
        """One turn: drop the aborted, admit, one forward, finish. Whether work is left."""
        self._drop_aborted()
        self._admit()
        self._advance()
        self._finish()
        with self._changed:
            return bool(self._waiting or self._running)

    def _has_room(self) -> bool:
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

    def _drop_aborted(self) -> None:
        with self._changed:
            dropped = [ticket for ticket in (*self._running, *self._waiting) if ticket.aborted]
        for ticket in dropped:
            self._settle(ticket, Aborted("the request was aborted"))

    def _admit(self) -> None:
        """Start, in one call, the waiting requests that fit, in the order they came."""
        newcomers: list[Ticket] = []
        with self._changed:
            images = self._images()
            while self._waiting:
                images += self._waiting[0].params.num_images
                if images > self._max_images:
                    break
                newcomers.append(self._waiting.popleft())
            self._running += newcomers
            self._changed.notify_all()
        if not newcomers:
            return
        try:
            jobs = self._pipeline.start([ticket.params for ticket in newcomers])
        except Exception as error:
            self._settle_all(newcomers, error)
            return
        for ticket, job in zip(newcomers, jobs, strict=True):
            ticket.job = job

    def _advance(self) -> None:
        chosen = self._plan.pick([job for job in self._jobs() if not job.done])
        if not chosen:
            return
        try:
            self._pipeline.step(chosen)
        except Exception as error:
            self._settle_all(self._tickets_of(chosen), error)

    def _finish(self) -> None:
        """Decode, in one call, what this turn's forward has brought to its last step."""
        done = [job for job in self._jobs() if job.done]
        if not done:
            return
        tickets = self._tickets_of(done)
        try:
            painted = self._pipeline.finish(done)
        except Exception as error:
            self._settle_all(tickets, error)
            return
        for ticket, picture in zip(tickets, painted, strict=True):
            self._settle(ticket, picture)

    def _jobs(self) -> list[Job]:
        return [ticket.job for ticket in self._running if ticket.job is not None]

    def _tickets_of(self, jobs: Sequence[Job]) -> list[Ticket]:
        by_job = {id(ticket.job): ticket for ticket in self._running}
        return [by_job[id(job)] for job in jobs]

    def _fail_open(self, error: Exception) -> None:
        with self._changed:
            tickets = [*self._running, *self._waiting]
        self._settle_all(tickets, error)

    def _settle_all(self, tickets: Sequence[Ticket], error: Exception) -> None:
        for ticket in tickets:
            self._settle(ticket, error)

    def _settle(self, ticket: Ticket, event: Painted | BaseException) -> None:
        """Take a request out and tell its caller, never under the lock."""
        with self._changed:
            (self._running if ticket in self._running else self._waiting).remove(ticket)
            ticket.job = None
            self._changed.notify_all()
        try:
            ticket.on_event(event)
        except Exception:
            _log.exception("on_event failed")
