"""Asking other models from a model.py (BLS), and having the server load them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections import deque
from typing import Any, Callable, Mapping

from nerite.backends.python.errors import TritonModelException
from nerite.backends.python.response import InferenceResponse
from nerite.backends.python.surroundings import here
from nerite.core.call import Answer, Call, one_of
from nerite.core.errors import InferenceError
from nerite.core.home import Outside
from nerite.core.request import Request, Response


class ResponseIterator:
    """The responses to one request, as they come; iterated again it gives them once more."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._changed = threading.Condition()
        self._answers: deque[Answer] = deque()
        self._seen: list[InferenceResponse] = []
        self._next = 0
        self._ended = False
        self._call: Call | None = None
        self._wake: Any = None
        self._wake_when_whole = False

    def __iter__(self) -> ResponseIterator:
        if self._ended and not self._answers and self._next >= len(self._seen):
            self._next = 0
        return self

    def __next__(self) -> InferenceResponse:
        if self._next < len(self._seen):
            self._next += 1
            return self._seen[self._next - 1]
        self._attend(self._is_ready)
        with self._changed:
            self._changed.wait_for(self._is_ready)
            if not self._answers:
                raise StopIteration("Iteration is done for the responses.")
            answer = self._answers.popleft()
        response = InferenceResponse.of(answer)
        self._seen.append(response)
        self._next += 1
        return response

    def cancel(self) -> None:
        """Nobody needs the responses that are still to come."""
        if self._call is not None:
            self._call.cancel()

    def only(self) -> InferenceResponse:
        """The one response, once all is said."""
        self._attend(self._is_whole)
        with self._changed:
            self._changed.wait_for(self._is_whole)
            answers = list(self._answers)
        try:
            return InferenceResponse.of(one_of([_response(answer) for answer in answers]))
        except InferenceError as error:
            return InferenceResponse.of(error)

    def _is_ready(self) -> bool:
        return bool(self._answers) or self._ended

    def _is_whole(self) -> bool:
        return self._ended

    def _attend(self, done: Callable[[], bool]) -> None:
        if not done():
            self._outside.attend(done)

    def when_ready(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], *, whole: bool
    ) -> None:
        """Resolve `future` with the first response, or when `whole` with the last."""

        def resolve() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # who gave up may have closed its loop
                loop.call_soon_threadsafe(resolve)

        with self._changed:
            if not (self._ended or (self._answers and not whole)):
                self._wake = wake
                self._wake_when_whole = whole
                return
        resolve()

    def begin(self, question: Request, *, decoupled: bool, attends: bool) -> None:
        ask = self._outside.ask
        try:
            self._call = ask(question, self._take, decoupled=decoupled, attends=attends)
        except InferenceError as error:
            self._take(None, error)

    def _take(self, call: Call | None, answer: Answer) -> None:
        """An answer, in the thread that reads them."""
        final = isinstance(answer, InferenceError) or answer.final
        with self._changed:
            self._answers.append(answer)
            self._ended = final
            wake = self._wake if final or not self._wake_when_whole else None
            if wake is not None:
                self._wake = None
            self._changed.notify_all()
        if wake is not None:
            wake()


def _response(answer: Answer) -> Response:
    if isinstance(answer, InferenceError):
        raise answer
    return answer


def ask(question: Request, *, decoupled: bool, attends: bool) -> ResponseIterator:
    """Send a question. Raises TritonModelException outside of `execute`.

    attends: the answers are waited for by the iterator, and not by `when_ready`.
    """
    surroundings = here()
    if not surroundings.serving:
        raise TritonModelException("BLS is only supported during the 'execute' function.")
    iterator = ResponseIterator(surroundings.spec.outside)
    iterator.begin(question, decoupled=decoupled, attends=attends)
    return iterator


def load_model(model_name: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
    """Load or reload a model of the server, which must be in explicit mode.

    config: a config in JSON in place of its config.pbtxt. files: contents by "file:1/model.py",
    in place of its folder. Raises TritonModelException.
    """
    sent = {name: base64.b64encode(content).decode() for name, content in (files or {}).items()}
    if config:
        config = _json_object(config)
    _order("load_model", {"name": model_name, "config": config, "files": sent})


def unload_model(model_name: str, unload_dependents: bool = False) -> None:
    """Unload a model of the server, and those that need it too. Raises TritonModelException."""
    _order("unload_model", {"name": model_name, "dependents": unload_dependents})


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    """Whether a model may be asked; one that is not there is not."""
    return bool(_order("is_model_ready", {"name": model_name, "version": model_version}))


def _order(what: str, arguments: Mapping[str, Any]) -> Any:
    for name in ("name", "config", "version"):
        if not isinstance(arguments.get(name, ""), str):
            raise TypeError(f"{what}: {name} must be a string")
    try:
        return here().spec.outside.order(what, arguments)
    except InferenceError as error:
        raise TritonModelException(error.message) from None


def _json_object(config: str) -> str:
    try:
        json.loads(config)
    except ValueError as error:
        raise TritonModelException(f"load_model: the config is not JSON: {error}") from None
    return config
