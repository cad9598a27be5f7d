"""Instance: one backend object in one place, busy or free; Pool: those of one model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from nerite.backends.base import Config
from nerite.core.call import Call


class Instance(Protocol):
    """One loaded copy of a model."""

    @property
    def ready(self) -> bool: ...

    async def start(self) -> Config:
        """Load; the completed config. Raises InferenceError when the model does not load."""
        ...

    async def execute(self, calls: list[Call]) -> None:
        """Hand over calls; returns when more can be taken, answers may come later."""
        ...

    async def close(self) -> None: ...


class Pool:
    """The instances of one model; the one free for longest is taken first."""

    def __init__(self, instances: list[Instance]) -> None:
        self.instances = instances
        self._free = deque(instances)
        self.on_free: Callable[[], None] = lambda: None

    @property
    def ready(self) -> bool:
        return all(instance.ready for instance in self.instances)

    def take(self) -> Instance | None:
        """A free instance, or None; give it back with `put`."""
        return self._free.popleft() if self._free else None

    def put(self, instance: Any) -> None:
        self._free.append(instance)
        self.on_free()
