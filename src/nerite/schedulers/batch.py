"""Triton's default scheduler: calls go one by one, in order, to whichever instance is free."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status
from nerite.schedulers.base import Executor, Pool

log = logging.getLogger(__name__)


class BatchScheduler:
    """First in, first out over the instances of one model. Belongs to one loop.

    `on_execute` is told of every execution, for the statistics.
    """

    def __init__(self, model: str, pool: Pool, on_execute: Callable[[], None]) -> None:
        self._model = model
        self._pool = pool
        self._on_execute = on_execute
        self._queue: deque[Call] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        pool.on_free = self._dispatch

    def submit(self, call: Call) -> None:
        if self._closed:
            text = f"model '{self._model}' is being unloaded and takes no more requests"
            call.fail(InferenceError(Status.UNAVAILABLE, text))
            return
        self._queue.append(call)
        self._dispatch()

    def pending(self) -> int:
        return len(self._queue)

    async def close(self) -> None:
        self._closed = True
        while self._queue or self._running:
            await asyncio.wait(self._running)

    def _dispatch(self) -> None:
        while self._queue:
            if self._queue[0].cancelled:
                call = self._queue.popleft()
                call.fail(InferenceError(Status.CANCELLED, f"{call.request.label}cancelled"))
                continue
            instance = self._pool.take()
            if instance is None:
                return
            run = self._run(instance, self._queue.popleft())
            task = asyncio.get_running_loop().create_task(run)
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, instance: Executor, call: Call) -> None:
        call.timing.taken = time.monotonic_ns()
        self._on_execute()
        try:
            await instance.execute([call])
        except Exception as error:  # an instance must not take the model's queue with it
            log.exception("execution failed in '%s'", self._model)
            call.fail(InferenceError(Status.INTERNAL, f"{type(error).__name__}: {error}"))
        finally:
            self._pool.put(instance)
