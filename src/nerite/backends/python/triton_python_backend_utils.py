"""`triton_python_backend_utils` as a model.py knows it: thin skins over our own words.

A worker puts this module under its public name before it imports the user's code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from nerite.backends.base import LOGGED
from nerite.core import tensor as tensors
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Parameter, Response

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2


class TritonModelException(Exception):  # noqa: N818  the name is Triton's
    """Raised by this module for what a model.py did wrong; a model may raise it too."""


class TritonError:
    """An error for one request, by message and code."""

    UNKNOWN = Status.UNKNOWN
    INTERNAL = Status.INTERNAL
    NOT_FOUND = Status.NOT_FOUND
    INVALID_ARG = Status.INVALID_ARG
    UNAVAILABLE = Status.UNAVAILABLE
    UNSUPPORTED = Status.UNSUPPORTED
    ALREADY_EXISTS = Status.ALREADY_EXISTS
    CANCELLED = Status.CANCELLED

    def __init__(self, message: str, code: Status = Status.INTERNAL) -> None:
        self._message = message
        self._code = code

    def message(self) -> str:
        return self._message

    def code(self) -> Status:
        return self._code


class Tensor:
    """A named array; `as_numpy` is the array itself, not a copy."""

    def __init__(self, name: str, array: Any) -> None:
        if not isinstance(array, np.ndarray):
            found = type(array).__name__
            raise TritonModelException(f"Tensor '{name}' needs a numpy array, got {found}")
        try:
            self._datatype = tensors.datatype_of(array)
        except TypeError as error:
            raise TritonModelException(f"Tensor '{name}': {error}") from None
        self._name = name
        self._array = array

    def name(self) -> str:
        return self._name

    def shape(self) -> list[int]:
        return list(self._array.shape)

    def triton_dtype(self) -> str:
        return "TYPE_STRING" if self._datatype == "BYTES" else f"TYPE_{self._datatype}"

    def as_numpy(self) -> tensors.Tensor:
        return self._array

    def is_cpu(self) -> bool:
        return True


class InferenceResponse:
    """What a model answers one request with: tensors, or an error."""

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: dict[str, Parameter] | str | None = None,
    ) -> None:
        self._tensors = list(output_tensors)
        self._error = error
        if isinstance(parameters, str):
            parameters = cast("dict[str, Parameter]", json.loads(parameters))
        self._parameters = parameters or {}

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error

    def parameters(self) -> str:
        return json.dumps(self._parameters)


class InferenceResponseSender:
    """Answers one request from any thread, as often as the model likes."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.closed = False

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        if self.closed:
            raise TritonModelException("Unable to send response. Response sender has been closed.")
        final = bool(flags & TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        if response is None and not final:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        self.closed = final
        if response is None:
            self._call.send(Response(final=True))
            return
        answer = as_answer(response, self._call.request.outputs, final)
        if isinstance(answer, InferenceError):
            self.closed = True
            self._call.fail(answer)
        else:
            self._call.send(answer)

    def is_cancelled(self) -> bool:
        return self._call.cancelled


class InferenceTrace:
    """What a model may continue an OpenTelemetry trace with."""

    def __init__(self, context: str | None) -> None:
        self._context = context

    def get_context(self) -> str | None:
        """W3C's headers as a JSON object; None when the request is not traced, or not there."""
        return self._context


class InferenceRequest:
    """One request as `execute` sees it."""

    def __init__(self, call: Call) -> None:
        self._request = call.request
        self._call = call
        self._sender: InferenceResponseSender | None = None

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, array) for name, array in self._request.inputs.items()]

    def requested_output_names(self) -> list[str]:
        return list(self._request.outputs)

    def request_id(self) -> str:
        return self._request.id

    def correlation_id(self) -> int | str:
        return self._request.sequence_id

    def model_name(self) -> str:
        return self._request.model

    def flags(self) -> int:
        start = TRITONSERVER_REQUEST_FLAG_SEQUENCE_START if self._request.sequence_start else 0
        end = TRITONSERVER_REQUEST_FLAG_SEQUENCE_END if self._request.sequence_end else 0
        return start | end

    def timeout(self) -> int:
        return self._request.timeout_us

    def parameters(self) -> str:
        return json.dumps(dict(self._request.parameters))

    def is_cancelled(self) -> bool:
        return self._call.cancelled

    def trace(self) -> InferenceTrace:
        trace = self._request.trace
        return InferenceTrace(trace if isinstance(trace, str) else None)

    def get_response_sender(self) -> InferenceResponseSender:
        if self._sender is None:
            self._sender = InferenceResponseSender(self._call)
        return self._sender


def as_answer(
    response: InferenceResponse, wanted: Sequence[str], final: bool
) -> Response | InferenceError:
    """Our own answer for a user's response; outputs that were not asked for are left out."""
    error = response.error()
    if error is not None:
        return InferenceError(error.code(), error.message())
    outputs = {
        tensor.name(): tensor.as_numpy()
        for tensor in response.output_tensors()
        if not wanted or tensor.name() in wanted
    }
    return Response(outputs, json.loads(response.parameters()), final)


class Logger:
    """Writes to the server's log."""

    INFO, WARNING, ERROR, VERBOSE = "INFO", "WARNING", "ERROR", "VERBOSE"

    @staticmethod
    def log(message: str, level: str = INFO) -> None:
        # The front process reads lines that begin so, and logs the message at its level.
        print(LOGGED + json.dumps([level, message]), file=sys.stderr, flush=True)

    @classmethod
    def log_info(cls, message: str) -> None:
        cls.log(message, cls.INFO)

    @classmethod
    def log_warn(cls, message: str) -> None:
        cls.log(message, cls.WARNING)

    @classmethod
    def log_error(cls, message: str) -> None:
        cls.log(message, cls.ERROR)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        cls.log(message, cls.VERBOSE)


_model_dir: str | None = None


def set_model_dir(folder: str) -> None:
    """Called by the backend: what `get_model_dir` tells."""
    global _model_dir
    _model_dir = folder


def get_model_dir() -> str:
    """The folder of the model's version, for a Python-based backend to read its files from."""
    if _model_dir is None:
        raise TritonModelException("get_model_dir: no model is loaded in this process")
    return _model_dir


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    return next((tensor for tensor in response.output_tensors() if tensor.name() == name), None)


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((item for item in model_config.get("input", []) if item["name"] == name), None)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((item for item in model_config.get("output", []) if item["name"] == name), None)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """The numpy type of "TYPE_FP32" and its like, as Triton's own helper gives it."""
    name = triton_type_string[len("TYPE_") :]
    return tensors.numpy_dtype("BYTES" if name == "STRING" else name).type


def serialize_byte_tensor(input_tensor: tensors.Tensor) -> bytes | memoryview:
    return tensors.to_bytes(input_tensor.astype(object))


def deserialize_bytes_tensor(encoded_tensor: bytes) -> tensors.Tensor:
    return np.array(tensors.split_bytes(memoryview(encoded_tensor)), dtype=object)


class ModelConfig:
    """The config that `auto_complete_config` fills in; what is set already wins."""

    def __init__(self, model_config: dict[str, Any]) -> None:
        self._config = model_config

    def as_dict(self) -> dict[str, Any]:
        return self._config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        if self._config.get("max_batch_size", 0) < max_batch_size:
            self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        others = ("sequence_batching", "ensemble_scheduling")
        if not any(name in self._config for name in others):
            self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, transaction_policy: dict[str, Any]) -> None:
        self._config.setdefault("model_transaction_policy", transaction_policy)

    def add_input(self, input: dict[str, Any]) -> None:
        self._add("input", input)

    def add_output(self, output: dict[str, Any]) -> None:
        self._add("output", output)

    def _add(self, kind: str, item: dict[str, Any]) -> None:
        missing = [key for key in ("name", "data_type", "dims") if key not in item]
        if missing:
            raise ValueError(f"{kind} {item} lacks {', '.join(missing)}")
        known = self._config.setdefault(kind, [])
        if all(entry["name"] != item["name"] for entry in known):
            known.append(item)
