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
    """A picture on its way, as base64, after so many steps. image_index: which of several."""

    b64_json: str
    step: int
    image_index: int = 0


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
        self._waiting: set[asyncio.Future[None]] = set()

    def become(self, job: Job) -> None:
        self.job = job
        self.touch()

    def touch(self) -> None:
        """Tell those who watch that something has changed."""
        self._version += 1
        waiting, self._waiting = self._waiting, set()
        for one in waiting:
            one.set_result(None)

    async def changed(self, seen: int, seconds: float) -> int:
        """The version that follows `seen`, perhaps not at once: who is slow sees the latest. The
        same where nothing changes for so long."""
        if self._version == seen:
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            await asyncio.wait([future], timeout=seconds)
            self._waiting.discard(future)
        return self._version
