"""Live: an unfinished job as it is known in memory, and those who watch it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from nerite.frontends.jobs.job import Job


@dataclass(frozen=True, slots=True)
class Advance:
    """How far the painting is; queue_position is the place before the model, 0 once it runs."""

    progress: float
    queue_position: int = 0
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture on its way, as base64, after so many steps."""

    b64_json: str
    step: int


@dataclass(frozen=True, slots=True)
class View:
    """A job as it is now. queue_position: 0 once it runs; eta_seconds: None where unknown."""

    job: Job
    progress: float = 0.0
    queue_position: int = 0
    eta_seconds: float | None = None


class Live:
    """Belongs to the loop. attempts: that failed, though they may go better later. ended: once
    that is kept."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.advance = Advance(0.0)
        self.preview: Preview | None = None
        self.painting: asyncio.Task[bytes] | None = None
        self.cancelled = False
        self.attempts = 0
        self.watchers = 0
        self.ended = asyncio.Event()
        self._version = 0
        self._waiting: list[asyncio.Future[None]] = []

    def become(self, job: Job) -> None:
        self.job = job
        self.touch()

    def touch(self) -> None:
        """Tell those who watch that something has changed."""
        self._version += 1
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def changed(self, seen: int) -> int:
        """The version that follows `seen`, perhaps not at once: who is slow sees the latest."""
        if self._version == seen:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        return self._version
