"""Bytes on a worker's socket, and the files that come with them; both ends use this."""

from __future__ import annotations

import array
import socket
from collections import deque
from typing import Callable, Sequence

import numpy as np

from nerite.core.files import File
from nerite.core.layout import Buffer
from nerite.instances import wire
from nerite.instances.regions import AVAILABLE, Borrowed, Lent

_STAGE = 1 << 18
_IOV = 512  # well below every system's IOV_MAX
_FILES = socket.CMSG_SPACE(16 * array.array("i").itemsize)


class Memory:
    """The regions of one end: those that it lends, and those that it has borrowed.

    lent: None where the system has no such files.
    """

    def __init__(self, post: Callable[[list[Buffer]], None]) -> None:
        """post: writes a message, from any thread."""
        self.lent = Lent() if AVAILABLE else None
        self.borrowed = Borrowed(self._release)
        self._post = post

    def take(self, message: wire.Message) -> bool:
        """Whether a message was about regions, and is done with."""
        if message.kind == wire.RELEASE and self.lent is not None:
            closed = self.lent.take_back(message.fields["numbers"])
            if closed:
                self._post(wire.encode(wire.FORGET, {"numbers": closed}))
        elif message.kind == wire.FORGET and "file" in message.fields:
            self.borrowed.files.forget(message.fields["file"])
        elif message.kind == wire.FORGET:
            self.borrowed.forget(message.fields["numbers"])
        else:
            return False
        return True

    def _release(self, number: int) -> None:
        self._post(wire.encode(wire.RELEASE, {"numbers": [number]}))

    def close(self) -> None:
        if self.lent is not None:
            self.lent.close()


class Decoder:
    """Bytes in, messages out; does no I/O, so that both a loop and a thread can drive it.

    Small messages are cut from one staging buffer; a large one is received straight into a
    buffer of its own, which its tensors then keep alive.
    """

    def __init__(self, borrowed: Borrowed) -> None:
        self._borrowed = borrowed
        self._files: deque[int] = deque()
        self._stage = bytearray(_STAGE)
        self._view = memoryview(self._stage)
        self._filled = 0
        self._large: memoryview | None = None
        self._large_filled = 0
        self._large_prefix = (0, 0)

    def buffer(self) -> memoryview:
        """Where to receive the next bytes; never empty."""
        if self._large is not None:
            return self._large[self._large_filled :]
        return self._view[self._filled :]

    def receive(self, sock: socket.socket, flags: int = 0) -> list[wire.Message] | None:
        """Read what is there; the messages it completes, None at the end of all."""
        count, ancillary, _, _ = sock.recvmsg_into([self.buffer()], _FILES, flags)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._files.extend(array.array("i", data[: len(data) - len(data) % 4]))
        return self.received(count) if count else None

    def received(self, count: int) -> list[wire.Message]:
        """Take note of `count` bytes in `buffer()`; the messages they complete."""
        if self._large is None:
            self._filled += count
            return self._cut()
        self._large_filled += count
        if self._large_filled < len(self._large):
            return []
        body, self._large = self._large, None
        return self._decoded(*self._large_prefix, body)

    def close(self) -> None:
        """Nothing more comes: give the memory back, however long this object is still held."""
        self._large = None
        self._stage = bytearray()
        self._view = memoryview(self._stage)

    def _cut(self) -> list[wire.Message]:
        messages: list[wire.Message] = []
        start = 0
        while self._filled - start >= wire.PREFIX.size:
            kind, entries, length = wire.PREFIX.unpack_from(self._stage, start)
            body = start + wire.PREFIX.size
            if self._filled - body >= length:
                data = memoryview(self._stage[body : body + length])
                messages += self._decoded(kind, entries, data)
                start = body + length
                continue
            if wire.PREFIX.size + length > _STAGE:
                self._receive_large(body, length, (kind, entries))
                return messages
            break
        left = self._filled - start
        if start:
            self._stage[:left] = self._stage[start : self._filled]
        self._filled = left
        return messages

    def _decoded(self, kind: int, entries: int, body: memoryview) -> list[wire.Message]:
        message = wire.decode(kind, entries, body, self._borrowed)
        if kind not in (wire.REGION, wire.FILE):
            return [message]
        fields, fd = message.fields, self._files.popleft()
        if kind == wire.FILE:
            self._borrowed.files.open(fields["number"], fields["name"], fd)
        else:
            self._borrowed.map(fields["number"], fields["size"], fd)
        return []

    def _receive_large(self, body: int, length: int, prefix: tuple[int, int]) -> None:
        # Not a bytearray: its zeroes would be written once before the data is.
        large = np.empty(length, np.uint8).data
        here = self._filled - body
        large[:here] = self._view[body : self._filled]
        self._large = large
        self._large_filled = here
        self._large_prefix = prefix
        self._filled = 0


def passing(number: int, file: File) -> list[Buffer]:
    """The message that passes another's file."""
    (body,) = wire.encode(wire.FILE, {"number": number, "name": file.name})
    passed = wire.Passed(body)
    passed.fd = file.fd
    return [passed]


def send(sock: socket.socket, buffers: Sequence[Buffer]) -> None:
    """Write all of `buffers` to a blocking socket."""
    views = unsent(buffers)
    while views:
        views = _send(sock, views)


def send_some(sock: socket.socket, views: list[Buffer]) -> list[Buffer]:
    """Write what a non-blocking socket takes now; what is left to write."""
    while views:
        try:
            views = _send(sock, views)
        except (BlockingIOError, InterruptedError):
            return views
    return views


def unsent(buffers: Sequence[Buffer]) -> list[Buffer]:
    """What is to be written of a message."""
    return [part for part in buffers if len(part)]


def _send(sock: socket.socket, views: list[Buffer]) -> list[Buffer]:
    first = views[0]
    if type(first) is wire.Passed:
        files = array.array("i", [first.fd])
        sent = sock.sendmsg([first], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        return _advance([memoryview(first), *views[1:]], sent)
    if len(views) == 1:  # as most messages are
        sent = sock.send(first)
        return [] if sent == len(first) else [memoryview(first)[sent:]]
    plain = views[:_IOV]
    for index, view in enumerate(plain):
        if type(view) is wire.Passed:
            plain = plain[:index]
            break
    return _advance(views, sock.sendmsg(plain))


def _advance(views: list[Buffer], sent: int) -> list[Buffer]:
    for index, view in enumerate(views):
        if sent < len(view):
            if not sent:
                return views[index:]
            return [memoryview(view)[sent:], *views[index + 1 :]]
        sent -= len(view)
    return []
