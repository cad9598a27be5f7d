"""Runner: begins the jobs that wait when there is room, and keeps what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import sqlite3
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from nerite.frontends.jobs.job import Job, JobStatus
from nerite.frontends.jobs.live import Advance, Live, Preview, View
from nerite.frontends.jobs.painter import Painter, PaintingFailed
from nerite.frontends.jobs.queue import Queue
from nerite.frontends.jobs.store import JobStore

log = logging.getLogger(__name__)

_ATTEMPTS = 10
_LONGEST_PAUSE = 30.0
_NOT_READY_SECONDS = 1.0  # between two looks at a model that is not ready
_BROKEN = b'{"message":"internal error; the server\'s log says more","type":"server_error",'
_BROKEN += b'"param":null,"code":null}'
_NOT_KEPT = b'{"message":"the pictures were painted, but could not be kept; the server\'s log says '
_NOT_KEPT += b'why","type":"server_error","param":null,"code":"not_kept"}'


@dataclass(frozen=True, slots=True)
class Limits:
    """most: unfinished jobs. images: of jobs painted at a time by one model. lifetime: seconds
    for which what has ended can be fetched."""

    most: int = 1000
    images: int = 8
    lifetime: float = 86400.0


class Runner:
    """Belongs to the server's loop. live: the unfinished jobs by their ids."""

    def __init__(self, store: JobStore, painter: Painter, limits: Limits) -> None:
        self._store = store
        self._painter = painter
        self._limits = limits
        self.live: dict[str, Live] = {}
        self.watched: set[Live] = set()
        self.stopping = False
        self._queues: dict[str, Queue] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Begin no further job; the next server will."""
        self.stopping = True
        if self._timer is not None:
            self._timer.cancel()

    async def close(self) -> None:
        """Leave what still runs to the next server."""
        self.stop()
        for live in self.live.values():
            live.touch()
            if live.painting is not None:
                live.painting.cancel()
        await asyncio.gather(*self._running)

    def put(self, job: Job) -> None:
        """It is kept, and is to be run."""
        live = self.live[job.id] = Live(job)
        self._queues.setdefault(job.model, Queue(self._limits.images)).put(live)
        self._pump()

    async def cancel(self, live: Live) -> None:
        """Give a job up; returns when it has ended, in this or in another way."""
        if not live.cancelled:
            live.cancelled = True
            if live.painting is not None:
                live.painting.cancel()
            elif live.job.status is JobStatus.QUEUED:
                self._queues[live.job.model].remove(live)
                self._moved()
                self._begin(self._settle(live, JobStatus.CANCELLED))
        await live.ended.wait()

    def view(self, live: Live) -> View:
        job, advance = live.job, live.advance
        if job.status is JobStatus.QUEUED:
            queue = self._queues[job.model]
            return View(job, 0.0, queue.place(live), queue.eta(live))
        if job.status is JobStatus.RUNNING:
            return View(job, advance.progress, advance.queue_position, advance.eta_seconds)
        return View(job, advance.progress)

    @property
    def seconds_to_room(self) -> float:
        """After which a waiting job may have begun."""
        return max((queue.pause for queue in self._queues.values() if len(queue)), default=1.0)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _moved(self) -> None:
        """Places in the queue have changed."""
        for live in self.watched:
            if live.job.status is JobStatus.QUEUED:
                live.touch()

    def _pump(self) -> None:
        """Begin what there is room for."""
        for queue in self._queues.values():
            while not self.stopping and (head := queue.peek()) is not None:
                if not self._may_begin(head, queue):
                    break
                queue.start(head)
                head.become(dataclasses.replace(head.job, status=JobStatus.RUNNING))
                head.painting = asyncio.get_running_loop().create_task(self._paint(head))
                self._begin(self._run(head, queue))
                self._moved()

    def _may_begin(self, head: Live, queue: Queue) -> bool:
        pause = queue.paused_until - time.monotonic()
        problem = self._painter.problem(head.job.model) if pause <= 0 else None
        if pause <= 0 and problem is None:
            return True
        if problem is not None and time.time() > head.job.created + self._limits.lifetime:
            queue.remove(head)
            self._begin(self._settle(head, JobStatus.FAILED, error=problem))
        if self._timer is None:
            seconds = max(pause, _NOT_READY_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._on_time)
        return False

    def _on_time(self) -> None:
        self._timer = None
        self._pump()

    async def _paint(self, live: Live) -> bytes:
        request = await self._store.request(live.job)
        painting = self._painter.paint(live.job, request)
        async with contextlib.aclosing(painting):
            async for told in painting:
                if isinstance(told, bytes):
                    return told
                if isinstance(told, Preview):
                    live.preview = told
                else:
                    live.advance = told
                live.touch()
        raise PaintingFailed(_BROKEN)

    async def _run(self, live: Live, queue: Queue) -> None:
        assert live.painting is not None
        began = time.monotonic()
        await asyncio.wait([live.painting])
        painting, live.painting = live.painting, None
        done = not painting.cancelled() and painting.exception() is None
        queue.end(live, time.monotonic() - began if done else None)
        if done:
            live.advance = Advance(1.0)
            await self._settle(live, JobStatus.SUCCEEDED, result=painting.result())
        elif live.cancelled:
            await self._settle(live, JobStatus.CANCELLED)
        elif not self.stopping:
            await self._fail(live, queue, painting.exception())
        self._pump()

    async def _fail(self, live: Live, queue: Queue, error: BaseException | None) -> None:
        """End, or wait in the queue once more."""
        if not isinstance(error, PaintingFailed):
            log.error("job %s failed", live.job.id, exc_info=error)
            error = PaintingFailed(_BROKEN)
        live.attempts += 1
        if not error.again or live.attempts == _ATTEMPTS:
            await self._settle(live, JobStatus.FAILED, error=error.error)
            return
        log.warning("job %s failed and will be tried again: %s", live.job.id, error)
        queue.paused_until = time.monotonic() + min(2.0 ** (live.attempts - 1), _LONGEST_PAUSE)
        live.advance = Advance(0.0)
        live.become(dataclasses.replace(live.job, status=JobStatus.QUEUED))
        queue.put(live)

    async def _settle(
        self,
        live: Live,
        status: JobStatus,
        *,
        result: bytes | None = None,
        error: bytes | None = None,
    ) -> None:
        """It has ended. Whoever watches hears of it when that is kept."""
        end = dataclasses.replace(
            live.job, status=status, finished=time.time(), result=result, error=error
        )
        try:
            await self._store.finish(end)
        except sqlite3.Error as problem:
            log.error("how job %s has ended cannot be kept: %s", end.id, problem)
            if result is not None:
                await self._settle(live, JobStatus.FAILED, error=_NOT_KEPT)
                return
        del self.live[end.id]
        live.become(end)
        live.ended.set()
