"""Caching: stands before one model's scheduler, answers what is known, keeps what is new."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

from nerite.cache.base import Cache, key_of
from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError
from nerite.core.request import Response
from nerite.core.stats import Stats

log = logging.getLogger(__name__)


class _Miss:
    """A call whose answer is to be kept: the last full one, and how many there were."""

    __slots__ = ("answer", "answers", "key", "looked_ns")

    def __init__(self, key: bytes, looked_ns: int) -> None:
        self.key = key
        self.looked_ns = looked_ns
        self.answer: Response | None = None
        self.answers = 0


class Caching:
    """The cache as one loaded model uses it. Belongs to the server's loop."""

    def __init__(
        self, cache: Cache, owner: bytes, stats: Stats, submit: Callable[[Call], None]
    ) -> None:
        """submit: where a call goes whose answer is not known."""
        self._cache = cache
        self._owner = owner
        self._stats = stats
        self._go_on = submit
        # Weak, so that a call which its model drops can notice and fail itself.
        self._misses: WeakKeyDictionary[Call, _Miss] = WeakKeyDictionary()
        self._hits: WeakKeyDictionary[Call, int] = WeakKeyDictionary()
        self._looking = 0
        self._found_all = asyncio.Event()
        self._told = False

    def submit(self, call: Call) -> None:
        key = key_of(self._owner, call.request)
        self._looking += 1
        self._cache.look_up(key, partial(self._found, call, key, time.monotonic_ns()))

    def answered(self, call: Call, answer: Answer) -> None:
        """A call was answered; to be told before the statistics count it."""
        looked = self._hits.pop(call, None)
        if looked is not None:
            call.taken_ns = call.ended_ns
            self._stats.count_hit(looked)
            return
        miss = self._misses.get(call)
        if miss is None:
            return
        if isinstance(answer, Response) and answer.outputs:
            miss.answer, miss.answers = answer, miss.answers + 1
        if isinstance(answer, InferenceError) or answer.final:
            del self._misses[call]
            if not isinstance(answer, InferenceError):
                self._keep(miss)

    async def settle(self) -> None:
        """Once what was asked so far is with the scheduler or answered."""
        if self._looking:
            self._found_all.clear()
            await self._found_all.wait()

    def forget(self) -> None:
        """The model leaves."""
        self._cache.forget(self._owner)

    def _found(self, call: Call, key: bytes, began: int, response: Response | None) -> None:
        self._looking -= 1
        looked = time.monotonic_ns() - began
        if response is None:
            self._misses[call] = _Miss(key, looked)
            self._go_on(call)
        else:
            self._hits[call] = looked
            call.batch_size = 0  # nothing is inferred, and the statistics count that
            call.send(response)
        if not self._looking:
            self._found_all.set()

    def _keep(self, miss: _Miss) -> None:
        began = time.monotonic_ns()
        if miss.answer is not None and miss.answers == 1:
            try:
                self._cache.insert(miss.key, miss.answer._replace(final=True))
            except InferenceError as error:
                if not self._told:
                    log.error("%s (of this model, it is not told again)", error.message)
                self._told = True
        self._stats.count_miss(miss.looked_ns + time.monotonic_ns() - began)
