"""The one error a call can end with. Each door owns a table from Status to its own codes."""

from __future__ import annotations

import enum


class Status(enum.Enum):
    """Triton's error codes (TRITONSERVER_Error_Code), by the names its protocols use."""

    UNKNOWN = "Unknown"
    INTERNAL = "Internal"
    NOT_FOUND = "Not found"
    INVALID_ARG = "Invalid argument"
    UNAVAILABLE = "Unavailable"
    UNSUPPORTED = "Unsupported"
    ALREADY_EXISTS = "Already exists"
    CANCELLED = "Cancelled"


class InferenceError(Exception):
    """An error with a status that every protocol knows how to say."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def __repr__(self) -> str:
        return f"InferenceError({self.status.name}, {self.message!r})"


def invalid(message: str) -> InferenceError:
    """The commonest error: the caller sent something that cannot be served."""
    return InferenceError(Status.INVALID_ARG, message)
