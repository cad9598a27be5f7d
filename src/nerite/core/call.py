"""Call and Responses: the two ends of one question.

Whoever must answer holds the Call, whoever asked gave it a function to deliver answers to, or
holds Responses, which is that function for those who await. A Call ends exactly once: by its
final response, by an error, or by being dropped, which is an error too.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator
from time import monotonic_ns
from typing import Callable, Union

from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request, Response

Answer = Union[Response, InferenceError]
Deliver = Callable[["Call", Answer], None]

# Not an answer: what a backend's call delivers when it is to be executed once more.
RESCHEDULED = Response()

# One for all calls: cancelling is rare.
_cancelling = threading.Lock()


def _refuse(call: Call) -> None:
    text = "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model is "
    remedy = "Set 'iterative_sequence: true' in its sequence_batching."
    call.fail(invalid(f"{text}not configured to handle such a flag. {remedy}"))


class Call:
    """One request in flight, seen by whoever must answer. Safe from any thread.

    `deliver` is called with every answer, in the thread that gives it. The times are nanoseconds
    of `time.monotonic_ns`, 0 while they have not come: received, taken from the queue (by an
    instance that tells it: when it began), ended. What the instance says of its own share:
    input_ns (reading tensors) and infer_ns (executing). The statistics' own: how many answers
    were given, when the last, and of the first call of an execution its size in batch items.

    cancelled: nobody waits for the answer any more; set by `cancel`.
    holder: told when that happens; set by who has the call now, a queue or an instance.
    again: takes a call whose backend rescheduled it; set by the schedulers that can do that.
    hold: asks whoever answers to wait with further answers (True), or to go on; set by those who
    can pass it on.
    """

    # Of the class, for most calls never change them, and one is made for every request.
    taken_ns = ended_ns = input_ns = infer_ns = 0
    answers = answered_ns = execution_size = 0
    cancelled = False
    holder: Callable[[Call], None] | None = None
    again: Callable[[Call], None] | None = None
    hold: Callable[[bool], None] | None = None
    _watchers: tuple[Callable[[], None], ...] = ()

    def __init__(self, request: Request, deliver: Deliver, batch_size: int = 1) -> None:
        self.request = request
        self.batch_size = batch_size
        self.received_ns = monotonic_ns()
        # Whoever takes it out has ended the call, which one thread alone can. And who asked,
        # who holds the call to cancel it, is then held no longer: a circle of the two would keep
        # every request until the garbage collector comes by.
        self._to = [deliver]

    @property
    def ended(self) -> bool:
        return not self._to

    def send(self, response: Response) -> bool:
        """Give an answer; False when the call has ended already and the answer is dropped."""
        if response.final:
            return self._end(response)
        try:
            deliver = self._to[0]
        except IndexError:
            return False
        deliver(self, response)
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
        self._watchers = ()
        (self.again or _refuse)(self)

    def redirect(self, through: Callable[[Deliver], Deliver]) -> None:
        """Have the answers pass through what `through` makes of where they went so far."""
        if self._to:
            self._to[0] = through(self._to[0])

    def cancel(self) -> None:
        """Nobody waits for the answer any more: tell those who work on it, once."""
        with _cancelling:
            if self.cancelled or not self._to:
                return
            self.cancelled = True
            watchers, self._watchers = self._watchers, ()
        for watcher in watchers:
            watcher()
        if self.holder is not None:
            self.holder(self)

    def on_cancel(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` when the call is cancelled, at once if it already is."""
        with _cancelling:
            if not self.cancelled:
                self._watchers = (*self._watchers, watcher)
                return
        watcher()

    def _end(self, answer: Answer) -> bool:
        try:
            deliver = self._to.pop()
        except IndexError:
            return False
        if self._watchers:
            self._watchers = ()
        self.ended_ns = monotonic_ns()
        deliver(self, answer)
        return True

    def __del__(self) -> None:
        if getattr(self, "_to", None):
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
