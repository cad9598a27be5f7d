"""pb_utils' errors: what a model raises, and what it answers a request with."""

from __future__ import annotations

from nerite.core.errors import Status
from nerite.core.text import sayable

# What a model's code may end in. `sys.exit()` and its like are that code's failure too, as in
# Triton, and never the end of the thread, the worker or the server that runs it.
RAISED = BaseException


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
        self._message = message_of(message, "TritonError")
        if not isinstance(code, Status):
            found = type(code).__name__
            raise TypeError(f"TritonError: code must be one of TritonError's, not {found}")
        self._code = code

    def message(self) -> str:
        return self._message

    def code(self) -> Status:
        return self._code


def message_of(value: object, where: str) -> str:
    """`value`, sayable; TypeError, as Triton's own bindings have it, when it is no string."""
    if not isinstance(value, str):
        raise TypeError(f"{where}: a string is needed, not {type(value).__name__}")
    return sayable(value)
