"""The life of an RPC: messages in, an answer or a status out, once; and nothing left behind."""

import asyncio
import gc
import gzip
import itertools
import os
import zlib

import pytest
from hyperframe.frame import HeadersFrame, RstStreamFrame

from nerite.frontends.http2 import GrpcCode, Refusal, Route, Rpc, Terms

from .conftest import on_both_loops
from .http2_client import ListenGrpc, data, message, tasked


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 262_144, 262_145, 5_000_001])
@on_both_loops
async def test_messages_of_any_size(listen_grpc: ListenGrpc, size: int) -> None:
    content = os.urandom(size)
    client = await (await listen_grpc()).connect()
    for stream, path in ((1, "/echo"), (3, "/stream")):
        client.send(client.open(stream, path))
        whole = message(content)
        for at in range(0, len(whole), 16_384):
            client.send(data(stream, whole[at : at + 16_384]))
            await asyncio.sleep(0)
        client.send(data(stream, b"", "END_STREAM"))
        answer = await client.answer(stream)
        assert (answer.status, answer.messages) == (0, [content])
        assert answer.headers["content-type"] == "application/grpc"
        assert answer.reset is None


@on_both_loops
async def test_data_is_cut_anywhere(listen_grpc: ListenGrpc) -> None:
    contents = [b"", b"a", os.urandom(70_000), b"", b"bcd", os.urandom(300_000), b"e"]
    whole = b"".join(map(message, contents))
    port = await listen_grpc()
    client = await port.connect()
    for stream, size in ((1, 1000), (3, 7_777), (5, 16_384)):
        client.send(client.open(stream, "/stream"))
        for at in range(0, len(whole), size):
            client.send(data(stream, whole[at : at + size]))
            await asyncio.sleep(0)
        client.send(data(stream, b"", "END_STREAM"))
        assert (await client.answer(stream)).messages == contents


@on_both_loops
async def test_streams_are_interleaved(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).connect()
    streams = range(1, 512, 2)
    client.send(*[client.open(stream) for stream in streams])
    for half in (slice(0, 3), slice(3, None)):
        client.send(*[data(stream, message(b"%d" % stream)[half]) for stream in streams])
    client.send(*[data(stream, b"", "END_STREAM") for stream in reversed(streams)])
    for stream in streams:
        assert (await client.answer(stream)).messages == [b"%d" % stream]


@pytest.mark.parametrize(
    ("path", "sent", "code"),
    [
        ("/nothing", message(b"x"), GrpcCode.UNIMPLEMENTED),
        ("/nothing", b"", GrpcCode.UNIMPLEMENTED),
        ("/echo", b"", GrpcCode.UNIMPLEMENTED),
        ("/echo", message(b"a") + message(b"b"), GrpcCode.UNIMPLEMENTED),
        ("/echo", message(b"abc")[:-1], GrpcCode.INTERNAL),
        ("/echo", message(b"abc")[:3], GrpcCode.INTERNAL),
        ("/echo", b"\2\0\0\0\1a", GrpcCode.INTERNAL),
        ("/echo", b"\0\xff\xff\xff\xffa", GrpcCode.RESOURCE_EXHAUSTED),
        ("/stream", b"\0\xff\xff\xff\xffa", GrpcCode.RESOURCE_EXHAUSTED),
        ("/echo", message(b"junk", 1), GrpcCode.INTERNAL),
    ],
)
@on_both_loops
async def test_statuses_of_what_cannot_be_served(
    listen_grpc: ListenGrpc, path: str, sent: bytes, code: GrpcCode, caplog
) -> None:
    client = await (await listen_grpc()).connect()
    client.send(client.open(1, path), data(1, sent, "END_STREAM"))
    assert (await client.answer(1)).status == code
    client.send(client.open(3, path, ended=True))
    assert (await client.answer(3)).ended
    await client.served(5)
    assert not caplog.records


@on_both_loops
async def test_one_message_too_many_is_not_kept(listen_grpc: ListenGrpc) -> None:
    """A client that goes on for ever hears of it at the second."""
    client = await (await listen_grpc()).connect()
    client.send(client.open(1), data(1, message(b"a")), data(1, message(b"b")))
    answer = await client.answer(1)
    assert answer.status == GrpcCode.UNIMPLEMENTED
    await client.pong()
    assert answer.reset == 0  # it need not go on
    await client.served(3)


def broken(rpc: Rpc) -> None:
    raise RuntimeError("a bad day")


@pytest.mark.parametrize("compressed", [False, True])
@on_both_loops
async def test_a_route_that_fails(listen_grpc: ListenGrpc, compressed: bool, caplog) -> None:
    port = await listen_grpc({"/broken": Route(broken), "/all": Route(broken, streams=True)})
    client = await port.connect()
    content = message(gzip.compress(b"x"), 1) if compressed else message(b"x")
    for stream, path in ((1, "/broken"), (3, "/all")):
        client.send(client.open(stream, path, grpc_encoding="gzip"))
        client.send(data(stream, content, "END_STREAM"))
        answer = await client.answer(stream)
        assert (answer.status, "log" in answer.text) == (GrpcCode.INTERNAL, True)
        assert "a bad day" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 100%", "plain, 100%25"),
        ("zwei\nZeilen ä", "zwei%0AZeilen %C3%A4"),
        ("half a pair \ud800", "half a pair ?"),
        ("x" * 9000, "x" * 6000),
        ("ä" * 9000, "%C3%A4" * 1000 + "..."),
    ],
)
@on_both_loops
async def test_status_texts(listen_grpc: ListenGrpc, text: str, shown: str) -> None:
    route = Route(lambda rpc: rpc.fail(GrpcCode.NOT_FOUND, text))
    client = await (await listen_grpc({"/": route})).connect()
    answer = await client.ask(1, path="/")
    assert (answer.status, answer.text) == (GrpcCode.NOT_FOUND, shown)


@on_both_loops
async def test_an_rpc_ends_once(listen_grpc: ListenGrpc) -> None:
    def twice(rpc: Rpc) -> None:
        rpc.respond([b"a"])
        rpc.respond([b"b"])
        rpc.fail(GrpcCode.INTERNAL, "no")
        rpc.finish()
        assert not rpc.open

    client = await (await listen_grpc({"/": Route(twice)})).connect()
    answer = await client.ask(1, path="/")
    await client.pong()
    assert (answer.status, answer.messages, answer.reset) == (0, [b"a"], None)


@on_both_loops
async def test_metadata(listen_grpc: ListenGrpc) -> None:
    seen = []

    def look(rpc: Rpc) -> None:
        seen.append((rpc.head.metadata, rpc.head.headers))
        rpc.finish()

    client = await (await listen_grpc({"/": Route(look)})).connect()
    await client.ask(1, path="/", a="1", b_bin="AAEC", c_bin="/w==,/g")
    metadata = [("a", "1"), ("b-bin", b"\0\1\2"), ("c-bin", b"\xff"), ("c-bin", b"\xfe")]
    assert seen == [(metadata, {"a": "1"})]


@on_both_loops
async def test_heads_that_are_known_by_their_bytes(listen_grpc: ListenGrpc) -> None:
    """The same bytes mean another thing once HPACK's table has changed."""
    seen = []

    def look(rpc: Rpc) -> None:
        seen.append(rpc.head.headers)
        rpc.finish()

    client = await (await listen_grpc({"/": Route(look)})).connect()
    for number in range(12):
        client.send(client.rpc(2 * number + 1, path="/", a=str(number // 3)))
    await client.answer(23)
    assert [one["a"] for one in seen] == [str(number // 3) for number in range(12)]
    fixed = b"\x83\x86\x04\x01/\x0f\x10\x10application/grpc"
    newest = b"\xbe"  # the first entry of the table, whatever it is
    for stream, name in ((25, b"x"), (29, b"y")):
        added = b"\x40\1" + name + b"\1z"  # of no request, but it is in the table
        client.send(HeadersFrame(stream, added, flags=["END_HEADERS"]))
        client.send(HeadersFrame(stream + 2, fixed + newest, flags=["END_HEADERS"]))
        client.send(data(stream + 2, message(), "END_STREAM"))
        await client.answer(stream + 2)
        assert seen[-1] == {name.decode(): "z"}


@on_both_loops
async def test_a_refusal(listen_grpc: ListenGrpc) -> None:
    refusal = Refusal(GrpcCode.UNAUTHENTICATED, "who are you")
    port = await listen_grpc(gate=lambda head: None if "key" in head.headers else refusal)
    client = await port.connect()
    for stream in (1, 3):
        answer = await client.ask(stream, path="/wait")
        assert (answer.status, answer.text) == refusal
    assert (await client.ask(5, b"x", key="1")).messages == [b"x"]
    assert not port.waiting


@pytest.mark.parametrize("timeout", ["100m", "1n", "0S"])
@on_both_loops
async def test_a_deadline(listen_grpc: ListenGrpc, timeout: str) -> None:
    port = await listen_grpc()
    client = await port.connect()
    answer = await client.ask(1, path="/wait", grpc_timeout=timeout)
    assert (answer.status, answer.text) == (GrpcCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert port.gone == port.waiting
    client.send(client.open(3, "/stream", grpc_timeout=timeout), data(3, message(b"x")))
    assert (await client.answer(3)).status == GrpcCode.DEADLINE_EXCEEDED
    client.send(client.open(5, grpc_timeout=timeout), data(5, message(b"x")[:3]))
    assert (await client.answer(5)).status == GrpcCode.DEADLINE_EXCEEDED
    client.send(data(5, message(b"x")[3:], "END_STREAM"))
    await client.served(7)


@pytest.mark.parametrize("timeout", ["1H", "99999999H", "99999999n"])
@on_both_loops
async def test_a_deadline_that_is_kept(listen_grpc: ListenGrpc, timeout: str) -> None:
    client = await (await listen_grpc()).connect()
    assert (await client.ask(1, b"x", grpc_timeout=timeout)).messages == [b"x"]
    await asyncio.sleep(0.15)
    await client.served(3)
    assert client.answers[1].status == 0


@on_both_loops
async def test_a_client_that_cancels(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    client = await port.connect()
    client.send(client.rpc(1, path="/wait"), client.rpc(3, path="/wait"))
    await port.wait(lambda: len(port.waiting) == 2)
    client.send(RstStreamFrame(1, 8))
    await port.wait(lambda: port.gone == port.waiting[:1])
    for rpc in port.waiting:
        rpc.respond([b"x"])
    assert (await client.answer(3)).messages == [b"x"]
    assert 1 not in client.answers
    client.send(RstStreamFrame(3, 8))
    await client.pong()
    assert len(port.gone) == 1


@on_both_loops
async def test_a_client_that_leaves(listen_grpc: ListenGrpc) -> None:
    port = await listen_grpc()
    client = await port.connect()
    ended = []

    client.send(*[client.rpc(stream, path="/wait", grpc_timeout="9S") for stream in (1, 3, 5)])
    client.send(client.open(7, "/stream"), client.open(9, "/echo"), data(9, b"\0"))
    await port.wait(lambda: len(port.waiting) == 3)
    port.waiting[0].on_disconnect = None
    port.waiting[1].respond([b"x"])
    client.writer.transport.abort()
    await port.wait(lambda: not port.listener.connections)
    await port.wait(lambda: port.gone == port.waiting[2:])
    assert not any(rpc.open for rpc in port.waiting)
    port.waiting[0].fail(GrpcCode.INTERNAL, "nobody hears it")
    assert not ended


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@on_both_loops
async def test_compressed_messages(listen_grpc: ListenGrpc, encoding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}[encoding]
    port = await listen_grpc(compression=encoding)
    client = await port.connect()
    streams = itertools.count(1, 2)
    accepts = "identity, deflate,gzip"
    for size, path in itertools.product((0, 100, 1_000_000), ("/echo", "/stream")):
        content = os.urandom(size // 2) + bytes(size // 2)
        whole = message(pack(content), 1)
        stream = next(streams)
        client.send(client.open(stream, path, grpc_encoding=encoding, grpc_accept_encoding=accepts))
        for at in range(0, len(whole), 16_384):
            client.send(data(stream, whole[at : at + 16_384]))
        client.send(data(stream, b"", "END_STREAM"))
        answer = await client.answer(stream)
        assert (answer.status, answer.headers["grpc-encoding"]) == (0, encoding)
        assert answer.data[0] == 1
        assert unpack(answer.messages[0]) == content
    answer = await client.ask(next(streams), b"x")
    assert ("grpc-encoding" in answer.headers, answer.messages) == (False, [b"x"])


@pytest.mark.parametrize(
    ("encoding", "content", "code"),
    [
        ("gzip", gzip.compress(bytes(3000)), GrpcCode.RESOURCE_EXHAUSTED),
        ("gzip", b"junk", GrpcCode.INTERNAL),
        ("gzip", gzip.compress(b"x" * 100)[:-9], GrpcCode.INTERNAL),
        ("gzip", b"", GrpcCode.INTERNAL),
        ("snappy", b"x", GrpcCode.UNIMPLEMENTED),
        ("identity", gzip.compress(b"x"), GrpcCode.INTERNAL),
        (None, gzip.compress(b"x"), GrpcCode.INTERNAL),
    ],
)
@on_both_loops
async def test_what_cannot_be_decompressed(
    listen_grpc: ListenGrpc, encoding: str | None, content: bytes, code: GrpcCode
) -> None:
    port = await listen_grpc(terms=Terms(inflated=2000))
    client = await port.connect()
    more = {} if encoding is None else {"grpc_encoding": encoding}
    for stream, path, rest in ((1, "/echo", b""), (3, "/stream", message(b"more"))):
        client.send(client.open(stream, path, **more))
        client.send(data(stream, message(content, 1) + rest, "END_STREAM"))
        answer = await client.answer(stream)
        assert (answer.status, answer.messages) == (code, [])
        if code is GrpcCode.RESOURCE_EXHAUSTED:
            assert f"{len(content)} bytes is too large" in answer.text
            assert "more than 2000 bytes" in answer.text
            assert "--http-max-input-size" in answer.text
    await client.served(5)


@on_both_loops
async def test_nothing_needs_the_garbage_collector(listen_grpc: ListenGrpc) -> None:
    """Requests, answers and connections go when the last who uses them does."""
    port = await listen_grpc({"/task": Route(tasked(answered))})
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            client = await port.connect()
            stream = -1
            for more in ({}, {"path": "/nothing"}, {"grpc_timeout": "9S"}, {"path": "/stream"},
                         {"path": "/task"}):  # fmt: skip
                stream += 2
                assert (await client.ask(stream, b"x", **more)).ended
            client.send(client.rpc(stream + 2, path="/wait", grpc_timeout="9S"))
            client.send(client.open(stream + 4, "/stream"))
            await port.wait(lambda: port.waiting)
            client.send(RstStreamFrame(stream + 4, 8))
            client.writer.close()
            await port.wait(lambda: not port.listener.connections)
            port.waiting.clear()
            port.gone.clear()
            del client
        await asyncio.sleep(0.05)
        ours = ("Connection", "Rpc", "Outbox", "Outgoing", "Incoming", "Stage", "Heads")
        names = [type(one).__name__ for one in gc.get_objects()]
        assert [name for name in names if name in ours] == []
    finally:
        gc.enable()


async def answered(rpc: Rpc) -> None:
    await asyncio.sleep(0)
    rpc.respond([b"x"])
