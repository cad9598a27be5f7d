"""What is answered does not depend on how the bytes arrive: random requests, some of them broken,
cut at random places."""

import random
import re
from typing import Any

import pytest

from nerite.frontends.http1 import Connection, Limits, Listener

from .conftest import echo


class Wire:
    """A transport that remembers what was written, for a connection that is fed by hand."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def run(segments: list[bytes]) -> bytes:
    """All that a server says to these segments, one after the other."""
    wire: Any = Wire()
    connection = Connection(Listener(echo, Limits(head=400, body=3000, chunks=20)))
    connection.connection_made(wire)
    for segment in segments:
        while segment and not wire.closed:
            assert not wire.paused
            room = connection.get_buffer(-1)
            count = min(len(room), len(segment))
            assert count
            room[:count] = segment[:count]
            segment = segment[count:]
            connection.buffer_updated(count)
    connection.connection_lost(None)
    # Which of several faults is told may depend on which came first.
    return re.sub(rb'Content-Length: \d+\r\nConnection: close\r\n\r\n{"error".*', b"", wire.written)


def request(dice: random.Random) -> bytes:
    method = dice.choice([b"GET", b"POST", b"HEAD", b"PUT"])
    path = dice.choice([b"/", b"/a%20b", b"/v2/models/m/infer?x=1", b"/%ff", b"http://h/x"])
    head = b"%b %b HTTP/1.%d\r\nHost: x\r\n" % (method, path, dice.random() < 0.9)
    head += b"".join(
        b"X-%d: %b\r\n" % (n, b"y" * dice.randrange(60)) for n in range(dice.randrange(4))
    )
    if dice.random() < 0.2:
        head += dice.choice([b"Connection: close\r\n", b"Connection: keep-alive\r\n"])
    body = dice.randbytes(int(dice.choice([0, 1, 50, 700, 2500, 3100])))
    kind = dice.random()
    if kind < 0.3:
        return head + b"\r\n"
    if kind < 0.7:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    cuts = sorted(dice.randrange(len(body) + 1) for _ in range(dice.randrange(8)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]
    trailer = b"T: x\r\n" if dice.random() < 0.3 else b""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + chunks + b"0\r\n" + trailer + b"\r\n"


def broken(dice: random.Random, data: bytes) -> bytes:
    """Some bytes changed, lost or doubled."""
    mutable = bytearray(data)
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(mutable))
        match dice.randrange(3):
            case 0:
                mutable[at] = dice.choice(b"\r\n\0 :;,0aFx\xff")
            case 1:
                del mutable[at : at + dice.randrange(1, 4)]
            case _:
                mutable[at:at] = mutable[at : at + dice.randrange(1, 9)]
        if not mutable:
            break
    return bytes(mutable)


@pytest.mark.parametrize("seed", range(8))
def test_segments(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(150):
        requests = [request(dice) for _ in range(dice.randrange(1, 6))]
        data = b"".join(requests)
        if dice.random() < 0.5:
            data = broken(dice, data)
        whole = run([data])
        cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(1, 12)))
        assert run([data[a:b] for a, b in zip([0, *cuts], [*cuts, None])]) == whole  # noqa: B905
        assert run([data[at : at + 1] for at in range(len(data))]) == whole
