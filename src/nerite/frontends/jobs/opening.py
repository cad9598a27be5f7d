"""Opening: the jobs of a server, from when the first is there to the server's end."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from dataclasses import dataclass

from nerite.frontends.jobs.jobs import Jobs
from nerite.frontends.jobs.painter import Painter
from nerite.frontends.jobs.place import Place
from nerite.frontends.jobs.runner import Limits
from nerite.frontends.jobs.store import JobStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobWishes:
    """What the operator says of jobs. store: that of `place`, where it is open already. owned:
    whether each API key has jobs of its own."""

    place: Place = Place()
    limits: Limits = Limits()
    store: JobStore | None = None
    owned: bool = False


class Opening:
    """Belongs to the server's loop. jobs: None while there are none."""

    def __init__(self, wishes: JobWishes, painter: Painter) -> None:
        self.jobs: Jobs | None = None
        self.wishes = wishes
        self._painter = painter
        self._lock = asyncio.Lock()

    async def resume(self) -> None:
        """Take up what an earlier server has left, if it has."""
        if self.wishes.store is None:
            return
        try:
            await self.open()
        except sqlite3.Error as error:
            log.error("jobs of an earlier server cannot be read: %s", error)

    async def open(self) -> Jobs:
        """Raises DatabaseError and sqlite3.Error."""
        async with self._lock:
            if self.jobs is None:
                store = self.wishes.store or await self.wishes.place.open()
                jobs = Jobs(store, self._painter, self.wishes.limits)
                await jobs.start()
                self.jobs = jobs
            return self.jobs

    async def close(self) -> None:
        """What is not finished is left to the next server."""
        async with self._lock:
            if self.jobs is not None:
                await self.jobs.close()
