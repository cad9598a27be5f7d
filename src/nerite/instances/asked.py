"""Asked: the server's half of what the code of one instance asks of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status
from nerite.core.home import Home
from nerite.core.request import Request, Trace
from nerite.instances.orders import Orders

# Seconds from a question to the first look whether it can end, and from look to look.
_FIRST_LOOK, _NEXT_LOOK = 0.05, 1.0

Answered = Callable[[int, Answer], None]
Replied = Callable[[int, Any], None]


class _Question(NamedTuple):
    """batch: the execution that asks, 0 where that is not known."""

    call: Call
    batch: int


class Asked:
    """Questions are numbered by who asks. Belongs to the server's loop.

    `answered` is given each answer, `replied` what an order came to: a result or InferenceError.
    """

    def __init__(self, home: Home, answered: Answered, replied: Replied) -> None:
        self._home = home
        self._answered = answered
        self._replied = replied
        self._orders = Orders(home)
        self._open: dict[int, _Question] = {}
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._watch: asyncio.TimerHandle | None = None
        self._working: set[asyncio.Task[None]] = set()
        self._executed: dict[int, list[Call]] = {}

    def waiting(self, batches: Mapping[int, Any]) -> list[Call]:
        """What executions that are not done wait for."""
        return [one.call for one in self._open.values() if one.batch in batches]

    def executed(self, batch: int, calls: list[Call]) -> None:
        """A batch is done; a decoupled model may work on, and ask for that."""
        for old in [one for one, its in self._executed.items() if all(c.ended for c in its)]:
            del self._executed[old]
        self._executed[batch] = calls

    def ask(
        self,
        number: int,
        batch: int,
        request: Request,
        many: bool,
        parents: Sequence[Call] | None,
    ) -> None:
        """parents: what is being executed; None where that is done, or not known. Once all of
        those are cancelled, so is this."""
        if parents is None:
            parents = self._executed.get(batch, [])
        request = _traced(request, parents)
        try:
            if not many and self._home.decoupled(request.model, request.version):
                raise InferenceError(
                    Status.UNSUPPORTED,
                    f"Model {request.model} is using the decoupled. The current BLS request call "
                    "doesn't support models using the decoupled transaction policy. Please use "
                    "'decoupled=True' argument to the 'exec' or 'async_exec' calls for decoupled "
                    "models.'",
                )
            # Before it is asked, for the answer may be there at once.
            self._open[number] = _Question(_ASKING, batch)
            call = self._home.submit(request, partial(self._deliver, number))
        except InferenceError as error:
            text = f"Model {request.model} - Error when running inference: {error.message}"
            self._open.pop(number, None)
            self._answered(number, InferenceError(error.status, text))
            return
        if number not in self._open:
            return
        self._open[number] = _Question(call, batch)
        for parent in parents:
            parent.on_cancel(partial(self._parent_cancelled, number, parents))
        if self._watch is None:
            self._watch = self._loop.call_later(_FIRST_LOOK, self._look)

    def _look(self) -> None:
        """Refuse what would wait for ever, which the next answer may make of what is asked now."""
        self._watch = None
        for number, question in list(self._open.items()):
            if self._home.endless(question.call):
                self._refuse(number, question.call.request.model)
        if self._open:
            self._watch = self._loop.call_later(_NEXT_LOOK, self._look)

    def _refuse(self, number: int, model: str) -> None:
        question = self._open.pop(number)
        question.call.cancel()
        text = (
            f"Model {model} - Error when running inference: all instances of '{model}', or of a "
            "step of it, are busy with requests that wait for this one, which would wait for ever. "
            "Give the model more instances (instance_group), or do not ask it from a model that it "
            "asks"
        )
        self._answered(number, InferenceError(Status.UNAVAILABLE, text))

    def _parent_cancelled(self, number: int, parents: Sequence[Call]) -> None:
        if all(parent.cancelled or parent.ended for parent in parents):
            self.cancel(number)

    def cancel(self, number: int) -> None:
        question = self._open.get(number)
        if question is not None:
            question.call.cancel()

    def _deliver(self, number: int, call: Call, answer: Answer) -> None:
        """An answer to a question, in whatever thread gives it."""
        if threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                self._loop.call_soon_threadsafe(self._deliver, number, call, answer)
            return
        if number not in self._open:
            return
        if isinstance(answer, InferenceError) or answer.final:
            del self._open[number]
        self._answered(number, answer)

    def order(self, number: int, what: str, arguments: Mapping[str, Any]) -> None:
        """Do something; the reply follows, unless `number` is 0."""
        try:
            result = self._orders.take(what, arguments)
        except InferenceError as error:
            self._reply(number, error)
            return
        if not asyncio.iscoroutine(result):
            self._reply(number, result)
            return
        task = self._loop.create_task(self._finish(number, result))
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _finish(self, number: int, working: Any) -> None:
        try:
            self._reply(number, await working)
        except InferenceError as error:
            self._reply(number, error)

    def _reply(self, number: int, result: Any) -> None:
        if number:
            self._replied(number, result)

    def close(self) -> None:
        """Who asked is gone: cancel what is open, and let go of its metrics."""
        if self._watch is not None:
            self._watch.cancel()
        questions, self._open = self._open, {}
        for question in questions.values():
            question.call.cancel()
        self._orders.close()


def _nobody(call: Call, answer: Answer) -> None:
    pass


# Stands for a call while it is being asked.
_ASKING = Call(Request("", {}), _nobody)
_ASKING.fail(InferenceError(Status.INTERNAL, ""))


def _traced(request: Request, parents: Sequence[Call]) -> Request:
    """A question that is part of a traced request takes part in its trace."""
    if request.trace is None:
        return request
    for parent in parents:
        trace = parent.request.trace
        if trace is not None and not isinstance(trace, str):
            return _child(trace, request)
    return request._replace(trace=None)


def _child(trace: Trace, request: Request) -> Request:
    asked: Request = trace.child(request)
    return asked
