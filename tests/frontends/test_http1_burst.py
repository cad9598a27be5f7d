"""Answers to several clients in one system call: each gets its own, whole and in order."""

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
from typing import Any

import pytest

from nerite.core.turn import Turn
from nerite.frontends import http1_burst
from nerite.frontends.aio import Aio
from nerite.frontends.http1 import Exchange
from nerite.frontends.http1_burst import LARGEST, Burst

from .conftest import Listen, Port, on_both_loops

linux = pytest.mark.skipif(sys.platform != "linux", reason="io_submit is Linux's")


def get(path: str) -> bytes:
    return f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


class Together:
    """A handler that answers `count` requests in one turn, with as many bytes as the path says."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._open: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> None:
        self._open.append(exchange)
        if len(self._open) == self.count:
            asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        ready, self._open = self._open, []
        for exchange in ready:
            exchange.respond(200, b"", [body(exchange.head.path)])


def body(path: str) -> bytes:
    """Other bytes for every path: its name is `number-size`."""
    number, _, size = path.removeprefix("/").partition("-")
    return (number.encode() + b".") * (int(size) // (len(number) + 1))


async def connect_raw(port: Port, received: int) -> socket.socket:
    """A client that takes no more than `received` bytes unread."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, port.address)
    return sock


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The results of each system call."""
    results = list[list[int]]()
    write = Aio.write

    def remember(self: Aio) -> list[int]:
        results.append(write(self))
        return results[-1]

    monkeypatch.setattr(Aio, "write", remember)
    return results


@linux
@on_both_loops
async def test_more_clients_than_one_call_takes(listen: Listen, written: list[list[int]]) -> None:
    port = await listen(Together(150))
    clients = [await port.connect() for _ in range(150)]
    for turn in range(3):
        # Up to the largest answers that go together, head included, and above.
        paths = [f"{number * 7 + turn}-{LARGEST + 20 - number}" for number in range(150)]
        for client, path in zip(clients, paths, strict=True):
            client.send(get(path))
        for client, path in zip(clients, paths, strict=True):
            assert (await client.answer()).body == body(path)
    assert 3 * 64 < sum(map(len, written)) < 3 * 150
    assert max(map(len, written)) == 64


@linux
@on_both_loops
async def test_a_client_that_does_not_read_gets_everything_later(
    listen: Listen, written: list[list[int]]
) -> None:
    port = await listen(Together(2))
    with contextlib.closing(await connect_raw(port, 4096)) as slow:
        quick = await port.connect()
        loop, paths = asyncio.get_running_loop(), list[str]()
        # Until its socket takes no more, and then some.
        while len(written) < 10 or len(written[-10]) > 1:
            paths.append(f"{len(paths)}-{LARGEST - 200}")
            await loop.sock_sendall(slow, get(paths[-1]))
            assert (await quick.ask(get("1-20"))).body == body("1-20")
        assert any(one[0] < len(body(paths[0])) for one in written)
        data = b""
        expected = b"".join(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body(one)), body(one))
            for one in paths
        )
        async with asyncio.timeout(30):
            while len(data) < len(expected):
                data += await loop.sock_recv(slow, 1 << 16)
        assert data == expected


@linux
@on_both_loops
async def test_one_that_has_left_takes_nothing_from_the_others(
    listen: Listen, written: list[list[int]]
) -> None:
    port = await listen(Together(3))
    first, last = await port.connect(), await port.connect()
    gone = await connect_raw(port, 4096)
    for _ in range(2):
        first.send(get("1-100"))
        await asyncio.get_running_loop().sock_sendall(gone, get("2-100"))
        # It resets the connection, which the server hears of before it answers, or after.
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        gone = await connect_raw(port, 4096)
        last.send(get("3-100"))
        assert (await first.answer()).body == body("1-100")
        assert (await last.answer()).body == body("3-100")
    gone.close()


@on_both_loops
async def test_what_is_written_otherwise_does_not_overtake(listen: Listen) -> None:
    """Answers, small and large, given at once to requests that came together."""

    def answer(exchange: Exchange) -> None:
        exchange.respond(200, b"", [body(exchange.head.path)])

    port = await listen(answer)
    client, other = await port.connect(), await port.connect()
    sizes = [10, 100_000, 20, 30, LARGEST, LARGEST + 100, 40]
    for _ in range(3):
        other.send(get("8-50"))
        client.send(b"".join(get(f"{at}-{size}") for at, size in enumerate(sizes)))
        for at, size in enumerate(sizes):
            assert (await client.answer()).body == body(f"{at}-{size}")
        assert (await other.answer()).body == body("8-50")


class Idle:
    """A transport with nothing to write."""

    def get_write_buffer_size(self) -> int:
        return 0


class Place:
    """A connection. One that is lost has no transport, and its descriptor may be another's."""

    def __init__(self, fd: int, transport: Idle | None) -> None:
        self.fd, self.transport = fd, transport


@linux
def test_nothing_is_written_to_a_lost_connection() -> None:
    turn = Turn()
    turn.begin()
    burst = Burst(turn)
    burst.open()
    pairs = [socket.socketpair() for _ in range(3)]
    try:
        for transport, (ours, _) in zip((Idle(), None, Idle()), pairs, strict=True):
            burst.add(Place(ours.fileno(), transport), b"answer")
        turn.end()
        for ours, _ in pairs:
            ours.close()
        assert [theirs.recv(100) for _, theirs in pairs] == [b"answer", b"", b"answer"]
    finally:
        for _, theirs in pairs:
            theirs.close()
        burst.close()


@on_both_loops
async def test_where_the_system_has_no_such_call(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "forbidden")

    monkeypatch.setattr(http1_burst, "Aio", refuse)
    port = await listen(Together(3))
    assert not port.listener.burst.able
    clients = [await port.connect() for _ in range(3)]
    for client in clients:
        client.send(get("1-100"))
    for client in clients:
        assert (await client.answer()).body == body("1-100")


@linux
def test_a_bad_file_keeps_those_after_it_from_being_tried() -> None:
    aio = Aio(4, 100)
    left, right = socket.socketpair()
    unused = os.dup(left.fileno())
    os.close(unused)
    try:
        for fd in (left.fileno(), unused, left.fileno()):
            aio.put(fd, b"abc")
        assert aio.write() == [3, -errno.EAGAIN, -errno.EAGAIN]
        aio.put(left.fileno(), b"defg")  # and nothing of that is left over
        assert aio.write() == [4]
        assert right.recv(100) == b"abcdefg"
    finally:
        left.close()
        right.close()
        aio.close()


@linux
def test_results_are_told_however_many_there_were_before() -> None:
    """They lie in a ring."""
    aio = Aio(3, 100)
    left, right = socket.socketpair()
    try:
        for turn in range(1000):
            sizes = list(range(1, 2 + turn % 3))
            for size in sizes:
                aio.put(left.fileno(), bytes(size))
            assert aio.write() == sizes
            assert len(right.recv(100)) == sum(sizes)
    finally:
        left.close()
        right.close()
        aio.close()


def test_a_port_that_is_not_open_writes_at_once() -> None:
    assert not Burst().able
