"""Answers in pieces: their framing, their order, their back-pressure."""

import asyncio
from collections.abc import Callable

import pytest

from nerite.frontends.http1 import Exchange, Handler, Limits

from .conftest import Listen, on_both_loops

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
TYPE = b"Content-Type: text/event-stream\r\n"


def pieces(exchange: Exchange) -> None:
    exchange.start(200, TYPE)
    for piece in (b"data: 1\n\n", b"", b"data: 2\n\n", b"x" * 100_000):
        exchange.write(piece)
    exchange.end()


WHOLE = b"data: 1\n\ndata: 2\n\n" + b"x" * 100_000


@on_both_loops
async def test_chunked(listen: Listen) -> None:
    client = await (await listen(pieces)).connect()
    for _ in range(3):
        answer = await client.ask(GET)
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.headers["content-type"] == "text/event-stream"
        assert "content-length" not in answer.headers
        assert answer.body == WHOLE


@on_both_loops
async def test_pipelined(listen: Listen) -> None:
    client = await (await listen(pieces)).connect()
    client.send(GET * 3)
    for _ in range(3):
        assert (await client.answer()).body == WHOLE


@on_both_loops
async def test_the_old_version_ends_with_the_connection(listen: Listen) -> None:
    client = await (await listen(pieces)).connect()
    answer = await client.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert answer.headers["connection"] == "close"
    assert "transfer-encoding" not in answer.headers
    assert answer.body == WHOLE


@on_both_loops
async def test_head(listen: Listen) -> None:
    client = await (await listen(pieces)).connect()
    client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.answer("HEAD")).headers["transfer-encoding"] == "chunked"
    assert (await client.ask(GET)).body == WHOLE


@on_both_loops
async def test_connection_close(listen: Listen) -> None:
    client = await (await listen(pieces)).connect()
    answer = await client.ask(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert (answer.headers["connection"], answer.body) == ("close", WHOLE)
    assert await client.closed()


def in_a_task(work: Callable[[Exchange], object]) -> tuple[Handler, list[asyncio.Task[object]]]:
    tasks: list[asyncio.Task[object]] = []

    def handler(exchange: Exchange) -> None:
        tasks.append(asyncio.ensure_future(work(exchange)))  # type: ignore[arg-type]

    return handler, tasks


@on_both_loops
async def test_pieces_arrive_as_they_are_written(listen: Listen) -> None:
    go_on = asyncio.Event()

    async def work(exchange: Exchange) -> None:
        exchange.start(200)
        exchange.write(b"first")
        await go_on.wait()
        exchange.write(b"second")
        exchange.end()

    handler, tasks = in_a_task(work)
    client = await (await listen(handler)).connect()
    client.send(GET + GET)
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"chunked" in head
    assert await client.reader.readexactly(10) == b"5\r\nfirst\r\n"
    assert len(tasks) == 1  # the next request waits
    go_on.set()
    assert await client.reader.readexactly(16) == b"6\r\nsecond\r\n0\r\n\r\n"
    assert (await client.answer()).body == b"firstsecond"


@on_both_loops
async def test_back_pressure(listen: Listen) -> None:
    """A writer that waits for `drained` stops while the client does not read."""
    written = 0

    async def work(exchange: Exchange) -> None:
        nonlocal written
        exchange.start(200)
        while written < 12_000_000 and exchange.open:
            exchange.write(bytes(100_000))
            written += 100_000
            await exchange.drained()
        exchange.end()

    handler, tasks = in_a_task(work)
    client = await (await listen(handler)).connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GET)
    await asyncio.sleep(0.3)
    stopped = written
    assert 0 < stopped < 11_000_000
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert len((await client.answer()).body) == 12_000_000
    await asyncio.gather(*tasks)


@on_both_loops
async def test_a_stalled_reader_is_dropped(listen: Listen) -> None:
    async def work(exchange: Exchange) -> None:
        exchange.start(200)
        while exchange.open:
            exchange.write(bytes(100_000))
            await exchange.drained()

    handler, tasks = in_a_task(work)
    port = await listen(handler, limits=Limits(idle_seconds=0.3))
    client = await port.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GET)
    await asyncio.sleep(0.1)
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert not port.listener.connections


@on_both_loops
async def test_a_client_that_leaves(listen: Listen) -> None:
    left = asyncio.Event()

    async def work(exchange: Exchange) -> None:
        exchange.on_disconnect = left.set
        exchange.start(200)
        while exchange.open:
            exchange.write(b"tick")
            await asyncio.sleep(0.01)

    handler, tasks = in_a_task(work)
    client = await (await listen(handler)).connect()
    client.send(GET)
    await client.reader.readexactly(10)
    client.writer.close()
    await asyncio.wait_for(left.wait(), 5)
    await asyncio.gather(*tasks)


@on_both_loops
async def test_a_failure_in_the_middle_is_visible(
    listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(exchange: Exchange) -> None:
        exchange.start(200)
        exchange.write(b"half")
        raise RuntimeError("a bad day")

    client = await (await listen(handler)).connect()
    client.send(GET)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await client.answer()
    assert "a bad day" in caplog.text
