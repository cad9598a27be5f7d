"""Scheduler: decides which calls go together to which instance, and what it needs of those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from nerite.core.call import Call
from nerite.core.errors import InferenceError
from nerite.core.turn import Turn


class Executor(Protocol):
    """What a scheduler sees of an instance: `done` is called when it can take another."""

    def execute(self, calls: list[Call], done: Callable[[], None]) -> None: ...


class Pool(Protocol):
    """What a scheduler sees of a model's instances."""

    @property
    def turn(self) -> Turn:
        """The turn of the loop they are on."""
        ...

    @property
    def ready(self) -> bool: ...

    @property
    def hungry(self) -> bool:
        """Whether an instance has one execution at most, and takes two more at once."""
        ...

    @property
    def broken(self) -> InferenceError | None: ...

    def each(self) -> Sequence[Pool]:
        """A pool of its own for every instance, for who cares which one it is."""
        ...

    def take(self, most: int | None = None) -> Executor | None: ...


class Scheduler(Protocol):
    """Belongs to the server's loop."""

    def submit(self, call: Call) -> None:
        """Take a call; it ends in an answer or an error, always."""
        ...

    def dispatch(self) -> None:
        """Look again: an instance has room, is back, or is broken."""
        ...

    def pending(self) -> int:
        """Calls that wait for an instance."""
        ...

    def close(self) -> None:
        """Refuse new calls; the accepted ones go on."""
        ...
