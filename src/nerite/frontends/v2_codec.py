"""KServe v2 over HTTP: JSON and binary bodies to Request, Response to body. Knows no sockets.

Texts and status of errors are Triton's: a malformed document is INTERNAL (500), a wrong value
INVALID_ARG (400).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor, datatype_of, from_bytes, numpy_dtype, split_bytes, to_bytes

HEADER_LENGTH = "inference-header-content-length"
_NOT_IN_JSON = ("FP16", "BF16")
_MAX_DEPTH = 100


@dataclass(frozen=True)
class OutputForm:
    """How the asker wants each output: as binary data, or as JSON."""

    binary: Mapping[str, bool] = field(default_factory=dict)
    default: bool = False

    def is_binary(self, name: str) -> bool:
        return self.binary.get(name, self.default)


def _malformed(message: str) -> InferenceError:
    return InferenceError(Status.INTERNAL, message)


def decode(
    model: str, version: str, body: bytes, header_length: int | None
) -> tuple[Request, OutputForm]:
    """A request body, JSON or JSON with binary tensors behind it.

    header_length: the value of Inference-Header-Content-Length, None when absent.
    Raises InferenceError.
    """
    view = memoryview(body)
    document = _document(body if header_length is None else bytes(view[:header_length]))
    binary = _Binary(view[header_length:] if header_length is not None else view[len(body) :])
    inputs: dict[str, Tensor] = {}
    for entry in _list(document, "inputs"):
        name = _string(entry, "name")
        if name in inputs:
            raise invalid(f"input '{name}' already exists in request")
        inputs[name] = _input(entry, name, model, binary, header_length)
    if binary.left:
        raise invalid(f"unexpected additional input data for model '{model}'")
    parameters = dict(_object(document, "parameters"))
    default = _flag(parameters.pop("binary_data_output", False), "binary_data_output")
    outputs, forms = _requested(document)
    request = Request(
        model=model,
        version=version,
        id=_string(document, "id") if "id" in document else "",
        inputs=inputs,
        outputs=outputs,
        **_scheduling(parameters),
        parameters=_parameters(parameters),
    )
    return request, OutputForm(forms, default)


class _Binary:
    """The bytes behind the JSON document, taken in the order of the inputs."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, size: int, name: str, model: str) -> memoryview:
        if size > self.left:
            raise invalid(
                f"unexpected size for input '{name}', expecting {size - self.left} additional "
                f"bytes for model '{model}'"
            )
        start = self._position
        self._position += size
        return self._data[start : self._position]


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        text = f"failed to parse the request JSON buffer: {error.msg} at {error.pos}"
        raise _malformed(text) from None
    if not isinstance(document, dict):
        raise _malformed("attempt to access JSON non-object as object")
    return document


def _list(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    if key not in document:
        raise _malformed(f"Unable to parse '{key}': attempt to access non-existing object member "
                         f"'{key}'")  # fmt: skip
    value = document[key]
    if not isinstance(value, list):
        raise _malformed(f"Unable to parse '{key}': attempt to access non-array member '{key}'")
    for entry in value:
        if not isinstance(entry, dict):
            raise _malformed(
                f"Unable to parse '{key}': attempt to access JSON non-object as object"
            )
    return value


def _object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise _malformed(f"Unable to parse '{key}': attempt to access JSON non-object as object")
    return value


def _string(document: Mapping[str, Any], key: str) -> str:
    if key not in document:
        raise _malformed(
            f"Unable to parse '{key}': attempt to access non-existing object member '{key}'"
        )
    value = document[key]
    if not isinstance(value, str):
        raise _malformed(f"Unable to parse '{key}': attempt to access JSON non-string as string")
    return value


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise _malformed(f"Unable to parse '{key}': attempt to access JSON non-boolean as boolean")
    return value


def _unsigned(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _malformed(
            f"Unable to parse '{key}': attempt to access JSON non-unsigned-integer as "
            "unsigned-integer"
        )
    return value


def _shape(entry: Mapping[str, Any]) -> tuple[int, ...]:
    if not isinstance(entry.get("shape"), list):
        raise _malformed("Unable to parse 'shape': attempt to access non-array member 'shape'")
    return tuple(_unsigned(dim, "shape") for dim in entry["shape"])


def _input(
    entry: Mapping[str, Any], name: str, model: str, binary: _Binary, header_length: int | None
) -> Tensor:
    datatype = _string(entry, "datatype")
    shape = _shape(entry)
    try:
        dtype = numpy_dtype(datatype)
    except KeyError:
        raise invalid(f"invalid datatype '{datatype}' for input {name}") from None
    count = 1
    for dim in shape:
        count *= dim
    if count * max(dtype.itemsize, 1) > 2**63 - 1:
        raise invalid(
            f"invalid shape for input '{name}': shape [{','.join(map(str, shape))}] causes total "
            f"element count to exceed maximum size of {2**63 - 1}"
        )
    parameters = _object(entry, "parameters")
    if "binary_data_size" not in parameters:
        return _from_json(entry, name, datatype, dtype, shape, count)
    if "data" in entry:
        raise invalid(
            f"unexpected 'data' for input '{name}': it has 'binary_data_size', give one of the two"
        )
    size = _unsigned(parameters["binary_data_size"], "binary_data_size")
    if header_length is None and size:
        raise invalid(
            "must specify valid 'Infer-Header-Content-Length' in request header and "
            "'binary_data_size' when passing inputs in binary data format"
        )
    return tensor_from(binary.take(size, name, model), name, model, datatype, shape, count)


def tensor_from(
    data: memoryview, name: str, model: str, datatype: str, shape: tuple[int, ...], count: int
) -> Tensor:
    """An input's raw bytes as a tensor; a view of them for all types but BYTES.

    Raises InferenceError with Triton's text where their number does not fit the shape.
    """
    if datatype == "BYTES":
        try:
            found = len(split_bytes(data))
        except ValueError as error:
            raise invalid(
                f"incomplete string length indicator for inference input '{name}' for model "
                f"'{model}': {error}"
            ) from None
        if found != count:
            raise invalid(
                f"expected {count} string elements for inference input '{name}' for model "
                f"'{model}', got {found}"
            )
    else:
        expected = count * numpy_dtype(datatype).itemsize
        if len(data) != expected:
            raise invalid(
                f"input byte size mismatch for input '{name}' for model '{model}'. Expected "
                f"{expected}, got {len(data)}"
            )
    return from_bytes(data, datatype, shape)


def _from_json(
    entry: Mapping[str, Any],
    name: str,
    datatype: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    count: int,
) -> Tensor:
    if datatype in _NOT_IN_JSON:
        raise invalid(
            f"receiving {datatype} data via JSON is not supported. Please use the binary data "
            f"format for input {name}"
        )
    if not isinstance(entry.get("data"), list):
        if count == 0 and "data" not in entry:
            return np.empty(shape, dtype)
        raise _malformed("Unable to parse 'data': attempt to access non-array member 'data'")
    flat: list[Any] = []
    _flatten(entry["data"], flat, 0)
    _check_types(flat, datatype)
    if len(flat) > count:
        text = "Unable to parse 'data': Shape does not match true shape of 'data' field"
        raise _malformed(text)
    if len(flat) < count:
        raise _malformed("Failed to parse 'data' field: shape does not match true shape")
    if datatype == "BYTES":
        items = np.empty(count, dtype=object)
        items[:] = [item.encode() for item in flat]
        return items.reshape(shape)
    try:
        return np.array(flat, dtype=dtype).reshape(shape)
    except OverflowError:
        raise invalid(f"a value of input '{name}' is outside the range of {datatype}") from None


def _flatten(data: list[Any], flat: list[Any], depth: int) -> None:
    if depth >= _MAX_DEPTH:
        raise invalid(f"JSON nesting depth exceeds maximum allowed limit ({_MAX_DEPTH})")
    if not any(isinstance(item, list) for item in data):
        flat.extend(data)
        return
    for item in data:
        if isinstance(item, list):
            _flatten(item, flat, depth + 1)
        else:
            flat.append(item)


def _check_types(flat: list[Any], datatype: str) -> None:
    """JSON's own types must fit: a float is no integer, true is no number."""
    allowed: set[type]
    if datatype == "BYTES":
        allowed, word = {str}, "string"
    elif datatype == "BOOL":
        allowed, word = {bool}, "boolean"
    elif datatype.startswith("FP"):
        allowed, word = {int, float}, "number"
    else:
        allowed = {int}
        word = "unsigned-integer" if datatype.startswith("U") else "signed-integer"
    wrong = not set(map(type, flat)) <= allowed
    if wrong or (word == "unsigned-integer" and flat and min(flat) < 0):
        raise _malformed(f"Unable to parse 'data': attempt to access JSON non-{word} as {word}")


def _requested(document: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, bool]]:
    if "outputs" not in document:
        return (), {}
    forms: dict[str, bool] = {}
    for entry in _list(document, "outputs"):
        name = _string(entry, "name")
        if name in forms:
            raise invalid(f"output '{name}' already exists in request")
        forms[name] = _flag(_object(entry, "parameters").get("binary_data", False), "binary_data")
    return tuple(forms), forms


def _scheduling(parameters: dict[str, Any]) -> dict[str, Any]:
    """Take the parameters that Triton reserves out of `parameters`, as Request's fields."""
    values: dict[str, Any] = {}
    if "sequence_id" in parameters:
        value = parameters.pop("sequence_id")
        values["sequence_id"] = value if isinstance(value, str) else _unsigned(value, "sequence_id")
    for key in ("sequence_start", "sequence_end"):
        if key in parameters:
            values[key] = _flag(parameters.pop(key), key)
    if "priority" in parameters:
        values["priority"] = _unsigned(parameters.pop("priority"), "priority")
    if "timeout" in parameters:
        values["timeout_us"] = _unsigned(parameters.pop("timeout"), "timeout")
    return values


def _parameters(parameters: dict[str, Any]) -> dict[str, Any]:
    for key, value in parameters.items():
        if key.startswith("triton_"):
            raise invalid(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should "
                "not be specified."
            )
        if not isinstance(value, (bool, int, float, str)):
            raise invalid(
                f"parameter '{key}' has invalid type. It should be either 'int', 'bool', "
                "'string' or 'double'."
            )
    return parameters


def encode(
    request: Request, version: str, response: Response, form: OutputForm
) -> tuple[list[bytes | memoryview], int | None]:
    """A response's body in parts, and the length of its JSON part when binary data follows.

    Raises InferenceError for what JSON cannot carry.
    """
    entries: list[dict[str, Any]] = []
    binary: list[bytes | memoryview] = []
    finite = True
    for name in request.outputs or response.outputs:
        if name not in response.outputs:
            continue
        tensor = response.outputs[name]
        datatype = datatype_of(tensor)
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(tensor.shape)}
        if form.is_binary(name):
            data = to_bytes(tensor)
            entry["parameters"] = {"binary_data_size": len(data)}
            binary.append(data)
        else:
            entry["data"] = _to_json(tensor, name, datatype)
            finite = finite and (tensor.dtype.kind != "f" or bool(np.isfinite(tensor).all()))
        entries.append(entry)
    document: dict[str, Any] = {"model_name": request.model, "model_version": version}
    if request.id:
        document["id"] = request.id
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    document["outputs"] = entries
    head = _dump(document, finite)
    has_data = any(len(data) for data in binary)
    return [head, *binary], len(head) if has_data else None


def _to_json(tensor: Tensor, name: str, datatype: str) -> Any:
    if datatype in _NOT_IN_JSON:
        raise invalid(
            f"sending {datatype} data via JSON is not supported. Please use the binary data "
            f"format for output {name}"
        )
    flat = np.ascontiguousarray(tensor).reshape(-1)
    if datatype != "BYTES":
        return flat
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in flat.tolist()]
    except UnicodeDecodeError:
        raise invalid(
            f"output '{name}' holds bytes that are not UTF-8 text. Please use the binary data "
            "format for it"
        ) from None


def _dump(document: dict[str, Any], finite: bool) -> bytes:
    if finite:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    # NaN and Infinity are not JSON, but Triton writes them and its clients read them.
    for entry in document["outputs"]:
        if isinstance(entry.get("data"), np.ndarray):
            entry["data"] = entry["data"].tolist()
    return json.dumps(document, separators=(",", ":")).encode()
