"""InferenceResponse, and the two iterators that give the responses to one request."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError
from tritonserver._api._errors import InvalidArgumentError, TritonError, error_of
from tritonserver._api._request import InferenceRequest
from tritonserver._api._tensor import Tensor, from_array

if TYPE_CHECKING:
    from tritonserver._api._model import Model


@dataclass
class InferenceResponse:
    """One answer. error: what went wrong, if something did. final: no more follow this one.

    The last answer of a decoupled model may have no outputs. classification_label: always None.
    """

    model: Model
    request_id: str | None = None
    parameters: Mapping[str, str | int | bool | float] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    error: TritonError | None = None
    classification_label: str | None = None
    final: bool = False


class _Iterator:
    """What both kinds of iterators share: from an Answer to an InferenceResponse.

    model: with the version that answers, once that is known.
    """

    def __init__(self, request: InferenceRequest, raise_on_error: bool) -> None:
        self._request = request
        self.model = request.model
        self._raise_on_error = raise_on_error
        self._complete = False
        self._call: weakref.ref[Call] | None = None

    def asked(self, call: Call) -> None:
        """What `cancel` cancels: weak, because a request which nobody works on any more must be
        able to notice and fail."""
        self._call = weakref.ref(call)

    def cancel(self) -> None:
        """Ask the model to stop; the answer may then be an error."""
        call = self._call() if self._call is not None else None
        if call is not None:
            self.model.on_loop(call.cancel)

    def _response(self, answer: Answer) -> InferenceResponse:
        response = InferenceResponse(self.model, self._request.request_id or "")
        if isinstance(answer, InferenceError):
            response.final, error = True, answer
        elif answer.error is not None:
            response.final, error = answer.final, answer.error
        else:
            response.final = answer.final
            response.parameters = dict(answer.parameters)
            response.outputs = {name: from_array(array) for name, array in answer.outputs.items()}
            return response
        response.error = error_of(error)
        response.error.args += (response,)
        return response

    def _finish(self, response: InferenceResponse) -> InferenceResponse:
        """What the iterator gives of a response: itself on the wanted device, or its error."""
        self._complete = response.final
        if response.error is not None and self._raise_on_error:
            raise response.error
        wanted = self._request.output_memory_type
        if wanted is not None:
            try:
                response.outputs = {
                    name: tensor.to_device(wanted) for name, tensor in response.outputs.items()
                }
            except TritonError as error:
                text = f"Memory type {wanted} not supported: {error}"
                raise InvalidArgumentError(text) from None
        return response


class ResponseIterator(_Iterator):
    """The responses to one request, in a plain thread. Raises TritonError where one is an error,
    unless told not to."""

    def __init__(self, request: InferenceRequest, raise_on_error: bool) -> None:
        super().__init__(request, raise_on_error)
        users = request.response_queue
        if users is not None and not isinstance(users, queue.SimpleQueue):
            raise InvalidArgumentError(f"response_queue must be a queue.SimpleQueue, not {users}")
        self._users = users
        self._responses: queue.SimpleQueue[InferenceResponse] = queue.SimpleQueue()

    def deliver(self, _: Call, answer: Answer) -> None:
        """What the call delivers to; from any thread."""
        response = self._response(answer)
        if self._users is not None:  # first: who has read all of ours finds all in theirs
            self._users.put(response)
        self._responses.put(response)

    def __iter__(self) -> ResponseIterator:
        return self

    def __next__(self) -> InferenceResponse:
        if self._complete:
            raise StopIteration
        return self._finish(self._responses.get())


class AsyncResponseIterator(_Iterator):
    """The responses to one request, on the loop it was made on. Raises TritonError where one is
    an error, unless told not to."""

    def __init__(self, request: InferenceRequest, raise_on_error: bool) -> None:
        super().__init__(request, raise_on_error)
        users = request.response_queue
        if users is not None and not isinstance(users, asyncio.Queue):
            raise InvalidArgumentError(f"response_queue must be an asyncio.Queue, not {users}")
        self._loop = asyncio.get_running_loop()
        self._responses: asyncio.Queue[InferenceResponse] = asyncio.Queue()
        # The user's first: who has read all of ours finds all in theirs.
        queues = (self._responses,) if users is None else (users, self._responses)
        self._puts: list[Callable[[Any], None]] = [one.put_nowait for one in queues]

    def deliver(self, _: Call, answer: Answer) -> None:
        """What the call delivers to; from any thread."""
        response = self._response(answer)
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody is left to read it
            for put in self._puts:
                self._loop.call_soon_threadsafe(put, response)

    def __aiter__(self) -> AsyncResponseIterator:
        return self

    async def __anext__(self) -> InferenceResponse:
        if self._complete:
            raise StopAsyncIteration
        return self._finish(await self._responses.get())
