"""RateLimiter: lets instances execute only while the resources they name are there, shared among
all models of a server, and in the order of their priorities.

The rules are those of Triton's rate limiter: who executed least, weighed by priority, goes first,
and nobody passes it while its resources are taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from nerite.core.call import Call
from nerite.core.errors import InferenceError, invalid
from nerite.core.turn import Turn
from nerite.instances.base import Executions, Instance, Pool

GLOBAL = -2  # in place of a device: one stock for the whole server
EACH_DEVICE = -1  # of a stock that every device has

# A device and the name of a resource.
Resource = tuple[int, str]


@dataclass(frozen=True)
class Need:
    """What one execution of an instance takes. priority: 2 gets half as many turns as 1."""

    resources: Mapping[Resource, int] = field(default_factory=dict)
    priority: int = 1


class _Member:
    """An instance under the limiter, one execution at a time."""

    def __init__(self, instance: Instance, need: Need, limiter: RateLimiter) -> None:
        self.instance = instance
        self.need = need
        self._limiter = limiter
        self.running = 0
        self._executed = 0

    @property
    def free(self) -> bool:
        return self.instance.ready and not self.running

    @property
    def turn(self) -> tuple[int, int]:
        """The lowest goes first, and of two that are as low the one of the higher priority."""
        priority = max(self.need.priority, 1)
        return (self._executed + 1) * priority, priority

    def execute(self, calls: list[Call], done: Callable[[], None]) -> None:
        self.running += 1
        self.instance.execute(calls, partial(self._done, done))

    def _done(self, done: Callable[[], None]) -> None:
        self._executed += 1
        if self.running:  # a closed pool has given everything back already
            self.running -= 1
        done()
        self._limiter.wake()


class RateLimiter:
    """The resources of one server. Belongs to its loop."""

    def __init__(self, resources: Sequence[tuple[str, int, int]] = ()) -> None:
        """resources: name, count and device (or EACH_DEVICE); without any there is as much of each
        as the most demanding instance needs."""
        self._given = resources
        self._pools: list[LimitedPool] = []
        self._waiting: dict[LimitedPool, _Member] = {}

    def pool(
        self,
        turn: Turn,
        instances: Sequence[Instance],
        needs: Sequence[Need],
        passive: Sequence[Instance] = (),
    ) -> LimitedPool:
        """The pool of a model. Raises InferenceError where an instance could never execute."""
        members = [
            _Member(instance, need, self) for instance, need in zip(instances, needs, strict=True)
        ]
        pool = LimitedPool(turn, members, self, passive)
        self._pools.append(pool)
        try:
            self._check()
        except InferenceError:
            self._pools.remove(pool)
            raise
        return pool

    def leave(self, pool: LimitedPool) -> None:
        if pool in self._pools:
            self._pools.remove(pool)
        for waiting, member in list(self._waiting.items()):
            if member in pool.members:
                del self._waiting[waiting]
        self.wake()

    def permits(self, pool: LimitedPool, member: _Member) -> bool:
        """Whether a free member may execute now; if not, its pool is woken when it may."""
        ahead = any(
            one.turn < member.turn for other, one in self._waiting.items() if other is not pool
        )
        if ahead or not self._fits(member):
            self._waiting[pool] = member
            return False
        self._waiting.pop(pool, None)
        return True

    def wake(self) -> None:
        """Something is back: let those who wait look again, until the first has to wait on."""
        tried: set[LimitedPool] = set()
        while True:
            left = [pool for pool in self._waiting if pool not in tried]
            if not left:
                return
            first = min(left, key=lambda pool: self._waiting[pool].turn)
            tried.add(first)
            del self._waiting[first]
            first.changed()
            if first in self._waiting:
                return

    def _members(self) -> list[_Member]:
        return [member for pool in self._pools for member in pool.members]

    def _fits(self, member: _Member) -> bool:
        used: Counter[Resource] = Counter()
        for one in self._members():
            for resource, count in one.need.resources.items():
                used[resource] += count * one.running
        total = self._total()
        return all(
            used[resource] + count <= total[resource]
            for resource, count in member.need.resources.items()
        )

    def _needed(self) -> dict[Resource, int]:
        needed: dict[Resource, int] = {}
        for member in self._members():
            for resource, count in member.need.resources.items():
                needed[resource] = max(count, needed.get(resource, 0))
        return needed

    def _total(self) -> dict[Resource, int]:
        needed = self._needed()
        return {resource: self._count(resource) for resource in needed} if self._given else needed

    def _count(self, resource: Resource) -> int:
        device, name = resource
        counts = (
            count
            for given, count, where in self._given
            if given == name and (device == GLOBAL or where in (device, EACH_DEVICE))
        )
        return max(counts, default=0)

    def _check(self) -> None:
        needed = self._needed()
        if self._given:
            for resource, least in needed.items():
                count = self._count(resource)
                if count < least:
                    raise invalid(
                        f'Resource count for "{resource[1]}" is limited to {count} which will '
                        "prevent scheduling of one or more model instances, the minimum required "
                        f"count is {least}"
                    )
        everywhere = {name for device, name in needed if device == GLOBAL}
        for device, name in needed:
            if device != GLOBAL and name in everywhere:
                raise invalid(
                    f'Resource "{name}" is present as both global and device-specific resource in '
                    "the model configuration."
                )


class LimitedPool(Pool):
    """The instances of one model, under a rate limiter."""

    def __init__(
        self,
        turn: Turn,
        members: Sequence[_Member],
        limiter: RateLimiter,
        passive: Sequence[Instance] = (),
    ) -> None:
        super().__init__(turn, [member.instance for member in members], passive)
        self.members = members
        self._limiter = limiter

    @property
    def hungry(self) -> bool:
        return False  # each takes one

    def take(self, most: int | None = None) -> Executions | None:
        free = [member for member in self.members if member.free]
        if not free:
            return None
        first = min(free, key=lambda member: member.turn)
        return first if self._limiter.permits(self, first) else None

    def each(self) -> list[Pool]:
        pools = [LimitedPool(self.turn, [member], self._limiter) for member in self.members]
        for pool in pools:
            pool.changed = self._look_again
        return list(pools)

    def _look_again(self) -> None:
        self.changed()

    async def close(self) -> None:
        await super().close()
        for member in self.members:
            member.running = 0
        self._limiter.leave(self)
