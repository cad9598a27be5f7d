"""Regions: memory that both ends of a socket map, so that large tensors are copied once.

The sender lends a region to a message and takes it back when the receiver's last view of it is
gone; the memory is used again, for fresh pages cost more than the copy. A region is an anonymous
file (memfd) passed over the socket: no /dev/shm, and none of its limits. It is sealed, so that
neither end can shrink it under the other's feet.
"""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import weakref
from typing import Any, Callable, Sequence

import numpy as np

from nerite.core.files import File
from nerite.core.layout import Buffer

AVAILABLE = hasattr(os, "memfd_create")
_SMALLEST = 1 << 20
_KEPT = 1 << 26  # bytes of regions that nobody uses, kept for the next message
_SEALS = 0x2 | 0x4  # F_SEAL_SHRINK, F_SEAL_GROW


class Region:
    """A piece of memory and the file behind it."""

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.fd = os.memfd_create("nerite", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        self.memory = np.frombuffer(mmap.mmap(self.fd, size), np.uint8)

    def fill(self, buffers: Sequence[Buffer]) -> None:
        start = 0
        for data in buffers:
            end = start + len(data)
            self.memory[start:end] = np.frombuffer(data, np.uint8)
            start = end

    def close(self) -> None:
        os.close(self.fd)


class LentFiles:
    """The files of others that a sender has told its receiver of, by number."""

    def __init__(self, tell: Callable[[int, File], None], forget: Callable[[int], None]) -> None:
        """tell: send a file, at once; forget: have the receiver close it, from any thread."""
        self._tell = tell
        self._forget = forget
        self._counted = itertools.count(1)
        self._numbers: dict[int, int] = {}  # by the file's id
        self._files: dict[int, weakref.ref[File]] = {}

    def number(self, file: File) -> int:
        """The file's number, which the receiver knows from now on."""
        number = self._numbers.get(id(file))
        if number is None:
            key, number = id(file), next(self._counted)
            self._numbers[key] = number
            self._files[number] = weakref.ref(file, lambda _: self._gone(key))
            self._tell(number, file)
        return number

    def file(self, number: int) -> File:
        """The file of a number that the receiver has sent back."""
        file = self._files[number]()
        assert file is not None, "whoever waits for an answer holds its places"
        return file

    def _gone(self, key: int) -> None:
        number = self._numbers.pop(key)
        del self._files[number]
        self._forget(number)


class BorrowedFile:
    """A file that a sender has passed."""

    def __init__(self, number: int, name: str, fd: int) -> None:
        self.number, self.name, self.fd = number, name, fd

    def __del__(self) -> None:
        os.close(self.fd)


class BorrowedFiles:
    """Those that a receiver has been told of."""

    def __init__(self) -> None:
        self._files: dict[int, BorrowedFile] = {}

    def open(self, number: int, name: str, fd: int) -> None:
        self._files[number] = BorrowedFile(number, name, fd)

    def forget(self, number: int) -> None:
        self._files.pop(number, None)

    def number(self, file: Any) -> int:
        return int(file.number)

    def file(self, number: int) -> File:
        return self._files[number]


class Lent:
    """The regions of a sender, from any thread. Takes no lock: a garbage collection in the middle
    of one message may have another sent."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._free: dict[int, list[Region]] = {}  # by size
        self._busy: dict[int, Region] = {}

    def lend(self, size: int) -> tuple[Region, bool]:
        """A region of at least `size` bytes, and whether it is new to the receiver."""
        wanted = max(_SMALLEST, 1 << (size - 1).bit_length())
        free = self._free.setdefault(wanted, [])
        try:
            region, new = free.pop(), False
        except IndexError:
            region, new = Region(next(self._numbers), wanted), True
        self._busy[region.number] = region
        return region, new

    def take_back(self, numbers: Sequence[int]) -> list[int]:
        """The receiver is done with these; the numbers of those that it need not keep mapped."""
        closed = []
        for number in numbers:
            region = self._busy.pop(number)
            kept = sum(size * len(regions) for size, regions in list(self._free.items()))
            if kept + region.size > _KEPT:
                region.close()
                closed.append(number)
            else:
                self._free[region.size].append(region)
        return closed

    def close(self) -> None:
        for regions in self._free.values():
            for region in regions:
                region.close()
        for region in self._busy.values():
            region.close()
        self._free, self._busy = {}, {}


class Borrowed:
    """The regions that a receiver has mapped. `done` is told a region's number when the last view
    of what was in it is gone, in whatever thread that happens."""

    def __init__(self, done: Callable[[int], None]) -> None:
        self._done = done
        self.files = BorrowedFiles()
        self._maps: dict[int, mmap.mmap] = {}
        self._views: dict[int, Any] = {}

    def map(self, number: int, size: int, fd: int) -> None:
        """Raises OSError for a file that its sender might shrink."""
        try:
            if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
                raise OSError("a region that is not sealed")
            self._maps[number] = mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._maps.pop(number, None)

    def view(self, number: int, size: int) -> memoryview:
        """The first `size` bytes of a region, until nobody has a view of them any more."""
        owner = np.frombuffer(self._maps[number], np.uint8, size)
        self._views[number] = weakref.ref(owner, lambda _: self._gone(number))
        return owner.data

    def _gone(self, number: int) -> None:
        self._views.pop(number, None)
        self._done(number)
