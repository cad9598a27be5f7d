"""JSON as Triton reads it: members by name and kind, tensors, parameters.

A document of the wrong form is INTERNAL (500) in Triton's words, a wrong value INVALID_ARG (400).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Parameter
from nerite.core.tensor import Tensor, numpy_dtype
from nerite.frontends.http1 import Body

NOT_IN_JSON = ("FP16", "BF16")
_MAX_DEPTH = 100
_TYPECODES = {
    "BOOL": "b",
    **{f"INT{bits}": code for bits, code in zip((8, 16, 32, 64), "bhiq", strict=True)},
    **{f"UINT{bits}": code for bits, code in zip((8, 16, 32, 64), "BHIQ", strict=True)},
    "FP32": "f",
    "FP64": "d",
}
# JSON's types for each datatype, and what Triton calls them.
_KINDS: dict[str, tuple[set[type], str]] = {
    "BYTES": ({str}, "string"),
    "BOOL": ({bool}, "boolean"),
    "FP32": ({int, float}, "number"),
    "FP64": ({int, float}, "number"),
    **{f"INT{bits}": ({int}, "signed-integer") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": ({int}, "unsigned-integer") for bits in (8, 16, 32, 64)},
}


def malformed(message: str) -> InferenceError:
    return InferenceError(Status.INTERNAL, message)


class TooDeep(InferenceError):
    """A document that nests deeper than anything we take."""

    def __init__(self) -> None:
        text = f"JSON nesting depth exceeds maximum allowed limit ({_MAX_DEPTH})"
        super().__init__(Status.INVALID_ARG, text)


def json_document(data: Body, kind: str = "request") -> dict[str, Any]:
    """A body that must be an object; `kind` names it in the error."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("depth limit"):
            raise TooDeep() from None
        text = f"failed to parse the {kind} JSON buffer: {error.msg} at {error.pos}"
        raise malformed(text) from None
    if not isinstance(document, dict):
        raise malformed("attempt to access JSON non-object as object")
    return document


def objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    if key not in document:
        raise malformed(f"Unable to parse '{key}': attempt to access non-existing object member "
                         f"'{key}'")  # fmt: skip
    value = document[key]
    if not isinstance(value, list):
        raise malformed(f"Unable to parse '{key}': attempt to access non-array member '{key}'")
    for entry in value:
        if not isinstance(entry, dict):
            raise malformed(f"Unable to parse '{key}': attempt to access JSON non-object as object")
    return value


def member_object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise malformed(f"Unable to parse '{key}': attempt to access JSON non-object as object")
    return value


def string(document: Mapping[str, Any], key: str) -> str:
    if key not in document:
        raise malformed(
            f"Unable to parse '{key}': attempt to access non-existing object member '{key}'"
        )
    value = document[key]
    if not isinstance(value, str):
        raise malformed(f"Unable to parse '{key}': attempt to access JSON non-string as string")
    return value


def flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise malformed(f"Unable to parse '{key}': attempt to access JSON non-boolean as boolean")
    return value


def unsigned(value: Any, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise malformed(
            f"Unable to parse '{key}': attempt to access JSON non-unsigned-integer as "
            "unsigned-integer"
        )
    return value


def shape_of(entry: Mapping[str, Any]) -> tuple[int, ...]:
    if not isinstance(entry.get("shape"), list):
        raise malformed("Unable to parse 'shape': attempt to access non-array member 'shape'")
    return tuple(unsigned(dim, "shape") for dim in entry["shape"])


def json_tensor(name: str, datatype: str, shape: tuple[int, ...], data: list[Any]) -> Tensor:
    """JSON values, nested or flat, as a tensor. Raises InferenceError with Triton's texts."""
    if datatype == "BYTES":
        flat = _values(name, datatype, math.prod(shape), data)
        items = np.empty(len(flat), dtype=object)
        items[:] = [item.encode() for item in flat]
        return items.reshape(shape)
    filled = json_bytes(name, datatype, shape, data)
    return np.frombuffer(filled, dtype=numpy_dtype(datatype)).reshape(shape)


def json_bytes(name: str, datatype: str, shape: tuple[int, ...], data: list[Any]) -> bytes:
    """The same as the bytes of a tensor; not for BYTES."""
    flat = _values(name, datatype, math.prod(shape), data)
    try:
        return array(_TYPECODES[datatype], flat).tobytes()
    except OverflowError:
        raise invalid(f"a value of input '{name}' is outside the range of {datatype}") from None


def _values(name: str, datatype: str, count: int, data: list[Any]) -> list[Any]:
    """The values of a tensor, flat and of the right kind and number."""
    if datatype in NOT_IN_JSON:
        raise invalid(
            f"receiving {datatype} data via JSON is not supported. Please use the binary data "
            f"format for input {name}"
        )
    types = set(map(type, data))
    flat = data
    if list in types:
        flat = []
        _flatten(data, flat, 0)
        types = set(map(type, flat))
    _check_types(flat, types, datatype)
    if len(flat) > count:
        text = "Unable to parse 'data': Shape does not match true shape of 'data' field"
        raise malformed(text)
    if len(flat) < count:
        raise malformed("Failed to parse 'data' field: shape does not match true shape")
    return flat


def _flatten(data: list[Any], flat: list[Any], depth: int) -> None:
    if depth >= _MAX_DEPTH:
        raise TooDeep()
    if not any(isinstance(item, list) for item in data):
        flat.extend(data)
        return
    for item in data:
        if isinstance(item, list):
            _flatten(item, flat, depth + 1)
        else:
            flat.append(item)


def _check_types(flat: list[Any], types: set[type], datatype: str) -> None:
    """JSON's own types must fit: a float is no integer, true is no number."""
    allowed, word = _KINDS[datatype]
    if not types <= allowed or (word == "unsigned-integer" and flat and min(flat) < 0):
        raise malformed(f"Unable to parse 'data': attempt to access JSON non-{word} as {word}")


def scalar_parameter(key: str, value: Any) -> Parameter:
    """A request parameter that is not one of Triton's own. Raises InferenceError."""
    if key.startswith("triton_"):
        raise invalid(
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not "
            "be specified."
        )
    if not isinstance(value, (bool, int, float, str)):
        raise invalid(
            f"parameter '{key}' has invalid type. It should be either 'int', 'bool', 'string' or "
            "'double'."
        )
    return value
