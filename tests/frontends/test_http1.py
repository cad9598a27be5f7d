"""HTTP/1 against a real listener: what is answered, in which order, and what is kept open."""

import asyncio
import os
import time

import pytest

from nerite.frontends.http1 import Exchange, Head, Limits, Reply

from .conftest import Listen, on_both_loops

GET = b"GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes, path: bytes = b"/", more: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + length + more + b"\r\n" + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


@on_both_loops
async def test_keep_alive(listen: Listen) -> None:
    client = await (await listen()).connect()
    for _ in range(3):
        answer = await client.ask(GET)
        assert (answer.status, answer.headers["x-path"], answer.body) == (200, "/a b", b"")
        assert "connection" not in answer.headers
    assert (await client.ask(post(b"hello"))).body == b"hello"


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", None),
        (b"1.1", b"Connection: close\r\n", "close"),
        (b"1.0", b"", "close"),
        (b"1.0", b"Connection: keep-alive\r\n", "keep-alive"),
    ],
)
@on_both_loops
async def test_versions(
    listen: Listen, version: bytes, connection: bytes, kept: str | None
) -> None:
    client = await (await listen()).connect()
    request = b"GET / HTTP/%b\r\nHost: x\r\n%b\r\n" % (version, connection)
    answer = await client.ask(request)
    assert answer.headers.get("connection") == kept
    if kept == "close":
        assert await client.closed()
    else:
        assert (await client.ask(request)).status == 200


@on_both_loops
async def test_head_has_the_length_and_no_body(listen: Listen) -> None:
    def handler(exchange: Exchange) -> None:
        exchange.respond(200, b"", [b"12345"])

    client = await (await listen(handler)).connect()
    client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.answer("HEAD")).headers["content-length"] == "5"
    assert (await client.ask(GET)).body == b"12345"


@on_both_loops
async def test_pipelined_requests_are_answered_in_order(listen: Listen) -> None:
    client = await (await listen()).connect()
    bodies = [os.urandom(size) for size in (0, 1, 100, 20_000, 0, 70_000, 5)]
    client.send(b"".join(post(body) for body in bodies))
    assert [(await client.answer()).body for _ in bodies] == bodies


@on_both_loops
async def test_pipelined_requests_wait_for_a_slow_handler(listen: Listen) -> None:
    waiting: list[Exchange] = []
    client = await (await listen(waiting.append)).connect()
    client.send(b"".join(post(b"%d" % number) for number in range(4000)))
    for number in range(4000):
        while not waiting:
            await asyncio.sleep(0)
        exchange = waiting.pop()
        assert not waiting
        exchange.respond(200, b"", [bytes(exchange.body)])
        if number % 500 == 0:
            await asyncio.sleep(0.01)
    assert [(await client.answer()).body for _ in range(4000)] == [b"%d" % n for n in range(4000)]


@on_both_loops
async def test_a_flood_of_pipelined_requests_is_not_stored(listen: Listen) -> None:
    waiting: list[Exchange] = []
    port = await listen(waiting.append)
    client = await port.connect()
    flood = post(b"x" * 1000) * 20_000
    client.send(flood)
    await asyncio.sleep(0.2)
    (connection,) = port.listener.connections
    assert len(connection._stage) <= 1 << 18
    client.writer.transport.abort()


@pytest.mark.parametrize("size", [50, 5000, 1_000_000])
@on_both_loops
async def test_answers_that_are_not_read_are_not_stored(listen: Listen, size: int) -> None:
    """No request is taken from a client that does not take its answers; all are once it does."""
    count = 40_000_000 // (size + 2000)
    taken: list[Exchange] = []

    def handler(exchange: Exchange) -> None:
        taken.append(exchange)
        exchange.respond(200, b"X-Fill: %b\r\n" % bytes(2000).replace(b"\0", b"x"), [bytes(size)])

    port = await listen(handler)
    client = await port.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GET * count)
    await asyncio.sleep(0.5)
    (connection,) = port.listener.connections
    assert connection.transport.get_write_buffer_size() <= (1 << 17) + 2 * size
    assert len(connection._stage) <= 1 << 18
    assert len(taken) < count
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(count):
        assert len((await client.answer()).body) == size
    assert len(taken) == count
    assert (await client.ask(GET)).status == 200


@pytest.mark.parametrize("size", [0, 1, 16_384, 1 << 20, 5_000_001])
@on_both_loops
async def test_bodies_of_any_size(listen: Listen, size: int) -> None:
    body = os.urandom(size)
    client = await (await listen()).connect()
    for request in (post(body), chunked(*filter(None, (body[:7], body[7:])))):
        assert (await client.ask(request)).body == body


@on_both_loops
async def test_bytes_that_come_one_by_one(listen: Listen) -> None:
    client = await (await listen()).connect()
    for request in (
        GET,
        post(b"hello"),
        b"\r\n\r\n" + chunked(b"hel", b"lo", end=b"0\r\nT: x\r\n\r\n"),
    ):
        for position in range(len(request)):
            client.send(request[position : position + 1])
            await asyncio.sleep(0)
        assert (await client.answer()).status == 200


@on_both_loops
async def test_pieces_cost_what_they_weigh(listen: Listen) -> None:
    """Small pieces of a large head or body are neither searched nor moved again and again."""
    port = await listen(limits=Limits(head=1 << 20, chunks=1 << 20))
    client = await port.connect()
    begun = time.process_time()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
    for _ in range(10_000):
        client.send(b"X: " + b"y" * 92 + b"\r\n")
        await asyncio.sleep(0)
    client.send(b"\r\n")
    assert (await client.answer()).status == 200
    client.send(chunked(*[b"z" * 10] * 200_000))
    assert len((await client.answer()).body) == 2_000_000
    assert time.process_time() - begun < 10


@on_both_loops
async def test_a_large_body_in_pieces(listen: Listen) -> None:
    client = await (await listen()).connect()
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
    piece = os.urandom(8000)
    for _ in range(1000):
        client.send(piece)
        await client.writer.drain()
    assert (await client.answer()).body == piece * 1000


@on_both_loops
async def test_expect(listen: Listen) -> None:
    client = await (await listen()).connect()
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    assert (await client.ask(head)).status == 100
    assert (await client.ask(b"hello")).body == b"hello"
    assert (await client.ask(head + b"hello")).body == b"hello"  # not asked for any more
    assert (await client.ask(head.replace(b"100-continue", b"200-ok"))).status == 417
    old = await (await listen()).connect()
    assert (await old.ask(head.replace(b"1.1", b"1.0") + b"hello")).body == b"hello"


BAD = {
    "not HTTP": b"hello\r\n\r\n",
    "an unknown method": b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad URL": b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\nabc",
    "a signed length": b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc",
    "a length in hex": b"POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\nabc",
    "a huge length": b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "no length": b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\nabc",
    "length and chunks": post(b"", more=b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
    "chunks and length": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 3\r\n\r\n",
    "two codings": b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding": b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "no coding": b"POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\nabc",
    "chunks in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
    "a space before the colon": b"POST / HTTP/1.1\r\nContent-Length : 3\r\n\r\nabc",
    "lines without CR": b"GET / HTTP/1.1\nHost: x\n\n",
    "one line without CR": b"GET / HTTP/1.1\r\nHost: x\nContent-Length: 3\r\n\r\nabc",
    "a lone CR": b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
    "a NUL": b"GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a signed size": chunked(end=b"+5\r\nhello\r\n0\r\n\r\n"),
    "a size with 0x": chunked(end=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a size with _": chunked(end=b"0_5\r\nhello\r\n0\r\n\r\n"),
    "no size": chunked(end=b"\r\nhello\r\n0\r\n\r\n"),
    "no number": chunked(end=b"five\r\nhello\r\n0\r\n\r\n"),
    "a bare LF in a size line": chunked(end=b"5\nhello\r\n0\r\n\r\n"),
    "a bare LF in an extension": chunked(end=b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "a chunk beyond its size": chunked(end=b"5\r\nhello!\r\n0\r\n\r\n"),
    "no line end after a chunk": chunked(end=b"5\r\nhello0\r\n\r\n"),
    "an endless size line": chunked(end=b"5;" + b"a" * 2000),
}  # fmt: skip


@pytest.mark.parametrize("request_", BAD.values(), ids=BAD.keys())
@on_both_loops
async def test_bad_requests(listen: Listen, request_: bytes) -> None:
    """Refused with a sentence, and nothing after them is taken for a request."""
    seen: list[str] = []

    def handler(exchange: Exchange) -> None:
        seen.append(exchange.head.path)
        exchange.respond(200)

    client = await (await listen(handler)).connect()
    answer = await client.ask(request_ + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.status == 400
    assert answer.body.startswith(b'{"error":"')
    assert answer.headers["connection"] == "close"
    assert await client.closed()
    assert "/smuggled" not in seen


@on_both_loops
async def test_other_versions(listen: Listen) -> None:
    port = await listen()
    for line in (b"GET / HTTP/2.0", b"PRI * HTTP/2.0", b"GET / HTTP/0.9"):
        assert (await port.ask(line + b"\r\n\r\n")).status == 505


@on_both_loops
async def test_limits(listen: Listen) -> None:
    port = await listen(limits=Limits(head=1000, body=100, chunks=3))
    for request in (
        b"GET / HTTP/1.1\r\nX: " + b"y" * 2000,
        b"GET / HTTP/1.1\r\nX: " + b"y" * 2000 + b"\r\n\r\n",
    ):
        assert (await port.ask(request)).status == 431
    assert (await port.ask(post(b"x" * 100))).status == 200
    for request in (
        b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n",
        chunked(b"x" * 60, b"x" * 41),
        chunked(end=b"65\r\n"),
        chunked(end=b"ffffffffffffffff\r\n"),
    ):
        assert (await port.ask(request)).status == 413
    assert (await port.ask(chunked(b"a", b"b", b"c"))).body == b"abc"
    answer = await port.ask(chunked(b"a", b"b", b"c", b"d"))
    assert answer.status == 400
    assert b"Chunked request body exceeds maximum of 3 non-empty chunks." in answer.body
    trailers = b"0\r\n" + b"T: x\r\n" * 200
    assert (await port.ask(chunked(b"a", end=trailers))).status == 400


@on_both_loops
async def test_a_refused_upload_hears_why(listen: Listen) -> None:
    """The answer is not lost in a reset, although the body is still being sent."""
    port = await listen(limits=Limits(body=100))
    client = await port.connect()
    client.send(post(b"x" * 5_000_000))
    assert (await client.answer()).status == 413


@on_both_loops
async def test_a_claimed_length_takes_no_memory(listen: Listen) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    port = await listen()
    before = resident()
    for _ in range(4):
        client = await port.connect()
        client.send(b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\nx")
    await asyncio.sleep(0.1)
    assert len(port.listener.connections) == 4
    assert resident() - before < 100_000_000


@on_both_loops
async def test_slow_requests_time_out(listen: Listen) -> None:
    port = await listen(limits=Limits(send_seconds=0.5))
    clients = [await port.connect() for _ in range(3)]
    clients[0].send(b"GET / HT")
    clients[1].send(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
    clients[2].send(chunked(b"abc", end=b""))
    for _ in range(20):
        for client in clients:
            if not client.writer.transport.is_closing():
                client.send(b"")
        await asyncio.sleep(0.01)
    for client in clients:
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert b"did not arrive within 0.5 seconds" in answer.body
        assert await client.closed()


@on_both_loops
async def test_dripping_does_not_extend_the_time(listen: Listen) -> None:
    port = await listen(limits=Limits(send_seconds=0.5))
    client = await port.connect()

    async def drip() -> None:
        while True:
            client.send(b"X")
            await asyncio.sleep(0.05)

    dripping = asyncio.ensure_future(drip())
    try:
        assert (await client.answer()).status == 408
    finally:
        dripping.cancel()


@on_both_loops
async def test_empty_lines_do_not_extend_the_time(listen: Listen) -> None:
    port = await listen(limits=Limits(send_seconds=0.5, idle_seconds=0.5))
    client, used = await port.connect(), await port.connect()
    assert (await used.ask(GET)).status == 200
    for _ in range(10):
        used.send(b"\r\n")
        client.send(b"\r\n")
        await asyncio.sleep(0.02)
    assert await client.closed()
    assert await used.closed()


@on_both_loops
async def test_idle_connections_close(listen: Listen) -> None:
    port = await listen(limits=Limits(idle_seconds=0.5))
    used = await port.connect()
    assert (await used.ask(GET)).status == 200
    assert await used.closed()
    assert not port.listener.connections


@pytest.mark.parametrize(
    "limits",
    [
        Limits(send_seconds=0.5, connections=2),
        Limits(send_seconds=0, idle_seconds=0.5, connections=2),
    ],
)
@on_both_loops
async def test_silent_connections_close(listen: Listen, limits: Limits) -> None:
    """Those that have not asked anything do not keep others out for as long as the idle."""
    port = await listen(limits=limits)
    silent = [await port.connect() for _ in range(2)]
    assert (await port.ask(GET)).status == 503
    for client in silent:
        assert await client.closed()
    assert (await port.ask(GET)).status == 200


@on_both_loops
async def test_a_body_has_its_own_time(listen: Listen) -> None:
    """Whoever connects early may still send a request that takes long."""
    client = await (await listen(limits=Limits(send_seconds=1))).connect()
    request = post(b"x" * 9)
    await asyncio.sleep(0.7)
    client.send(request[:-5])
    await asyncio.sleep(0.7)
    assert (await client.ask(request[-5:])).status == 200


@on_both_loops
async def test_a_handler_may_take_its_time(listen: Listen) -> None:
    waiting: list[Exchange] = []
    port = await listen(waiting.append, limits=Limits(idle_seconds=0.2, send_seconds=0.2))
    client = await port.connect()
    client.send(GET)
    await asyncio.sleep(0.6)
    waiting[0].respond(200)
    assert (await client.answer()).status == 200


@on_both_loops
async def test_connections_beyond_the_limit(listen: Listen) -> None:
    port = await listen(limits=Limits(connections=2))
    first, second = await port.connect(), await port.connect()
    assert (await first.ask(GET)).status == (await second.ask(GET)).status == 200
    third = await port.connect()
    answer = await third.ask(GET)
    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert b"--http-max-connections" in answer.body
    assert await third.closed()
    first.writer.close()
    await first.writer.wait_closed()
    await asyncio.sleep(0.05)
    assert (await port.ask(GET)).status == 200


@on_both_loops
async def test_a_client_that_leaves(listen: Listen) -> None:
    left = asyncio.Event()
    waiting: list[Exchange] = []

    def handler(exchange: Exchange) -> None:
        exchange.on_disconnect = left.set
        waiting.append(exchange)

    client = await (await listen(handler)).connect()
    client.send(GET)
    while not waiting:
        await asyncio.sleep(0.01)
    assert waiting[0].open
    client.writer.close()
    await asyncio.wait_for(left.wait(), 5)
    assert not waiting[0].open
    waiting[0].respond(200)
    waiting[0].start(200)
    waiting[0].write(b"x")
    await waiting[0].drained()
    waiting[0].end()


@on_both_loops
@pytest.mark.parametrize(("size", "goes_on"), [(50_000_000, False), (5_000_000, True)])
async def test_a_client_that_never_reads(listen: Listen, size: int, goes_on: bool) -> None:
    """Its answer does not stay in memory for ever, and what it asks does not keep it here."""
    blob = bytes(size)
    port = await listen(lambda one: one.respond(200, b"", [blob]), limits=Limits(idle_seconds=0.3))
    client = await port.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GET)
    async with asyncio.timeout(10):
        while not port.listener.connections:
            await asyncio.sleep(0.02)
        while port.listener.connections:
            if goes_on:
                client.send(GET)
            await asyncio.sleep(0.02)


@on_both_loops
async def test_a_handler_that_fails(listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    def handler(exchange: Exchange) -> None:
        raise RuntimeError("a bad day")

    client = await (await listen(handler)).connect()
    answer = await client.ask(GET)
    assert (answer.status, b"internal error" in answer.body) == (500, True)
    assert "a bad day" in caplog.text
    assert (await client.ask(GET)).status == 500  # and the connection goes on


@on_both_loops
async def test_a_gate_answers_before_the_body(listen: Listen) -> None:
    seen: list[str] = []

    def gate(head: Head) -> None:
        seen.append(head.path)
        head.extra = b"X-Gate: open\r\n"
        if head.path == "/shut":
            head.reply = Reply(403, b"", b"no")

    port = await listen(gate=gate)
    client = await port.connect()
    assert (await client.ask(GET)).headers["x-gate"] == "open"
    answer = await client.ask(post(b"small", b"/shut"))
    assert (answer.status, answer.body, answer.headers["x-gate"]) == (403, b"no", "open")
    assert (await client.ask(post(b"small", b"/shut"))).status == 403
    assert seen == ["/a b", "/shut"]  # once per distinct head
    client.send(
        b"POST /shut HTTP/1.1\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
    )
    assert (await client.answer()).status == 403
    assert await client.closed()


@on_both_loops
async def test_close_lets_requests_finish(listen: Listen) -> None:
    waiting: list[Exchange] = []
    port = await listen(waiting.append)
    busy, arriving, idle = [await port.connect() for _ in range(3)]
    busy.send(GET)
    arriving.send(GET[:10])
    while not waiting:
        await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(port.listener.close(5))
    assert await idle.closed()
    arriving.send(GET[10:])
    while len(waiting) < 2:
        await asyncio.sleep(0.01)
    for exchange in waiting:
        exchange.respond(200)
    for client in (busy, arriving):
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.closed()
    await closing


@on_both_loops
async def test_heads_that_never_repeat_are_not_kept(listen: Listen) -> None:
    port = await listen()
    client = await port.connect()
    for number in range(3000):
        await client.ask(b"GET / HTTP/1.1\r\nX: %d\r\n\r\n" % number)
    assert len(port.listener.heads) <= 1024
    await client.ask(b"GET / HTTP/1.1\r\nX: " + b"y" * 8000 + b"\r\n\r\n")
    assert all(len(head) < 8000 for head in port.listener.heads)
