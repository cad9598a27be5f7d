"""Coroutines: the event loop behind an `async def execute`, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any, Callable, Coroutine

from nerite.backends.python.errors import RAISED

Ended = Callable[[Any, Any], None]


class Coroutines:
    """Made for the first coroutine, and then kept: what a model has opened stays usable."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Wait for a coroutine; what it returns, or raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._running()).result()

    def start(self, coroutine: Coroutine[Any, Any, Any], ended: Ended) -> None:
        """Have a coroutine run beside others; `ended` gets its error or None, and its result."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running())

        def done(_: Any) -> None:
            if future.cancelled():
                ended(asyncio.CancelledError(), None)
            else:
                error = future.exception()
                ended(error, None if error is not None else future.result())

        future.add_done_callback(done)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_run, args=(self._loop,), name="execute", daemon=True)
            thread.start()
        return self._loop

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Until it is stopped: what ends a task by `sys.exit()` is thrown out of the loop as well."""
    stopped = False
    while not stopped:
        with contextlib.suppress(RAISED):
            loop.run_forever()
            stopped = True
    loop.close()
