"""What a program's own code asks in process: the doors and workers make requests of right types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nerite.core.errors import invalid
from nerite.core.request import Request
from nerite.core.tensor import datatype_of

_PLAIN: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("model", (str,)),
    ("version", (str,)),
    ("id", (str,)),
    ("priority", (int,)),
    ("timeout_us", (int,)),
    ("sequence_id", (int, str)),
    ("sequence_start", (bool,)),
    ("sequence_end", (bool,)),
)


def checked(request: Request) -> Request:
    """The request, its outputs a tuple whatever sequence they were.

    Raises InferenceError that names the argument which is of a wrong type.
    """
    _check("request", request, (Request,), "a nerite.Request")
    for name, types in _PLAIN:
        _check(name, getattr(request, name), types)
    _check_inputs(request.inputs)
    _check("parameters", request.parameters, (Mapping,), "a mapping of names to values")
    for key, value in request.parameters.items():
        _check("a name in parameters", key, (str,))
        _check(f"parameters[{key!r}]", value, (bool, int, float, str))
    outputs: Any = request.outputs
    # A string is a sequence of strings, and never meant as one.
    sequence = () if isinstance(outputs, str) else (Sequence,)
    _check("outputs", outputs, sequence, "a sequence of names")
    for index, name in enumerate(outputs):
        _check(f"outputs[{index}]", name, (str,))
    return request if type(outputs) is tuple else request._replace(outputs=tuple(outputs))


def _check_inputs(inputs: Any) -> None:
    _check("inputs", inputs, (Mapping,), "a mapping of names to numpy arrays")
    for name, tensor in inputs.items():
        _check("a name in inputs", name, (str,))
        _check(f"inputs[{name!r}]", tensor, (np.ndarray,), "a numpy array")
        try:
            datatype_of(tensor)
        except TypeError as error:
            raise invalid(f"inputs[{name!r}]: {error}") from None


def _check(name: str, value: Any, types: tuple[type, ...], takes: str = "") -> None:
    """takes: in words, where the types' names are not what a user knows them by."""
    # A bool is an int to Python, and seldom to who gave it.
    if not isinstance(value, types) or (type(value) is bool and bool not in types):
        names = ", ".join(one.__name__ for one in types)
        takes = takes or _a(" or ".join(names.rsplit(", ", 1)))
        raise invalid(f"{name} is {_a(type(value).__name__)}: it takes {takes}")


def _a(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
