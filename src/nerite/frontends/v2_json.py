"""JSON as Triton reads it: members by name and kind, tensors, parameters.

A document of the wrong form is INTERNAL (500) in Triton's words, a wrong value INVALID_ARG (400).
"""

from __future__ import annotations

import math
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


def malformed(message: str) -> InferenceError:
    return InferenceError(Status.INTERNAL, message)


def json_document(data: Body, kind: str = "request") -> dict[str, Any]:
    """A body that must be an object; `kind` names it in the error."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
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
    if datatype in NOT_IN_JSON:
        raise invalid(
            f"receiving {datatype} data via JSON is not supported. Please use the binary data "
            f"format for input {name}"
        )
    flat: list[Any] = []
    _flatten(data, flat, 0)
    _check_types(flat, datatype)
    count = math.prod(shape)
    if len(flat) > count:
        text = "Unable to parse 'data': Shape does not match true shape of 'data' field"
        raise malformed(text)
    if len(flat) < count:
        raise malformed("Failed to parse 'data' field: shape does not match true shape")
    if datatype == "BYTES":
        items = np.empty(count, dtype=object)
        items[:] = [item.encode() for item in flat]
        return items.reshape(shape)
    try:
        return np.array(flat, dtype=numpy_dtype(datatype)).reshape(shape)
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
