"""Painter: what jobs ask for pictures."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from nerite.frontends.jobs.job import Job
from nerite.frontends.jobs.live import Advance, Preview


class PaintingFailed(Exception):
    """What a painter says instead of a result. again: whether it may go better later."""

    def __init__(self, error: bytes, *, again: bool = False) -> None:
        """error: JSON."""
        super().__init__(error.decode(errors="replace"))
        self.error = error
        self.again = again


class Painter(Protocol):
    """Belongs to the loop."""

    def problem(self, model: str) -> bytes | None:
        """Why a model cannot paint now, as the JSON of an error."""
        ...

    def paint(self, job: Job, request: bytes) -> AsyncGenerator[Advance | Preview | bytes]:
        """How it goes, and at last the result as JSON. Raises PaintingFailed; closing it before
        its end cancels."""
        ...
