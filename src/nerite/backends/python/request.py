"""pb_utils' requests: what `execute` is given, and what a model asks of others (BLS)."""

from __future__ import annotations

import asyncio
import enum
import json
from typing import Any, Awaitable, Mapping, Sequence, Union

from nerite.backends.python.bls import ResponseIterator, ask
from nerite.backends.python.errors import TritonModelException, message_of
from nerite.backends.python.pb_tensor import Tensor
from nerite.backends.python.response import (
    InferenceResponse,
    InferenceResponseSender,
    Received,
    deliver,
    parameters_of,
    tensor_list,
)
from nerite.core.call import Call
from nerite.core.request import Parameter, Request

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2


class MemoryType(enum.Enum):
    TRITONSERVER_MEMORY_GPU = 0
    TRITONSERVER_MEMORY_CPU = 1


TRITONSERVER_MEMORY_GPU = MemoryType.TRITONSERVER_MEMORY_GPU
TRITONSERVER_MEMORY_CPU = MemoryType.TRITONSERVER_MEMORY_CPU


class PreferredMemory:
    """Where a model would like the answer's tensors. They come on the CPU; `to_dlpack` and
    torch's `.to` move them."""

    def __init__(self, preferred_memory_type: MemoryType, preferred_device_id: int = 0) -> None:
        if not isinstance(preferred_memory_type, MemoryType):
            found = type(preferred_memory_type).__name__
            raise TypeError(f"PreferredMemory: a TRITONSERVER_MEMORY_* is needed, not {found}")
        self.memory_type = preferred_memory_type
        self.device_id = preferred_device_id


class InferenceTrace:
    """What a model may continue a request's trace with, its own or by asking others."""

    def __init__(self, context: str | None = None, *, traced: bool = False) -> None:
        self._context = context
        self.traced = traced or bool(context)

    def get_context(self) -> str | None:
        """W3C's headers as a JSON object; None when the request is not traced, or not there."""
        return self._context

    @property
    def context(self) -> str:
        """What tells the server which trace to continue."""
        return self._context or "{}"


class _Required:
    """Stands where an argument is missing, in Triton's order of arguments."""


_REQUIRED: Any = _Required()
_UNTRACED = InferenceTrace()


class InferenceRequest:
    """One request: as `execute` gets it, or made by a model to ask another one.

    Made by a model it takes the arguments below, and `exec` or `async_exec` sends it.
    model_version: -1 means the newest. timeout: microseconds, 0 means none.
    """

    def __init__(
        self,
        request_id: str = "",
        correlation_id: Union[int, str] = 0,  # noqa: UP007
        inputs: Sequence[Tensor] = _REQUIRED,
        requested_output_names: Sequence[str] = _REQUIRED,
        model_name: str = _REQUIRED,
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace = _UNTRACED,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> None:
        given = (("inputs", inputs), ("requested_output_names", requested_output_names))
        missing = [
            name for name, value in (*given, ("model_name", model_name)) if value is _REQUIRED
        ]
        if missing:
            raise TypeError(f"InferenceRequest lacks {', '.join(missing)}")
        where = f"for request with id '{request_id}' and model name '{model_name}'"
        self._inputs = tensor_list(inputs, f"Input tensor {where} should not be empty.")
        if isinstance(correlation_id, bool) or not isinstance(correlation_id, (int, str)):
            raise TypeError("Correlation ID must be integer or string")
        _check_integers(model_version=model_version, flags=flags, timeout=timeout)
        self._request = Request(
            model=message_of(_text(model_name), "InferenceRequest: model_name"),
            inputs={},
            version="" if model_version < 0 else str(model_version),
            id=message_of(_text(request_id), "InferenceRequest: request_id"),
            outputs=_names(requested_output_names, where),
            parameters=parameters_of(parameters),
            timeout_us=timeout,
            sequence_id=correlation_id,
        )
        self._flags = flags
        self._trace = trace

    @classmethod
    def of(cls, call: Call, received: Received) -> InferenceRequest:
        """The request of a call that has come in."""
        made = cls.__new__(cls)
        made._call = call
        made._request = call.request
        made._received = received
        return made

    # Of the class, for what comes in mostly leaves them as they are.
    _received = Received((), False)
    _call: Call | None = None
    _inputs: list[Tensor] | None = None
    _flags: int | None = None
    _trace: InferenceTrace | None = None
    _sender: InferenceResponseSender | None = None
    release_flags = TRITONSERVER_REQUEST_RELEASE_ALL

    def inputs(self) -> list[Tensor]:
        if self._inputs is None:
            arrays = self._request.inputs
            self._inputs = [Tensor.of(name, arrays[name]) for name in arrays]
        return self._inputs

    def requested_output_names(self) -> set[str]:
        """The outputs that are wanted: all of them where the client named none."""
        return set(self._request.outputs or self._received.outputs)

    def request_id(self) -> str:
        return self._request.id

    def correlation_id(self) -> int | str:
        return self._request.sequence_id

    def model_name(self) -> str:
        return self._request.model

    def flags(self) -> int:
        if self._flags is None:
            return self._request.sequence_start | self._request.sequence_end << 1
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Of a request to another model: TRITONSERVER_REQUEST_FLAG_SEQUENCE_START and _END."""
        self._flags = flags

    def timeout(self) -> int:
        return self._request.timeout_us

    def parameters(self) -> str:
        """The parameters as a JSON object."""
        return json.dumps(dict(self._request.parameters))

    def trace(self) -> InferenceTrace:
        if self._trace is None:
            self._trace = _UNTRACED if self._request.trace is None else _trace_of(self._request)
        return self._trace

    def is_cancelled(self) -> bool:
        return self._call is not None and self._call.cancelled

    def set_release_flags(self, flags: int) -> None:
        """TRITONSERVER_REQUEST_RELEASE_RESCHEDULE: `execute` wants to see this one again."""
        if flags not in (TRITONSERVER_REQUEST_RELEASE_ALL, TRITONSERVER_REQUEST_RELEASE_RESCHEDULE):
            raise TritonModelException(
                f"set_release_flags: {flags} is neither TRITONSERVER_REQUEST_RELEASE_ALL nor "
                "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE"
            )
        self.release_flags = flags

    def get_response_sender(self) -> InferenceResponseSender:
        if self._sender is None:
            if self._call is None:
                raise TritonModelException(
                    "Unable to send response. Response sender has no reference to the decoupled "
                    "state of the model."
                )
            self._sender = InferenceResponseSender(self._call, self._received)
        return self._sender

    def finish(self, response: InferenceResponse) -> None:
        """Give the response that `execute` has returned."""
        if self._sender is not None or self._call is None:
            self.get_response_sender().finish(response)
        else:
            deliver(self._call, response, self._received, True)

    def exec(self, decoupled: bool = False) -> Any:
        """Ask the model and wait: an InferenceResponse, or with `decoupled` an iterator of them.

        What goes wrong is told by the response's `error`.
        """
        iterator = ask(self._question(), decoupled=decoupled, attends=True)
        return iterator if decoupled else iterator.only()

    def async_exec(self, decoupled: bool = False) -> Awaitable[Any]:
        """The same for an `async def execute`."""
        loop = asyncio.get_running_loop()
        iterator = ask(self._question(), decoupled=decoupled, attends=False)
        first = loop.create_future()
        iterator.when_ready(loop, first, whole=not decoupled)
        return _settled(first, iterator, decoupled)

    def _question(self) -> Request:
        flags = self._flags or 0
        trace = self._trace or _UNTRACED
        return self._request._replace(
            inputs={tensor.name(): tensor.array() for tensor in self.inputs()},
            sequence_start=bool(flags & TRITONSERVER_REQUEST_FLAG_SEQUENCE_START),
            sequence_end=bool(flags & TRITONSERVER_REQUEST_FLAG_SEQUENCE_END),
            trace=trace if trace.traced else None,  # type: ignore[arg-type]
        )


def _check_integers(**given: Any) -> None:
    for name, number in given.items():
        if not isinstance(number, int):
            raise TypeError(f"InferenceRequest: {name} must be an integer")


async def _settled(ready: Awaitable[None], iterator: ResponseIterator, decoupled: bool) -> Any:
    try:
        await ready
    except asyncio.CancelledError:
        iterator.cancel()
        raise
    return iterator if decoupled else iterator.only()


def _text(name: Any) -> Any:
    """Triton's bindings take bytes for text, which is what a BYTES tensor has."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name


def _names(names: Any, where: str) -> tuple[str, ...]:
    if not isinstance(names, (list, tuple, set)):
        raise TypeError(f"requested_output_names must be a list, not {type(names).__name__}")
    texts = tuple(message_of(_text(name), "requested_output_names") for name in names)
    if not all(texts):
        raise TritonModelException(f"Requested output name {where} should not be empty.")
    return texts


def _trace_of(request: Request) -> InferenceTrace:
    context = request.trace if isinstance(request.trace, str) and request.trace != "{}" else None
    return InferenceTrace(context, traced=True)
