"""Triton's default and dynamic batching schedulers: one loop that gathers, takes an instance and
executes. Without dynamic batching a batch is one request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status
from nerite.core.layout import shape_of
from nerite.core.request import Request
from nerite.schedulers.base import Executor, Pool
from nerite.schedulers.hooks import HOLD, held
from nerite.schedulers.queue import Levels, Queue

# Of so many calls or more that are no full batch, half goes first to who has little to do: one half
# is answered while the other is executed.
_HALVED = 4
# The front may read requests for longer than an instance works on the first of them.
_PATIENCE_NS = 150_000


class Batching(NamedTuple):
    """How requests are gathered.

    max_size: batch items together; 1 means that requests go alone. preferred: sizes to send at
    once. delay_ns: how long the first of a batch waits for more. equal_shape: inputs of no fixed
    shape, whose items must have one shape within a batch; of equal_content, one content too.
    optional: there are inputs that may be missing, and requests go together that have the same.
    """

    max_size: int = 1
    preferred: tuple[int, ...] = ()
    delay_ns: int = 0
    equal_shape: tuple[str, ...] = ()
    equal_content: tuple[str, ...] = ()
    optional: bool = False

    def likeness(self, request: Request) -> Any:
        """What must be equal for two requests to go together; None where nothing is compared."""
        if not (self.equal_shape or self.optional):
            return None
        inputs = request.inputs
        return (
            frozenset(inputs) if self.optional else None,
            [shape_of(inputs, name)[1:] for name in self.equal_shape if name in inputs],
            [inputs[name].tobytes() for name in self.equal_content if name in inputs],
        )


ALONE = Batching()


class BatchScheduler:
    """First in, first out over the instances of one model, within its queue's priorities.

    Belongs to the server's loop. `on_execute` is told of every execution, for the statistics.
    """

    def __init__(
        self,
        pool: Pool,
        on_execute: Callable[[list[Call]], None],
        batching: Batching = ALONE,
        levels: Levels = Levels(),  # noqa: B008  immutable
    ) -> None:
        self._pool = pool
        self._on_execute = on_execute
        self._batching = batching
        self._largest = max(batching.preferred, default=batching.max_size)
        self._dispatch = self.dispatch  # bound once
        self._queue = Queue(levels, self._dispatch)
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._held = held(HOLD) if batching.max_size > 1 else 0
        # Whether a call that finds an instance free goes to it at once.
        self._straight = not (self._held or batching.delay_ns)
        self._simple = not (
            batching.delay_ns
            or batching.preferred not in ((), (batching.max_size,))
            or batching.equal_shape
            or batching.optional
        )
        # Executions that an instance is handed at once: what waits meanwhile makes a batch. Fewer
        # leave a quick one idle while its answers are written. A call goes alone to one that has
        # nothing to do, and with the others of its turn of the loop to one that has. Where there
        # are policies, nothing is handed ahead: it would have left the queue, and them.
        self._at_once = 1 if batching.max_size > 1 or not levels.plain else None
        self._ahead = 1 if not levels.plain else 4 if batching.max_size > 1 else None
        self._looked_ns = 0
        # A full queue refuses: nothing waits in it that could be executed.
        self._gathers = self._straight and not levels.bounded
        self._halves = self._gathers and self._simple and self._ahead == 4

    def submit(self, call: Call) -> None:
        if self._closed:
            text = "Server is stopping, scheduler for model has stopped accepting new inference "
            call.fail(InferenceError(Status.UNAVAILABLE, f"{call.request.label}{text}requests"))
            return
        # A time-out may be over already: the queue looks.
        if self._straight and not (self._queue.count or call.request.timeout_us):
            instance = self._pool.take(self._at_once)
            if instance is not None:
                call.taken_ns = time.monotonic_ns()
                calls = [call]
                self._on_execute(calls)
                instance.execute(calls, self._dispatch)
                return
        queue = self._queue
        try:
            queue.put(call)
        except InferenceError as error:
            call.fail(error)
            return
        # Where others wait already, whoever comes free looks, or breaks.
        if not self._gathers or queue.timed or (queue.count == 1 and self._pool.broken):
            self.dispatch()
        elif queue.count == 1:
            self._looked_ns = call.received_ns
            self._pool.turn.add(self._dispatch)
        elif call.received_ns - self._looked_ns > _PATIENCE_NS:
            self._looked_ns = call.received_ns
            self.dispatch()

    def pending(self) -> int:
        return self._queue.count

    def drain(self) -> list[Call]:
        """Give up all that wait, for others to end them."""
        return self._queue.take(self._queue.count)

    def close(self) -> None:
        self._closed = True

    def dispatch(self) -> None:
        queue = self._queue
        while queue.count:
            for call, error in queue.expire():
                call.fail(error)
            if queue.count < self._held:
                return
            if self._held:
                self._held = 0
                self._straight = not self._batching.delay_ns
            halved = (
                self._halves
                and queue.count >= _HALVED
                and queue.size < self._largest
                and self._pool.hungry
            )
            instance = self._pool.take(self._ahead)
            if instance is None:
                self._fail_all(self._pool.broken)
                self._wake_at(queue.next_expiry)
                return
            count, wait_until = self._gather() if self._batching.max_size > 1 else (1, 0)
            if wait_until:
                expiry = queue.next_expiry
                self._wake_at(min(wait_until, expiry) if expiry else wait_until)
                return
            calls = queue.take((count + 1) // 2 if halved else count)
            if not calls:
                return
            self._execute(calls, instance)

    def _execute(self, calls: list[Call], instance: Executor) -> None:
        now = time.monotonic_ns()
        for call in calls:
            call.taken_ns = now
        self._on_execute(calls)
        instance.execute(calls, self._dispatch)

    def _gather(self) -> tuple[int, int]:
        """How many calls to send now, or until when (monotonic ns) to wait for more.

        The rules are those of Triton's DynamicBatchScheduler::GetDynamicBatch.
        """
        if self._simple:
            return self._fill(), 0
        batching = self._batching
        count = size = best_count = 0
        full = False
        like: Any = None
        oldest = 0
        for call in self._queue:
            if count == 0:
                like, oldest = batching.likeness(call.request), call.received_ns
            else:
                if size + call.batch_size > self._largest and not best_count:
                    best_count = count
                too_large = size + call.batch_size > batching.max_size
                if too_large or batching.likeness(call.request) != like:
                    full = True
                    break
            oldest = min(oldest, call.received_ns)
            count += 1
            size += call.batch_size
            if size in batching.preferred:
                best_count = count
        waited = time.monotonic_ns() - oldest
        late = batching.delay_ns != 0 and waited >= batching.delay_ns
        if best_count and not late:
            return best_count, 0
        if full or late or size >= self._largest or not batching.delay_ns:
            return count, 0
        return 0, oldest + batching.delay_ns

    def _fill(self) -> int:
        """The same where calls go together as they come: nothing to compare and nothing to wait
        for."""
        if self._queue.size <= self._largest:
            return self._queue.count
        count = size = 0
        for call in self._queue:
            size += call.batch_size
            if size > self._largest and count:
                break
            count += 1
        return count

    def _wake_at(self, moment: int) -> None:
        """Dispatch again at a moment of the monotonic clock (ns); 0 for not at all."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if moment:
            delay = max(0, moment - time.monotonic_ns()) / 1e9
            self._timer = asyncio.get_running_loop().call_later(delay, self.dispatch)

    def _fail_all(self, error: InferenceError | None) -> None:
        if error is not None:
            for call in self.drain():
                call.fail(error)
