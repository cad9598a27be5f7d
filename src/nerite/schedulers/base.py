"""Scheduler: decides which calls go together to which instance, and what it needs of those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nerite.core.call import Call


class Executor(Protocol):
    """What a scheduler sees of an instance."""

    async def execute(self, calls: list[Call]) -> None: ...


class Pool(Protocol):
    """What a scheduler sees of a model's instances; `on_free` is called after every `put`."""

    on_free: Callable[[], None]

    def take(self) -> Executor | None: ...

    def put(self, instance: Executor) -> None: ...


class Scheduler(Protocol):
    def submit(self, call: Call) -> None:
        """Take a call; it ends in an answer or an error, always."""
        ...

    def pending(self) -> int:
        """Calls that wait for an instance."""
        ...

    async def close(self) -> None:
        """Refuse new calls, let the accepted ones finish."""
        ...
