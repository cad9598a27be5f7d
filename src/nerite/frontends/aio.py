"""Aio: one system call that writes to many sockets, where the system has it.

Linux's io_submit (man 2 io_submit). On a socket that does not block it writes at once, as send
would, so that nothing is under way when it returns, and what became of it stands in memory that
the system shares with us (struct aio_ring of fs/aio.c). Containers allow it where io_uring is not.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from collections.abc import Callable
from errno import EAGAIN, ENOSYS
from functools import partial
from typing import Any

# io_setup, io_destroy, io_submit
_CALLS = {"x86_64": (206, 207, 209), "aarch64": (0, 1, 2)}
_PWRITE = 1
_BLOCK = struct.Struct("<QIiHhIQQ24x")  # number, key, flags, what, priority, fd, address, bytes
_PLACE = struct.Struct("<IQQ")  # of which these change: fd, address, bytes
_PLACE_AT = 20
_EVENT = struct.Struct("<QQqq")  # number, block, result, -
_RING = struct.Struct("<8I")  # -, events there is room for, head, tail, magic, -, -, this size
_HEAD, _TAIL = 2, 3
_MAGIC = 0xA10A10A1


class Aio:
    """Room for `most` writes of `size` bytes together."""

    def __init__(self, most: int, size: int) -> None:
        """Raises OSError where the system has no such call, or forbids it."""
        known = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
        if known is None or sys.maxsize < 1 << 32:
            raise OSError(ENOSYS, "this system has no io_submit")
        setup, destroy, submit = known
        # Not CDLL: to give up the interpreter's lock and take it back costs more than the call.
        system = ctypes.PyDLL(None, use_errno=True)
        word, place = ctypes.c_long, ctypes.c_void_p
        self._submit = _bound(system, submit, (word, word, place))
        self._destroy = _bound(system, destroy, (word,))
        context = ctypes.c_ulong(0)
        if _bound(system, setup, (word, place))(most, ctypes.addressof(context)) < 0:
            raise OSError(ctypes.get_errno(), "io_setup failed")
        self._context = context.value
        self._ring = _at(context.value, _RING.size).cast("I")
        _, self._size, *_, magic, _, _, start = self._ring
        if magic != _MAGIC or start != _RING.size:
            self.close()
            raise OSError(ENOSYS, "io_submit's results are not where they are looked for")
        self._events = _at(context.value + start, self._size * _EVENT.size)
        self._count = self._filled = 0
        self._room, self._room_at = _memory(size)
        self._blocks, blocks_at = _memory(most * _BLOCK.size)
        for number in range(most):
            fields = (number, 0, 0, _PWRITE, 0, 0, 0, 0)
            _BLOCK.pack_into(self._blocks, number * _BLOCK.size, *fields)
        starts = [blocks_at + number * _BLOCK.size for number in range(most)]
        self._starts = (ctypes.c_uint64 * most)(*starts)
        self._starts_at = ctypes.addressof(self._starts)

    def put(self, fd: int, data: bytes) -> None:
        """One more to write; at most as many as there is room for."""
        start = self._filled
        end = self._filled = start + len(data)
        self._room[start:end] = data
        place = self._count * _BLOCK.size + _PLACE_AT
        _PLACE.pack_into(self._blocks, place, fd, self._room_at + start, len(data))
        self._count += 1

    def write(self) -> list[int]:
        """Write what was put: how many bytes each took, or minus the error's number; -EAGAIN where
        one before it kept it from being tried."""
        count, context = self._count, self._context
        self._count = self._filled = 0
        results = [-EAGAIN] * count
        self._submit(context, count, self._starts_at)
        ring = self._ring
        at, end = ring[_HEAD], ring[_TAIL]
        while at != end:
            number, _, result, _ = _EVENT.unpack_from(self._events, at * _EVENT.size)
            results[number] = result
            at = (at + 1) % self._size
        ring[_HEAD] = at
        return results

    def close(self) -> None:
        context, self._context = self._context, 0
        if context:
            self._destroy(context)


def _bound(system: ctypes.PyDLL, number: int, types: tuple[Any, ...]) -> Callable[..., int]:
    """A system call."""
    function = system["syscall"]
    function.restype = ctypes.c_long
    function.argtypes = (ctypes.c_long, *types)
    return partial(function, number)


def _memory(size: int) -> tuple[memoryview, int]:
    """Memory, and its address."""
    memory = (ctypes.c_char * size)()
    return memoryview(memory).cast("B"), ctypes.addressof(memory)


def _at(address: int, size: int) -> memoryview:
    """The memory there, for as long as there is any."""
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")
