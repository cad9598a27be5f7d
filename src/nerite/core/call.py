"""Call and Responses: the two ends of one question.

Whoever must answer holds the Call, whoever asked holds the Responses. A Call ends exactly
once: by its final response, by an error, or by being dropped, which is an error too.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator
from typing import Callable, Union

from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response

Answer = Union[Response, InferenceError]


class Timing:
    """When a call passed its stations, in nanoseconds of `time.monotonic_ns`; 0 = not yet."""

    __slots__ = ("ended", "received", "taken")

    def __init__(self) -> None:
        self.received = time.monotonic_ns()
        self.taken = 0  # left the queue for an instance
        self.ended = 0


class Call:
    """One request in flight, seen by whoever must answer. Safe from any thread."""

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_deliver",
        "_ended",
        "_lock",
        "_watchers",
        "observe",
        "request",
        "timing",
    )

    def __init__(self, request: Request, deliver: Callable[[Answer], None]) -> None:
        self.request = request
        self.timing = Timing()
        self.observe: Callable[[Call, Answer], None] | None = None  # statistics look on here
        self._deliver = deliver
        self._lock = threading.Lock()
        self._ended = False
        self._cancelled = False
        self._watchers: list[Callable[[], None]] = []

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def send(self, response: Response) -> bool:
        """Give an answer; False when the call has ended already and the answer is dropped."""
        return self._end(response) if response.final else self._answer(response)

    def fail(self, error: InferenceError) -> bool:
        """End with an error; False when the call has ended already."""
        return self._end(error)

    def cancel(self) -> None:
        """Nobody waits for the answer any more: tell those who work on it, once."""
        with self._lock:
            if self._cancelled or self._ended:
                return
            self._cancelled = True
            watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher()

    def on_cancel(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` when the call is cancelled, at once if it already is."""
        with self._lock:
            if not self._cancelled:
                self._watchers.append(watcher)
                return
        watcher()

    def _answer(self, response: Response) -> bool:
        if self._ended:
            return False
        if self.observe is not None:
            self.observe(self, response)
        self._deliver(response)
        return True

    def _end(self, answer: Answer) -> bool:
        with self._lock:
            if self._ended:
                return False
            self._ended = True
            self._watchers = []
        self.timing.ended = time.monotonic_ns()
        if self.observe is not None:
            self.observe(self, answer)
        self._deliver(answer)
        return True

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            self.fail(InferenceError(Status.INTERNAL, "the model dropped the request unanswered"))


class Responses:
    """The same call seen by whoever asked: iterate it, or take `.one()`. Belongs to one loop.

    Raises the call's InferenceError where the answers end in one. Closing it before the end
    cancels the call.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._answers: deque[Answer] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._done = False
        # Weak, so that a Call which nobody works on any more can notice and fail itself.
        self._call: weakref.ref[Call] | None = None

    @classmethod
    def ask(cls, request: Request) -> tuple[Call, Responses]:
        """Both ends of a new call; must run on the loop that will read the answers."""
        responses = cls()
        call = Call(request, responses._push)
        responses._call = weakref.ref(call)
        return call, responses

    def _push(self, answer: Answer) -> None:
        self._answers.append(answer)
        if threading.get_ident() == self._thread:
            self._wake()
            return
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody is left to read it
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[Response]:
        return self

    async def __anext__(self) -> Response:
        if self._done:
            raise StopAsyncIteration
        while not self._answers:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self.close()
                raise
            finally:
                self._waiter = None
        answer = self._answers.popleft()
        if isinstance(answer, InferenceError):
            self._done = True
            raise answer
        self._done = answer.final
        return answer

    async def one(self) -> Response:
        """The only answer; an INTERNAL error when there are several or none."""
        answers = [response async for response in self if response.outputs or response.final]
        full = [response for response in answers if response.outputs]
        if len(full) > 1:
            text = f"expected one response, got {len(full)}"
            raise InferenceError(Status.INTERNAL, text)
        return full[0] if full else answers[-1]

    def close(self) -> None:
        """Nobody reads further: an unfinished call is cancelled."""
        self._done = True
        call = self._call() if self._call is not None else None
        if call is not None:
            call.cancel()
