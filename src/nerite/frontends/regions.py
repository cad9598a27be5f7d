"""Shared memory that clients register: inputs are read from it, outputs written to it.

Both through file descriptors and never through a mapping: a file that its owner shortens would
end a process that reads it mapped. A registered name holds the descriptor, so what uses a region
goes on after its name is gone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from nerite.core.errors import InferenceError, Status, invalid
from nerite.frontends.http1 import Body

_DISABLED = (
    "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
)
_RESERVED = "triton_python_backend_shm_region_"
_FOLDER = Path("/dev/shm")  # where Linux keeps what shm_open names


class Region:
    """Bytes [offset, offset + size) of one shared memory object."""

    def __init__(self, name: str, key: str, offset: int, size: int, fd: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.size = size
        self._fd = fd

    def read(self, offset: int, size: int) -> bytearray:
        data = bytearray(size)
        if os.preadv(self._fd, [data], self.offset + offset) != size:
            raise invalid(f"shared memory region '{self.name}' has become shorter than registered")
        return data

    def write(self, offset: int, data: Body) -> None:
        view, position = memoryview(data), self.offset + offset
        while view:
            written = os.pwrite(self._fd, view, position)
            view, position = view[written:], position + written

    def __del__(self) -> None:
        os.close(self._fd)


class Regions:
    """The registered regions by name. Safe from any thread."""

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self._regions: dict[str, Region] = {}
        self._lock = threading.Lock()

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Open the shared memory object `key` for requests to use as `name`.

        Raises InferenceError with Triton's texts.
        """
        self._check_allowed()
        _check_key(name, key)
        with self._lock:
            if name in self._regions:
                text = f"shared memory region '{name}' already in manager"
                raise InferenceError(Status.ALREADY_EXISTS, text)
            fd = _open(key)
            if offset + size > os.fstat(fd).st_size:
                os.close(fd)
                raise invalid(f"failed to register shared memory region '{name}': invalid args")
            self._regions[name] = Region(name, key, offset, size, fd)

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all; one in use lives until its requests have ended."""
        self._check_allowed()
        with self._lock:
            if name:
                self._regions.pop(name, None)
            else:
                self._regions.clear()

    def status(self, name: str = "") -> list[Mapping[str, str | int]]:
        """What is registered. Raises InferenceError for a name that is not."""
        with self._lock:
            if name and name not in self._regions:
                text = f"Unable to find system shared memory region: '{name}'"
                raise InferenceError(Status.NOT_FOUND, text)
            return [
                {"name": one.name, "key": one.key, "offset": one.offset, "byte_size": one.size}
                for one in self._regions.values()
                if name in ("", one.name)
            ]

    def find(self, name: str, offset: int, size: int) -> Region:
        """A region that holds [offset, offset + size). Raises InferenceError."""
        region = self._regions.get(name)
        if region is None:
            text = f"Unable to find shared memory region: '{name}'"
            raise InferenceError(Status.NOT_FOUND, text)
        if offset >= region.size:
            raise invalid(f"Invalid offset for shared memory region: '{name}'")
        if offset + size > region.size:
            raise invalid(f"Invalid offset + byte size for shared memory region: '{name}'")
        return region

    def _check_allowed(self) -> None:
        if not self._allowed:
            raise InferenceError(Status.UNSUPPORTED, _DISABLED)


def _check_key(name: str, key: str) -> None:
    plain = key.lstrip("/")
    if not plain:
        raise invalid(
            f"cannot register shared memory region '{name}' with key '{key}' as the key is empty"
        )
    if plain.startswith(_RESERVED):
        raise invalid(
            f"cannot register shared memory region '{name}' with key '{key}' as the key contains "
            f"the reserved prefix '{_RESERVED}'"
        )


def _open(key: str) -> int:
    """What shm_open does, without leaving the folder it means."""
    plain = key.lstrip("/")
    try:
        if "/" in plain or plain in (".", "..") or "\0" in plain:
            raise FileNotFoundError
        return os.open(_FOLDER / plain, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        text = f"Unable to open shared memory region: '{key}'"
        raise InferenceError(Status.INTERNAL, text) from None
