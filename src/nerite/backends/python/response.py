"""pb_utils' responses: what a model answers with, and what sends it."""

from __future__ import annotations

import json
import threading
import time
from typing import Any, Mapping, NamedTuple, Sequence

from nerite.backends.python.errors import TritonError, TritonModelException
from nerite.backends.python.pb_tensor import Tensor
from nerite.core.call import Answer, Call, error_of
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Parameter, Response
from nerite.core.text import sayable

TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1


class InferenceResponse:
    """What one request is answered with: tensors, or an error; and parameters.

    Raises TritonModelException for parameters that are no dict of bool, int or str.
    """

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> None:
        self._tensors = tensor_list(
            output_tensors, "Output tensor for inference response should not be empty."
        )
        if error is not None and not isinstance(error, TritonError):
            found = type(error).__name__
            raise TypeError(f"InferenceResponse: error must be a TritonError, not {found}")
        self._error = error
        self._parameters = parameters_of(parameters)

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error

    def parameters(self) -> str:
        """The parameters as a JSON object."""
        return json.dumps(self._parameters)

    def answer(
        self, wanted: Sequence[str], received: Received, final: bool
    ) -> Response | InferenceError:
        """In our own words; outputs that were not asked for are left out."""
        error: InferenceError | None = None
        if self._error is not None:
            error = InferenceError(self._error.code(), self._error.message())
            return error if final else Response({}, self._parameters, False, error)
        wanted = wanted or received.outputs
        outputs = {}
        for tensor in self._tensors:
            name = tensor.name()
            if not wanted or name in wanted:
                outputs[name] = tensor.array()
        # Triton leaves out what it does not know; in place of an output, that is a wrong name.
        if len(outputs) < len(self._tensors) and len(outputs) < len(wanted):
            error = self._misnamed(wanted, received)
        if error is None:
            return Response(outputs, self._parameters, final)
        return error if final else Response({}, self._parameters, False, error)

    def _misnamed(self, wanted: Sequence[str], received: Received) -> InferenceError | None:
        found = [tensor.name() for tensor in self._tensors]
        unknown = [one for one in found if one not in received.outputs and one not in wanted]
        missing = [one for one in wanted if one not in found]
        if not unknown or not missing:
            return None
        known = ", ".join(f"'{one}'" for one in received.outputs)
        text = f"the model answers with output '{unknown[0]}' and without '{missing[0]}': its "
        text += f"config declares {known}. Rename the tensor in {received.code}, or declare it"
        return InferenceError(Status.INTERNAL, text)

    @classmethod
    def of(cls, answer: Answer) -> InferenceResponse:
        """What another model has answered."""
        error = error_of(answer)
        if error is not None:
            return cls([], TritonError(error.message, error.status))
        assert isinstance(answer, Response)
        outputs = [Tensor.of(name, array) for name, array in answer.outputs.items()]
        made = cls(outputs)
        made._parameters = dict(answer.parameters)
        return made


class Received(NamedTuple):
    """What a request that came in knows of its model. outputs: of the config, all of them; code:
    the model's file, for errors."""

    outputs: Sequence[str]
    decoupled: bool
    code: str = ""


class InferenceResponseSender:
    """Answers one request, from any thread: once, or as often as it likes if it is decoupled."""

    def __init__(self, call: Call, received: Received) -> None:
        self._call: Call | None = call
        self._received = received
        self._decoupled = received.decoupled
        self._closed = call.ended
        self._sent = int(self._closed)
        self._lock = threading.Lock()

    @property
    def closed(self) -> bool:
        return self._closed

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Give a response, or with the final flag alone say that there are no more.

        Raises TritonModelException for what the rules of the model's kind do not allow.
        """
        if flags not in (0, TRITONSERVER_RESPONSE_COMPLETE_FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and not flags:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        if response is not None and not isinstance(response, InferenceResponse):
            found = type(response).__name__
            raise TypeError(f"send: response must be an InferenceResponse, not {found}")
        call = self._note(response, bool(flags))
        if response is None:
            call.send(Response())
            return
        # The one response of a model that is not decoupled ends its request, flag or no flag.
        deliver(call, response, self._received, bool(flags) or not self._decoupled)

    def mark_computed(self) -> None:
        """The next response is computed and from now on written: for the statistics, which
        otherwise count all of its time as computing. Ours, Triton has no such method."""
        if self._call is not None:
            self._call.infer_ns = time.monotonic_ns() - self._call.taken_ns - self._call.input_ns

    def finish(self, response: InferenceResponse) -> None:
        """Give the response that `execute` has returned."""
        deliver(self._note(response, True), response, self._received, True)

    def _note(self, response: InferenceResponse | None, final: bool) -> Call:
        with self._lock:
            if not self._decoupled:
                self._check_single(response)
            if self._closed or self._call is None:
                raise TritonModelException(
                    "Unable to send response. Response sender has been closed."
                )
            self._closed = final
            self._sent += 1
            return self._call

    def _check_single(self, response: InferenceResponse | None) -> None:
        if response is not None and self._sent:
            raise TritonModelException(
                "Unable to send response. Non-decoupled model cannot send more than one response."
            )
        if response is None and not self._sent:
            raise TritonModelException(
                "Unable to send response. Non-decoupled model cannot send complete final before "
                "sending a response."
            )

    def close(self) -> None:
        """Nothing more may be sent: the request has ended otherwise."""
        with self._lock:
            self._closed = True

    def is_cancelled(self) -> bool:
        return self._call is not None and self._call.cancelled


def deliver(call: Call, response: InferenceResponse, received: Received, final: bool) -> None:
    """Answer a call with a user's response."""
    answer = response.answer(call.request.outputs, received, final)
    if isinstance(answer, InferenceError):
        call.fail(answer)
    else:
        call.send(answer)


def tensor_list(tensors: Any, empty: str) -> list[Tensor]:
    """The tensors a user gave; `empty` is Triton's text for a None among them."""
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"a list of Tensor is needed, not {type(tensors).__name__}")
    for tensor in tensors:
        if tensor is None:
            raise TritonModelException(empty)
        if not isinstance(tensor, Tensor):
            raise TypeError(f"a list of Tensor is needed, with {type(tensor).__name__} in it")
    return list(tensors)


def parameters_of(parameters: Any) -> dict[str, Parameter]:
    """A user's parameters; TritonModelException, with Triton's texts, for what is not one of its
    types, and for what no protocol can write."""
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise TritonModelException(f"Expect parameters to have type dict, got {type(parameters)}")
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(
                f"Expect parameters keys to have type str, found type {type(key)}"
            )
        if not isinstance(value, (bool, int, str)):
            raise TritonModelException(
                f"Expect parameters values to have type bool/int/str, found type {type(value)}"
            )
        _check_written(key, value)
    return parameters


def _check_written(key: str, value: Parameter) -> None:
    name = sayable(key)
    if name != key:
        raise TritonModelException(f"parameter '{name}': a name must be text, without surrogates")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise TritonModelException(
            f"parameter '{name}' is {value}: an integer must be within 64 bits, from -2**63 up to "
            "2**63 - 1"
        )
    if isinstance(value, str) and sayable(value) != value:
        raise TritonModelException(
            f"parameter '{name}' is '{sayable(value)}': a string must be text, without surrogates"
        )
