"""Instance: one backend object in one place; Pool: those of one model, and who has room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

from nerite.backends.base import Config
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status
from nerite.core.turn import Turn

# Asks an instance what its model is to be asked before it serves; InferenceError where that fails.
WarmUp = Callable[["Executions"], Awaitable[None]]


class Executions(Protocol):
    """What takes executions: an instance, or one that is under a rate limiter."""

    def execute(self, calls: list[Call], done: Callable[[], None]) -> None:
        """Hand one execution over; `done` follows when another can be taken in its place.

        Answers come before or after that.
        """
        ...


class Instance(Executions, Protocol):
    """One loaded copy of a model. Belongs to the server's loop.

    ready: it is loaded and takes calls. broken: why it is not, once it is known not to come back
    soon. checks_ready: its model has a say in whether it is ready. in_flight: executions it has
    taken; capacity: how many it takes at most. memory_bytes: what its own process holds, 0 where
    that is not known.
    """

    ready: bool
    broken: InferenceError | None
    in_flight: int
    capacity: int
    checks_ready: bool

    @property
    def waiting(self) -> Collection[Call]:
        """What the executions it has begun have asked of other models, and wait for."""
        ...

    def holds(self, call: Call) -> bool:
        """Whether it has taken `call`, and not ended it."""
        ...

    @property
    def memory_bytes(self) -> int: ...

    async def start(self, changed: Callable[[], None]) -> Config:
        """Load; the completed config. Raises InferenceError when the model does not load.

        `changed` is called whenever `ready` or `broken` changes later.
        """
        ...

    async def warm(self, up: WarmUp) -> None:
        """Run `up` now, and whenever the model is loaded anew, before it is ready again."""
        ...

    async def check_ready(self) -> bool:
        """What its model says; False when that takes too long, or raises."""
        ...

    async def close(self) -> None: ...


class Pool:
    """The instances of one model.

    turn: of the loop they are on. changed: to be called when one of them comes or goes. passive:
    further ones, which are loaded and never take a call.
    """

    def __init__(
        self, turn: Turn, instances: Sequence[Instance], passive: Sequence[Instance] = ()
    ) -> None:
        self.turn = turn
        self.instances = instances
        self.changed: Callable[[], None] = lambda: None
        self._all = [*instances, *passive]
        # What one is handed ahead waits for what it executes, and may have to wait long, while
        # another of several comes free.
        self._most = 1 if len(instances) > 1 else None

    @property
    def ready(self) -> bool:
        return all(instance.ready for instance in self._all)

    @property
    def hungry(self) -> bool:
        """Whether an instance has one execution at most, and takes two more at once."""
        for instance in self.instances:
            if instance.in_flight <= 1 and instance.capacity >= instance.in_flight + 2:
                return self._most is None
        return False

    @property
    def broken(self) -> InferenceError | None:
        """Why no call can be executed any time soon; None while there is hope."""
        if not self.instances:
            return InferenceError(Status.UNAVAILABLE, "all instances of the model are passive")
        errors = [instance.broken for instance in self.instances]
        return errors[0] if None not in errors else None

    @property
    def memory_bytes(self) -> int:
        """What the processes of its instances hold; 0 where that is not known."""
        return sum(instance.memory_bytes for instance in self._all)

    async def start(self) -> list[Config]:
        """Load all; their completed configs. Raises InferenceError when one does not load."""
        return await asyncio.gather(
            *(instance.start(lambda: self.changed()) for instance in self._all)
        )

    async def warm(self, up: WarmUp) -> None:
        """Warm up all that take calls. Raises InferenceError."""
        await asyncio.gather(*(instance.warm(up) for instance in self.instances))

    async def close(self) -> None:
        await asyncio.gather(*(instance.close() for instance in self._all))

    def each(self) -> list[Pool]:
        """A pool of its own for every instance."""
        return [Pool(self.turn, [instance]) for instance in self.instances]

    def take(self, most: int | None = None) -> Executions | None:
        """The instance with the least to do among those that have room.

        most: executions that one may have in hand, however fast it is.
        """
        best: Instance | None = None
        least = self._most or most
        for instance in self.instances:
            count = instance.in_flight
            if count < instance.capacity and (least is None or count < least) and instance.ready:
                best, least = instance, count
        return best
