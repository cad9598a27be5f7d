"""Shared memory that clients register: inputs are read from it, outputs written to it.

The system's through file descriptors and never through a mapping: a file that its owner shortens
would end a process that reads it mapped. A GPU's through the driver. Requests hold the regions they
use: a name that is unregistered meanwhile goes when the last of them has ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.files import Filed, Span
from nerite.core.layout import Layout, Packed
from nerite.core.rooms import Rooms
from nerite.frontends.cuda import HANDLE_BYTES, CudaError, Driver
from nerite.frontends.http1 import Body

log = logging.getLogger(__name__)

# Bytes of tensors from which their reader is told where they are, instead of being sent them.
FAR = 1 << 18
_DISABLED = (
    "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."
)
_RESERVED = "triton_python_backend_shm_region_"
_MOST_DEVICES = (1 << 31) - 1
_MOST_BYTES = (1 << 64) - 1
_FOLDER = Path("/dev/shm")  # where Linux keeps what shm_open names


class _Read(np.ndarray[Any, Any]):
    """Bytes out of a region, which is in use as long as they are."""

    region: object


def _held(data: Body, region: object) -> memoryview:
    read = np.frombuffer(data, np.uint8).view(_Read)
    read.region = region
    return read.data


class SystemRegion:
    """Bytes [offset, offset + size) of one shared memory object."""

    def __init__(self, name: str, key: str, offset: int, size: int, fd: int, rooms: Rooms) -> None:
        self._rooms = rooms
        self.name = name
        self.key = key
        self.offset = offset
        self.size = size
        self.fd = fd

    def read(self, offset: int, size: int) -> memoryview:
        data = self._rooms.take(size)
        Span(self, self.offset + offset, size).read_into(data)
        return _held(data, self)

    def write(self, offset: int, data: Body) -> None:
        Span(self, self.offset + offset, len(data)).write(data)

    def span(self, offset: int, size: int) -> Span:
        """A part of it, for others to read or write. Raises InferenceError."""
        span = Span(self, self.offset + offset, size)
        if os.fstat(self.fd).st_size < span.start + size:
            raise span.too_short()
        return span

    def status(self) -> Mapping[str, str | int]:
        return {
            "name": self.name,
            "key": self.key,
            "offset": self.offset,
            "byte_size": self.size,
        }

    def __del__(self) -> None:
        os.close(self.fd)


class CudaRegion:
    """The first `size` bytes of what a client allocated on a GPU."""

    def __init__(self, name: str, driver: Driver, device: int, address: int, size: int) -> None:
        self.name = name
        self.device = device
        self.size = size
        self._driver = driver
        self._address = address

    def read(self, offset: int, size: int) -> memoryview:
        try:
            return _held(self._driver.read(self.device, self._address + offset, size), self)
        except CudaError as error:
            raise self._lost(error) from None

    def write(self, offset: int, data: Body) -> None:
        try:
            self._driver.write(self.device, self._address + offset, bytes(data))
        except CudaError as error:
            raise self._lost(error) from None

    def _lost(self, error: CudaError) -> InferenceError:
        text = f"cannot use CUDA shared memory region '{self.name}': {error}"
        return InferenceError(Status.UNAVAILABLE, text)

    def status(self) -> Mapping[str, str | int]:
        return {"name": self.name, "device_id": self.device, "byte_size": self.size}

    def __del__(self) -> None:
        with contextlib.suppress(CudaError):
            self._driver.close(self.device, self._address)


Region = SystemRegion | CudaRegion


class Regions:
    """The registered regions by name. Safe from any thread."""

    def __init__(self, *, allowed: bool, open_driver: Callable[[], Driver] = Driver.load) -> None:
        """open_driver: called when memory of a GPU is registered for the first time."""
        self._allowed = allowed
        self._open_driver = open_driver
        self._driver: Driver | None = None
        self._regions: dict[str, Region] = {}
        # Unregistered and still in use; what is registered by such a name meanwhile goes before.
        self._leaving: weakref.WeakValueDictionary[str, Region] = weakref.WeakValueDictionary()
        self._rooms = Rooms()
        self._lock = threading.Lock()

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Open the shared memory object `key` for requests to use as `name`.

        Raises InferenceError with Triton's texts.
        """
        self._check_allowed()
        _check_key(name, key)
        with self._lock:
            self._check_name(name)
            fd = _open(key)
            if offset + size > os.fstat(fd).st_size:
                os.close(fd)
                raise _wrong_arguments(name)
            if size == 0:
                os.close(fd)
                text = f"failed to register shared memory region '{name}': unable to process"
                raise invalid(f"{text} address space: Invalid argument, its byte_size is 0")
            self._regions[name] = SystemRegion(name, key, offset, size, fd, self._rooms)

    def register_cuda(self, name: str, handle: bytes, device: int, size: int) -> None:
        """Open the memory on a GPU that an IPC handle names for requests to use as `name`.

        Raises InferenceError with Triton's texts.
        """
        self._check_allowed()
        with self._lock:
            self._check_name(name)
            if self._driver is None:
                self._driver = self._start_driver(name)
            if len(handle) != HANDLE_BYTES or device < 0 or device > _MOST_DEVICES:
                raise _wrong_arguments(name)
            try:
                address, held = self._driver.open(device, handle)
            except CudaError as error:
                log.error("failed to open a CUDA IPC handle: %s", error)
                raise _wrong_arguments(name) from None
            if size > held:
                self._driver.close(device, address)
                raise _wrong_arguments(name)
            self._regions[name] = CudaRegion(name, self._driver, device, address, size)

    def _start_driver(self, name: str) -> Driver:
        try:
            return self._open_driver()
        except CudaError as error:
            log.info("CUDA shared memory cannot be used: %s", error)
            text = f"failed to register CUDA shared memory region: '{name}', GPUs not supported"
            raise invalid(text) from None

    def _check_name(self, name: str) -> None:
        if name in self._regions:
            text = f"shared memory region '{name}' already in manager"
            raise InferenceError(Status.ALREADY_EXISTS, text)

    def unregister(self, name: str = "", *, cuda: bool = False) -> None:
        """Forget a region, or all of a kind; one in use lives until its requests have ended."""
        self._check_allowed()
        kind = CudaRegion if cuda else SystemRegion
        with self._lock:
            for one in [one for one in self._regions.values() if isinstance(one, kind)]:
                if name in ("", one.name):
                    self._leaving[one.name] = self._regions.pop(one.name)

    def status(self, name: str = "", *, cuda: bool = False) -> list[Mapping[str, str | int]]:
        """What is registered of a kind. Raises InferenceError for a name that is not."""
        kind = CudaRegion if cuda else SystemRegion
        with self._lock:
            known = {**self._leaving, **self._regions}
            if name and not isinstance(known.get(name), kind):
                word = "cuda" if cuda else "system"
                text = f"Unable to find {word} shared memory region: '{name}'"
                raise InferenceError(Status.NOT_FOUND, text)
            return [
                one.status()
                for one in known.values()
                if isinstance(one, kind) and name in ("", one.name)
            ]

    def find(self, name: str, offset: int, size: int) -> Region:
        """A region that holds [offset, offset + size). Raises InferenceError."""
        region = self._regions.get(name) or self._leaving.get(name)
        if region is None:
            text = f"Unable to find shared memory region: '{name}'"
            raise InferenceError(Status.NOT_FOUND, text)
        if offset >= region.size:
            raise invalid(f"Invalid offset for shared memory region: '{name}'")
        if size > _MOST_BYTES - offset:
            raise invalid(
                f"Integer overflow detected: byte_size ({size}) + offset ({offset}) exceeds "
                f"maximum value ({_MOST_BYTES}) for region '{name}'"
            )
        if offset + size > region.size:
            raise invalid(f"Invalid offset + byte size for shared memory region: '{name}'")
        return region

    def pack(self, layout: Layout, parts: Iterable[tuple[str, int, int]]) -> Packed | None:
        """The tensors of a layout, each in a part of a region (name, offset, size), to be read by
        whoever needs them. Raises InferenceError; None where that cannot be a process."""
        spans = []
        for name, offset, size in parts:
            region = self.find(name, offset, size)
            if not isinstance(region, SystemRegion):
                return None
            spans.append(region.span(offset, size))
        return Packed(layout, Filed(spans))

    def _check_allowed(self) -> None:
        if not self._allowed:
            raise InferenceError(Status.UNSUPPORTED, _DISABLED)


def _wrong_arguments(name: str) -> InferenceError:
    return invalid(f"failed to register shared memory region '{name}': invalid args")


def _check_key(name: str, key: str) -> None:
    plain = key.lstrip("/")
    if not plain:
        raise invalid(f"cannot register shared memory region '{name}' - invalid shm key '{key}'")
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
