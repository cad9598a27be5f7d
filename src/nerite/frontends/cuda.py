"""Memory of another process on an NVIDIA GPU, through the driver's own library.

Loaded when a client registers such memory, and never before: the front process has no other use
for a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from ctypes import byref, c_char, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

HANDLE_BYTES = 64
_LAZY_PEER_ACCESS = 1


class CudaError(Exception):
    """What the driver answered, by its own name."""


class _Handle(ctypes.Structure):
    """cudaIpcMemHandle_t, which the driver takes by value."""

    _fields_ = (("reserved", c_char * HANDLE_BYTES),)


class Driver:
    """The few functions that it takes. Addresses are numbers; safe from any thread."""

    def __init__(self, library: Any) -> None:
        """library: libcuda as ctypes loads it. Raises CudaError when it cannot start."""
        self._library = library
        self._contexts: dict[int, c_void_p] = {}
        self._call("cuInit", c_uint(0))

    @classmethod
    def load(cls) -> Driver:
        """Raises CudaError where there is no driver or no GPU."""
        try:
            return cls(ctypes.CDLL("libcuda.so.1"))
        except OSError as error:
            raise CudaError(str(error)) from None

    def open(self, device: int, handle: bytes) -> tuple[int, int]:
        """The address and the size of the memory that an IPC handle names. Raises CudaError."""
        address, start, size = c_uint64(), c_uint64(), c_size_t()
        named = _Handle.from_buffer_copy(handle)
        with self._on(device):
            self._call("cuIpcOpenMemHandle_v2", byref(address), named, c_uint(_LAZY_PEER_ACCESS))
            try:
                self._call("cuMemGetAddressRange_v2", byref(start), byref(size), address)
            except CudaError:
                self._call("cuIpcCloseMemHandle", address)
                raise
        return address.value, size.value

    def close(self, device: int, address: int) -> None:
        with self._on(device):
            self._call("cuIpcCloseMemHandle", c_uint64(address))

    def read(self, device: int, address: int, size: int) -> bytearray:
        """`size` bytes from there. Raises CudaError."""
        data = bytearray(size)
        if size:
            here = (c_char * size).from_buffer(data)
            with self._on(device):
                self._call("cuMemcpyDtoH_v2", byref(here), c_uint64(address), c_size_t(size))
        return data

    def write(self, device: int, address: int, data: bytes) -> None:
        """Raises CudaError."""
        if data:
            with self._on(device):
                self._call(
                    "cuMemcpyHtoD_v2", c_uint64(address), ctypes.c_char_p(data), c_size_t(len(data))
                )

    @contextlib.contextmanager
    def _on(self, device: int) -> Iterator[None]:
        """The device's context, which all libraries of a process share, in this thread."""
        context = self._contexts.get(device)
        if context is None:
            number, context = c_int(), c_void_p()
            self._call("cuDeviceGet", byref(number), c_int(device))
            self._call("cuDevicePrimaryCtxRetain", byref(context), number)
            context = self._contexts.setdefault(device, context)
        self._call("cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", byref(c_void_p()))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(c_int(code), byref(text))
            raise CudaError(f"{name}: {(text.value or b'').decode() or f'error {code}'}")
