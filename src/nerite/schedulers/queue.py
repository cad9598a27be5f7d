"""The queue of one model: priority levels, each with a limit and a time-out policy.

Triton's semantics: level 1 goes first; in a level, what is in time goes before what was delayed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status

_NEVER = 0


class QueuePolicy(NamedTuple):
    """Of one level. max_size: 0 is no limit. timeout_ns: 0 is none; what waits longer is
    refused, or where `delay` is set goes behind what is in time. override: whether a request's
    own, shorter time-out counts."""

    max_size: int = 0
    timeout_ns: int = 0
    override: bool = False
    delay: bool = False


class Levels(NamedTuple):
    """number: 0 means that there is one level, for all. default: of a request that names none."""

    number: int = 0
    default: int = 0
    policy: QueuePolicy = QueuePolicy()
    policies: Mapping[int, QueuePolicy] = {}

    @property
    def plain(self) -> bool:
        """Whether there is one level, where nothing is refused and nothing is late."""
        return not self.number and self.policy == QueuePolicy()

    @property
    def bounded(self) -> bool:
        """Whether a level takes so many calls and no more."""
        return any(policy.max_size for policy in (self.policy, *self.policies.values()))


class _Level:
    """Calls with the moment they expire (ns of the monotonic clock, 0 for never)."""

    __slots__ = ("delayed", "in_time", "policy")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.in_time: deque[tuple[Call, int]] = deque()
        self.delayed: deque[Call] = deque()

    def __len__(self) -> int:
        return len(self.in_time) + len(self.delayed)

    def put(self, call: Call) -> int:
        """When it will be too late for it."""
        policy = self.policy
        if policy.max_size and len(self) >= policy.max_size:
            text = f"{call.request.label}Exceeds maximum queue size"
            raise InferenceError(Status.UNAVAILABLE, text)
        timeout, own = policy.timeout_ns, call.request.timeout_us * 1000
        # A level without a time-out of its own takes the request's; Triton compares with 0 there.
        if policy.override and own and (own < timeout or not timeout):
            timeout = own
        end = call.received_ns + timeout if timeout else _NEVER
        self.in_time.append((call, end))
        return end

    def expire(self, now: int) -> Iterator[tuple[Call, InferenceError]]:
        """What drops out: cancelled, or too late where that means refusal."""
        kept: deque[tuple[Call, int]] = deque()
        for call, end in self.in_time:
            if call.cancelled:
                yield call, cancelled(call)
            elif 0 < end < now and self.policy.delay:
                self.delayed.append(call)
            elif 0 < end < now:
                yield call, InferenceError(Status.UNAVAILABLE, "Request timeout expired")
            else:
                kept.append((call, end))
        self.in_time = kept
        for call in [call for call in self.delayed if call.cancelled]:
            self.delayed.remove(call)
            yield call, cancelled(call)


class Queue:
    """Calls in the order they are to be executed in; `count` of them, of `size` batch items.

    Nothing is looked through for each call that comes: `expire` does so when a call was cancelled,
    of which `changed` tells, or when the soonest time-out has passed.
    """

    def __init__(
        self,
        levels: Levels = Levels(),  # noqa: B008  immutable
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._levels = levels
        self._changed = changed
        policies = {0: levels.policy} if not levels.number else {
            number: levels.policies.get(number, levels.policy)
            for number in range(1, levels.number + 1)
        }  # fmt: skip
        self._by_priority = {number: _Level(policy) for number, policy in policies.items()}
        self._plain = self._by_priority[0] if levels.plain else None
        self.count = self.size = 0
        self._stale = False
        self._soonest = _NEVER  # no call expires before
        self._note = self._note_cancelled  # bound once

    def __iter__(self) -> Iterator[Call]:
        for level in self._by_priority.values():
            for call, _ in level.in_time:
                yield call
            yield from level.delayed

    def put(self, call: Call) -> None:
        """Raises InferenceError when the call's level is full."""
        if self._plain is not None:
            self._plain.in_time.append((call, _NEVER))
        else:
            self._put_by_level(call)
        self.count += 1
        self.size += call.batch_size
        call.holder = self._note
        if call.cancelled:
            self._note(call)

    def _put_by_level(self, call: Call) -> None:
        number = 0
        if self._levels.number:
            number = call.request.priority
            if not 0 < number <= self._levels.number:
                number = self._levels.default
        end = self._by_priority[number].put(call)
        if end and (not self._soonest or end < self._soonest):
            self._soonest = end

    @property
    def timed(self) -> bool:
        """Whether a call in it may be too late, or was cancelled: whether `expire` has work."""
        return self._stale or self._soonest != _NEVER

    def _note_cancelled(self, call: Call) -> None:
        self._stale = True
        self._changed()

    def expire(self) -> list[tuple[Call, InferenceError]]:
        """Take out what is cancelled or too late, with the error that tells why."""
        if not self._stale and not self._soonest:
            return []
        now = time.monotonic_ns()
        if not self._stale and now <= self._soonest:
            return []
        self._stale = False
        gone = [gone for level in self._by_priority.values() for gone in level.expire(now)]
        self._leave([call for call, _ in gone])
        self._soonest = self.next_expiry
        return gone

    def take(self, count: int) -> list[Call]:
        """The first `count` calls."""
        taken: list[Call] = []
        for level in self._by_priority.values():
            while level.in_time and len(taken) < count:
                taken.append(level.in_time.popleft()[0])
            while level.delayed and len(taken) < count:
                taken.append(level.delayed.popleft())
        self._leave(taken)
        return taken

    def _leave(self, calls: list[Call]) -> None:
        self.count -= len(calls)
        self.size -= sum([call.batch_size for call in calls])

    @property
    def next_expiry(self) -> int:
        """When the next call will be too late, in ns of the monotonic clock; 0 for never."""
        if not self._soonest:
            return _NEVER
        ends = (end for level in self._by_priority.values() for _, end in level.in_time if end)
        return min(ends, default=_NEVER)


def cancelled(call: Call) -> InferenceError:
    """What a call ends with that nobody waits for any more."""
    return InferenceError(Status.CANCELLED, f"{call.request.label}cancelled")
