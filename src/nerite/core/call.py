"""Call and Responses: the two ends of one question.

Whoever must answer holds the Call, whoever asked gave it a function to deliver answers to, or
holds Responses, which is that function for those who await. A Call ends exactly once: by its
final response, by an error, or by being dropped, which is an error too.
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

from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request, Response

Answer = Union[Response, InferenceError]
Deliver = Callable[["Call", Answer], None]

# Not an answer: what a backend's call delivers when it is to be executed once more.
RESCHEDULED = Response()


def _nowhere(call: Call, answer: Answer) -> None:
    """Where the answers of a call go that has ended."""


def _refuse(call: Call) -> None:
    text = "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model is "
    remedy = "Set 'iterative_sequence: true' in its sequence_batching."
    call.fail(invalid(f"{text}not configured to handle such a flag. {remedy}"))


def _ignore(held: bool) -> None:
    """Nobody can wait."""


class Call:
    """One request in flight, seen by whoever must answer. Safe from any thread.

    `deliver` is called with every answer, in the thread that gives it. The times are nanoseconds
    of `time.monotonic_ns`, 0 while they have not come: received, taken from the queue (by an
    instance that tells it: when it began), ended. What the instance says of its own share:
    input_ns (reading tensors) and infer_ns (executing). The statistics' own: how many answers
    were given, when the last, and of the first call of an execution its size in batch items.

    again: takes a call whose backend rescheduled it; set by the schedulers that can do that.
    hold: asks whoever answers to wait with further answers (True), or to go on; set by those who
    can pass it on.
    """

    __slots__ = (
        "__weakref__",
        "_cancelled",
        "_deliver",
        "_ended",
        "_lock",
        "_watchers",
        "again",
        "answered_ns",
        "answers",
        "batch_size",
        "ended_ns",
        "execution_size",
        "hold",
        "infer_ns",
        "input_ns",
        "received_ns",
        "request",
        "taken_ns",
    )

    def __init__(self, request: Request, deliver: Deliver, batch_size: int = 1) -> None:
        self.request = request
        self.batch_size = batch_size
        self.received_ns = time.monotonic_ns()
        self.taken_ns = self.ended_ns = self.input_ns = self.infer_ns = 0
        self.answers = self.answered_ns = self.execution_size = 0
        self.again: Callable[[Call], None] = _refuse
        self.hold: Callable[[bool], None] = _ignore
        self._deliver = deliver
        self._lock = threading.Lock()
        self._ended = False
        self._cancelled = False
        self._watchers: list[Callable[[], None]] | None = None

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def send(self, response: Response) -> bool:
        """Give an answer; False when the call has ended already and the answer is dropped."""
        if response.final:
            return self._end(response)
        if self._ended:
            return False
        self._deliver(self, response)
        return True

    def fail(self, error: InferenceError) -> bool:
        """End with an error; False when the call has ended already."""
        return self._end(error)

    def reschedule(self) -> bool:
        """What a backend does in place of answering: have the request executed once more, with
        neither start nor end of a sequence (Triton's RELEASE_RESCHEDULE). False as in `send`."""
        return self._end(RESCHEDULED)

    def put_back(self) -> None:
        """What an instance does with a call that its backend rescheduled."""
        with self._lock:
            self._watchers = None
        self.again(self)

    def redirect(self, through: Callable[[Deliver], Deliver]) -> None:
        """Have the answers pass through what `through` makes of where they went so far."""
        self._deliver = through(self._deliver)

    def cancel(self) -> None:
        """Nobody waits for the answer any more: tell those who work on it, once."""
        with self._lock:
            if self._cancelled or self._ended:
                return
            self._cancelled = True
            watchers, self._watchers = self._watchers, None
        for watcher in watchers or ():
            watcher()

    def on_cancel(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` when the call is cancelled, at once if it already is."""
        with self._lock:
            if not self._cancelled:
                if self._watchers is None:
                    self._watchers = []
                self._watchers.append(watcher)
                return
        watcher()

    def _end(self, answer: Answer) -> bool:
        with self._lock:
            if self._ended:
                return False
            self._ended = True
            self._watchers = None
        self.ended_ns = time.monotonic_ns()
        # Who asked holds the call, to cancel it, and is held no longer: a circle of the two would
        # keep every request until the garbage collector comes by.
        deliver, self._deliver = self._deliver, _nowhere
        deliver(self, answer)
        return True

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            self.fail(InferenceError(Status.INTERNAL, "the model dropped the request unanswered"))


def error_of(answer: Answer) -> InferenceError | None:
    """The error that an answer tells of, whether others follow it or not."""
    return answer if isinstance(answer, InferenceError) else answer.error


def one_of(answers: list[Response]) -> Response:
    """The only full answer of a call that has ended, else its empty end; raises its error."""
    for answer in answers:
        if answer.error is not None:
            raise answer.error
    full = [response for response in answers if response.outputs]
    if len(full) > 1:
        text = f"expected one response, got {len(full)}"
        raise InferenceError(Status.INTERNAL, text)
    return full[0] if full else answers[-1]


class Responses:
    """The answers to one call, for whoever awaits them: iterate, or take `.one()`.

    Belongs to the loop it was made on. Raises the call's InferenceError where the answers end in
    one. Closing it before the end cancels the call.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._answers: deque[Answer] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._done = False
        # Weak, so that a Call which nobody works on any more can notice and fail itself.
        self._call: weakref.ref[Call] | None = None

    def watch(self, call: Call) -> Responses:
        """The call that `close` cancels."""
        self._call = weakref.ref(call)
        return self

    def deliver(self, call: Call, answer: Answer) -> None:
        """What the Call delivers to; from any thread."""
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
        return one_of([one async for one in self])

    def close(self) -> None:
        """Nobody reads further: an unfinished call is cancelled."""
        self._done = True
        call = self._call() if self._call is not None else None
        if call is not None:
            call.cancel()
