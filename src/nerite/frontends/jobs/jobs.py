"""Jobs: accepts them, and tells how they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator

from nerite.frontends.jobs.job import Job, JobStatus
from nerite.frontends.jobs.live import Live, Preview, View
from nerite.frontends.jobs.painter import Painter
from nerite.frontends.jobs.runner import Limits, Runner
from nerite.frontends.jobs.store import JobStore, NewJob

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0
_ALIVE_SECONDS = 15.0  # after which those who watch are told that nothing has changed
_LAST = 1 << 62  # no job has this number


class Jobs:
    """Belongs to the server's loop."""

    def __init__(self, store: JobStore, painter: Painter, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._runner = Runner(store, painter, limits)
        self._accepting = 0
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what an earlier server was asked and did not finish. Raises sqlite3.Error."""
        unfinished = await self._store.unfinished()
        if unfinished:
            log.info("%d unfinished jobs are taken up again", len(unfinished))
        for job in unfinished:
            self._runner.put(job)
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    def stop(self) -> None:
        """Begin no further job; the next server will."""
        self._runner.stop()

    async def close(self) -> None:
        """Leave what still runs to the next server."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        await self._runner.close()
        await self._store.close()

    @property
    def seconds_to_room(self) -> float:
        """After which there may be room for another, where there is none."""
        return self._runner.seconds_to_room

    async def accept(self, wanted: NewJob) -> tuple[View, bool]:
        """The job, and whether it is new. Raises KeyReused, StoreFull and sqlite3.Error.

        Goes on to its end where its caller does not: what is kept is also run.
        """
        return await asyncio.shield(asyncio.ensure_future(self._accept(wanted)))

    async def _accept(self, wanted: NewJob) -> tuple[View, bool]:
        taken = len(self._runner.live) + self._accepting
        room = taken < self._limits.most and not self._runner.stopping
        self._accepting += 1
        try:
            job, new = await self._store.add(wanted, room=room)
        finally:
            self._accepting -= 1
        if new:
            self._runner.put(job)
        elif job.status.final:
            job = await self._store.find(job.id, job.owner) or job
        return self._view(job), new

    async def find(self, id: str, owner: str) -> View | None:
        """A job and how it is; None where there is none of that owner."""
        live = self._find_live(id, owner)
        if live is not None:
            return self._runner.view(live)
        job = await self._store.find(id, owner)
        return None if job is None else self._view(job)

    async def newest(self, owner: str, limit: int, before: str = "") -> list[View] | None:
        """Without the results of those that have one; None where there is no job `before`."""
        number = _LAST
        if before:
            view = await self.find(before, owner)
            if view is None:
                return None
            number = view.job.number
        return [self._view(job) for job in await self._store.newest(owner, limit, number)]

    async def cancel(self, id: str, owner: str) -> View | None:
        """Give a job up; it ends as cancelled, or as it does in the meantime. None where there is
        no unfinished one."""
        live = self._find_live(id, owner)
        if live is None:
            return None
        await self._runner.cancel(live)
        return self._runner.view(live)

    async def delete(self, id: str, owner: str) -> bool:
        """Forget a job that has ended; whether there was one."""
        job = await self._store.find(id, owner)
        if job is None or not job.status.final:
            return False
        await self._store.delete(job)
        return True

    async def watch(self, id: str, owner: str) -> AsyncGenerator[View | Preview]:
        """How a job is, whenever that changes and now and then, until it has ended or the server
        stops; nothing where there is no such job."""
        live = self._find_live(id, owner)
        if live is None:
            view = await self.find(id, owner)
            if view is not None:
                yield view
            return
        live.watchers += 1
        self._runner.watched.add(live)
        try:
            async with contextlib.aclosing(self._follow(live)) as following:
                async for one in following:
                    yield one
        finally:
            live.watchers -= 1
            if not live.watchers:
                self._runner.watched.discard(live)

    async def _follow(self, live: Live) -> AsyncGenerator[View | Preview]:
        version, preview = 0, None
        while True:
            view = self._runner.view(live)
            yield view
            if view.job.status.final or self._runner.stopping:
                return
            if live.preview is not preview and live.preview is not None:
                preview = live.preview
                yield preview
            version = await live.changed(version, _ALIVE_SECONDS)

    def _find_live(self, id: str, owner: str) -> Live | None:
        live = self._runner.live.get(id)
        return live if live is not None and live.job.owner == owner else None

    def _view(self, job: Job) -> View:
        live = self._runner.live.get(job.id)
        if live is not None:
            return self._runner.view(live)
        return View(job, progress=float(job.status is JobStatus.SUCCEEDED))

    async def _sweep(self) -> None:
        while True:
            try:
                await self._store.sweep(time.time() - self._limits.lifetime)
            except sqlite3.Error as error:
                log.error("jobs whose lifetime is over cannot be deleted: %s", error)
            await asyncio.sleep(min(_SWEEP_SECONDS, max(self._limits.lifetime, 1.0)))
