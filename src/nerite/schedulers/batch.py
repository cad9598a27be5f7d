"""Triton's default scheduler: calls go one by one, in order, to whichever instance has room."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status
from nerite.schedulers.base import Pool


class BatchScheduler:
    """First in, first out over the instances of one model. Belongs to the server's loop.

    `on_execute` is told of every execution, for the statistics.
    """

    def __init__(self, model: str, pool: Pool, on_execute: Callable[[list[Call]], None]) -> None:
        self._model = model
        self._pool = pool
        self._on_execute = on_execute
        self._queue: deque[Call] = deque()
        self._closed = False

    def submit(self, call: Call) -> None:
        if self._closed:
            text = f"model '{self._model}' is being unloaded and takes no more requests"
            call.fail(InferenceError(Status.UNAVAILABLE, text))
            return
        self._queue.append(call)
        self.dispatch()

    def pending(self) -> int:
        return len(self._queue)

    def close(self) -> None:
        self._closed = True

    def dispatch(self) -> None:
        queue = self._queue
        while queue:
            if queue[0].cancelled:
                call = queue.popleft()
                call.fail(InferenceError(Status.CANCELLED, f"{call.request.label}cancelled"))
                continue
            instance = self._pool.take()
            if instance is None:
                self._fail_all(self._pool.broken)
                return
            call = queue.popleft()
            call.taken_ns = time.monotonic_ns()
            calls = [call]
            self._on_execute(calls)
            instance.execute(calls, self.dispatch)

    def _fail_all(self, error: InferenceError | None) -> None:
        while error is not None and self._queue:
            self._queue.popleft().fail(error)
