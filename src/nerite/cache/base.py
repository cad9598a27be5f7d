"""Cache: answers by the digest of what was asked; and that digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.core.tensor import datatype_of, to_bytes

Found = Callable[[Response | None], None]


class Cache(Protocol):
    """Belongs to the server's loop. A key begins with its model's digest (`owner`)."""

    async def start(self) -> None:
        """Raises InferenceError when it cannot be used."""
        ...

    def look_up(self, key: bytes, found: Found) -> None:
        """`found` is called with the answer, or with None: now or later, but always."""
        ...

    def insert(self, key: bytes, response: Response) -> None:
        """Keep an answer. Raises InferenceError when it cannot be kept."""
        ...

    def forget(self, owner: bytes) -> None:
        """A loaded model leaves, and with it what only this server knows of it."""
        ...

    async def close(self) -> None: ...


def owner_of(model: str, version: int, state: str) -> bytes:
    """The digest of a loaded model. state: what tells two loads of one version apart."""
    return hashlib.sha256(repr((model, version, state)).encode()).digest()[:16]


def key_of(owner: bytes, request: Request) -> bytes:
    """The digest of a request to a model: all that its answer may depend on."""
    parts: list[object] = [request.outputs, sorted(request.parameters.items())]
    tensors = sorted(request.inputs.items())
    for name, tensor in tensors:
        parts += (name, datatype_of(tensor), tensor.shape)
    digest = hashlib.sha256(repr(parts).encode())
    for _, tensor in tensors:
        digest.update(to_bytes(tensor))
    return owner + digest.digest()


def refused(key: bytes, why: str) -> InferenceError:
    """What `insert` raises, in the words that Triton logs."""
    return InferenceError(
        Status.INTERNAL, f"Failed to insert key [{key.hex()}] into response cache: {why}"
    )
