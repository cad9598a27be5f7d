"""Triton's exceptions, one for each status, and the way from nerite's error to them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nerite.core.errors import InferenceError, Status


class TritonError(Exception):
    """What Triton answers instead of doing what it was asked.

    Where it came as an answer to a request, the InferenceResponse is its second argument.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class UnknownError(TritonError):
    """Also that a request was cancelled."""


class InternalError(TritonError):
    """Something went wrong that the caller did not cause."""


class NotFoundError(TritonError):
    """No such model, version or file."""


class InvalidArgumentError(TritonError):
    """The caller asked for something that cannot be."""


class UnavailableError(TritonError):
    """Not now: the server or the model is not ready, or its queue is full."""


class UnsupportedError(TritonError):
    """The server or the model does not do this."""


class AlreadyExistsError(TritonError):
    """There is one of this name."""


_CLASSES = {
    Status.INTERNAL: InternalError,
    Status.NOT_FOUND: NotFoundError,
    Status.INVALID_ARG: InvalidArgumentError,
    Status.UNAVAILABLE: UnavailableError,
    Status.UNSUPPORTED: UnsupportedError,
    Status.ALREADY_EXISTS: AlreadyExistsError,
}


def error_of(error: InferenceError) -> TritonError:
    return _CLASSES.get(error.status, UnknownError)(error.message)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """What nerite raises in this block is raised as Triton's exception."""
    try:
        yield
    except InferenceError as error:
        raise error_of(error) from None
