"""A worker's questions and orders to the server: asked from any thread of the user's code."""

from __future__ import annotations

import itertools
import os
import queue
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

from nerite.core.call import Call, Deliver
from nerite.core.errors import InferenceError, Status
from nerite.core.layout import Buffer
from nerite.core.request import Request
from nerite.instances import wire

_batch: ContextVar[int] = ContextVar("nerite_batch", default=0)


class Posting(Protocol):
    """Writes messages, from any thread."""

    def post(self, message: list[Buffer]) -> None: ...

    def post_entries(self, kind: int, entries: list[wire.Entry]) -> None: ...


class Reading(Protocol):
    """Reads messages."""

    def lend(self) -> None:
        """Have another thread than the main one do it."""
        ...

    def attend(self, done: Callable[[], bool]) -> None:
        """Do it in this thread, as Outside has it."""
        ...


class Questions:
    """Outside, through the worker's socket."""

    def __init__(self, heads: wire.Heads, outbox: Posting, inbox: Reading) -> None:
        self._lend = inbox.lend
        self.attend = inbox.attend
        self._heads = heads
        self._post = outbox.post
        self._post_entries = outbox.post_entries
        self._numbers = itertools.count(1)
        self._asked: dict[int, Call] = {}
        self._replies: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._executing = 0
        self._process = os.getpid()
        self.decoupled = False

    def begin(self, batch: int) -> None:
        """What this thread executes from now on, and what it asks, is of that batch."""
        self._executing = batch
        _batch.set(batch)

    def ask(self, request: Request, deliver: Deliver, *, decoupled: bool, attends: bool) -> Call:
        check_process(self._process)
        number = next(self._numbers)
        call = Call(request, deliver)
        head, payload = self._heads.of_question(request)
        self._asked[number] = call
        call.on_cancel(partial(self._cancel, number))
        if not attends:
            self._lend()
        # A thread that the model has started works for the execution that waits for it; of a
        # decoupled model nothing need wait.
        batch = _batch.get() or (0 if self.decoupled else self._executing)
        flags = wire.MANY if decoupled else 0
        entry = wire.Entry(number, batch, flags=flags, head=head, payload=payload)
        self._post_entries(wire.QUESTIONS, [entry])
        return call

    def _cancel(self, number: int) -> None:
        if number in self._asked:
            self._post(wire.encode(wire.CANCEL, {"number": number}))

    def order(self, what: str, arguments: Mapping[str, Any]) -> Any:
        check_process(self._process)
        number = next(self._numbers)
        replies = self._replies[number] = queue.SimpleQueue()
        fields = {"number": number, "what": what, "arguments": arguments}
        self._lend()
        self._post(wire.encode(wire.ORDER, fields))
        reply = replies.get()
        if "error" in reply:
            status, text = reply["error"]
            raise InferenceError(Status[status], text)
        return reply["result"]

    def tell(self, what: str, arguments: Mapping[str, Any]) -> None:
        if os.getpid() == self._process:
            fields = {"number": 0, "what": what, "arguments": arguments}
            self._post(wire.encode(wire.ORDER, fields))

    def answered(self, entries: list[wire.Entry]) -> None:
        """Answers to questions, in the thread that reads."""
        for entry in entries:
            final = entry.flags & wire.LAST
            call = self._asked.pop(entry.number, None) if final else self._asked.get(entry.number)
            if call is None:
                continue
            answer = self._heads.answer(entry)
            if isinstance(answer, InferenceError):
                call.fail(answer)
            else:
                call.send(answer)

    def replied(self, fields: dict[str, Any]) -> None:
        """The reply to an order, in the thread that reads."""
        self._replies.pop(fields["number"]).put(fields)


def check_process(own: int) -> None:
    """Raises InferenceError in another process than `own`: it has our memory, and neither our
    threads nor a place of its own in what we read, so it would wait for ever."""
    if os.getpid() != own:
        raise InferenceError(
            Status.UNSUPPORTED,
            "a process that the model has forked cannot ask the server: have it return what it "
            "needs, and ask from the model's own process",
        )
