"""The front process's end of a worker's socket: how it waits for what is expected."""

import asyncio
import socket

import pytest

from nerite.core.turn import Turn
from nerite.instances import lookout, stream, wire
from nerite.instances.link import Link


class _Counting:
    """A socket that counts how often it is looked into in vain."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.vain = 0
        self.fileno, self.close = sock.fileno, sock.close
        self.setblocking, self.setsockopt = sock.setblocking, sock.setsockopt

    def recvmsg_into(self, *arguments: object) -> object:
        try:
            return self._sock.recvmsg_into(*arguments)  # type: ignore[arg-type]
        except BlockingIOError:
            self.vain += 1
            raise


@pytest.mark.skipif(not lookout.SEVERAL_CORES, reason="on one core it does not look")
async def test_it_looks_for_what_is_expected_and_seldom_where_that_is_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()
    counted = _Counting(ours)
    taken: list[wire.Message] = []
    came = asyncio.Event()

    def take(message: wire.Message) -> None:
        taken.append(message)
        came.set()

    loop = asyncio.get_running_loop()
    link = Link(loop, counted, take, Turn())  # type: ignore[arg-type]
    with theirs:
        loop.remove_reader(counted)  # type: ignore[arg-type]  # nobody tells it that something came
        monkeypatch.setattr(lookout, "WATCH_NS", 30 * 10**9)
        link.watch()
        link.watch()
        await asyncio.sleep(0.02)
        stream.send(theirs, wire.encode(wire.ORDER, {}))
        await asyncio.wait_for(came.wait(), 10)
        assert [message.kind for message in taken] == [wire.ORDER]
        assert counted.vain > 0
        counted.vain = 0
        await asyncio.sleep(0.02)
        assert counted.vain == 0  # it has come
        monkeypatch.setattr(lookout, "WATCH_NS", 1_000_000)
        looks = 0
        for _ in range(40):
            counted.vain = 0
            link.watch()
            while link._watching:
                await asyncio.sleep(0)
            looks += counted.vain > 0
        assert looks == 5  # with 1, 3, 7, 15 and 31 times between them
        link.watch()
    link.end()
    await asyncio.wait_for(link.closed, 10)
