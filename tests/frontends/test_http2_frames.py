"""What a client may not send on HTTP/2, and what it may: RFC 9113, section by section."""

import asyncio
import struct

import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame, PriorityFrame

from .conftest import on_both_loops
from .http2_client import PREFACE, Client, ListenGrpc, data, grow, message, settings

PROTOCOL, FLOW, CLOSED, SIZE, REFUSED = 1, 3, 5, 6, 7
COMPRESSION, CALM = 9, 11
HEADERS = b"\x83\x86"  # POST, http


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">L", len(payload))[1:] + struct.pack(">BBL", kind, flags, stream) + payload


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(0, 0, 0, b"x"), PROTOCOL),  # data of no stream
        (frame(0, 0, 1, b"x"), PROTOCOL),  # of one that is idle
        (frame(0, 0, 2, b"x"), PROTOCOL),
        (frame(1, 4, 0, HEADERS), PROTOCOL),
        (frame(1, 4, 2, HEADERS), PROTOCOL),
        (frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff"), COMPRESSION),
        (frame(1, 4, 1, b"\xbf"), COMPRESSION),  # no such entry
        (frame(1, 4, 1, b"\x3f\xe2\x1f"), COMPRESSION),  # a table larger than ours
        (frame(1, 4 | 8, 1, b"\x05abc"), PROTOCOL),  # more padding than there is
        (frame(1, 4 | 32, 1, b"abc"), SIZE),
        (frame(1, 4, 1, b"\0" * 140_000), CALM),
        (frame(1, 0, 1, HEADERS) + frame(6, 0, 0, bytes(8)), PROTOCOL),
        (frame(1, 0, 1, HEADERS) + frame(0, 0, 1, b"x"), PROTOCOL),
        (frame(1, 0, 1, HEADERS) + frame(9, 4, 3, HEADERS), PROTOCOL),
        (frame(1, 0, 1, HEADERS) + frame(99, 0, 0), PROTOCOL),
        (frame(9, 4, 1, HEADERS), PROTOCOL),
        (frame(2, 0, 0, bytes(5)), PROTOCOL),
        (frame(2, 0, 1, bytes(4)), SIZE),
        (frame(3, 0, 0, bytes(4)), PROTOCOL),
        (frame(3, 0, 1, bytes(4)), PROTOCOL),
        (frame(3, 0, 1, bytes(3)), SIZE),
        (frame(4, 0, 1), PROTOCOL),
        (frame(4, 1, 0, bytes(6)), SIZE),
        (frame(4, 0, 0, bytes(5)), SIZE),
        (frame(4, 0, 0, struct.pack(">HL", 2, 2)), PROTOCOL),
        (frame(4, 0, 0, struct.pack(">HL", 4, 2**31)), FLOW),
        (frame(4, 0, 0, struct.pack(">HL", 5, 2**14 - 1)), PROTOCOL),
        (frame(4, 0, 0, struct.pack(">HL", 5, 2**24)), PROTOCOL),
        (frame(5, 4, 1, bytes(4)), PROTOCOL),
        (frame(6, 0, 1, bytes(8)), PROTOCOL),
        (frame(6, 0, 0, bytes(7)), SIZE),
        (frame(7, 0, 1, bytes(8)), PROTOCOL),
        (frame(8, 0, 0, bytes(4)), PROTOCOL),  # a window that does not grow
        (frame(8, 0, 0, b"\x7f\xff\xff\xff"), FLOW),
        (frame(8, 0, 1, bytes(3)), SIZE),
        (frame(8, 0, 1, b"\0\0\0\1"), PROTOCOL),
        (struct.pack(">BHBBL", 0x10, 1, 0, 0, 0), SIZE),  # 1 MiB and a byte
    ],
)
@on_both_loops
async def test_what_ends_a_connection(listen_grpc: ListenGrpc, sent: bytes, code: int) -> None:
    client = await (await listen_grpc()).connect()
    client.send(sent)
    assert await client.end() == code


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(8, 0, 1, bytes(4)), PROTOCOL),
        (frame(8, 0, 1, b"\x7f\xff\xff\xff"), FLOW),
        (frame(1, 4, 1, HEADERS), PROTOCOL),  # trailers that do not end the stream
    ],
)
@on_both_loops
async def test_what_ends_a_stream(listen_grpc: ListenGrpc, sent: bytes, code: int) -> None:
    port = await listen_grpc()
    client = await port.connect()
    client.send(client.open(1, "/wait"), sent)
    assert (await client.answer(1)).reset == code
    await client.served(3)


@pytest.mark.parametrize("sent", [frame(0, 0, 1, b"x"), frame(0, 1, 1), frame(1, 5, 1, HEADERS)])
@on_both_loops
async def test_nothing_comes_behind_the_end(listen_grpc: ListenGrpc, sent: bytes) -> None:
    port = await listen_grpc()
    client = await port.connect()
    client.send(client.rpc(1, path="/wait"), sent)
    assert (await client.answer(1)).reset == CLOSED
    assert port.gone == port.waiting != []
    await client.served(3)


@pytest.mark.parametrize(
    "sent",
    [
        frame(99, 255, 0, b"x" * 100),  # unknown
        frame(99, 255, 77),
        frame(7, 0, 0, bytes(8)),
        frame(2, 0, 77, bytes(5)),  # priorities, of any stream
        frame(4, 0, 0, struct.pack(">HL", 0x99, 1)),
        frame(4, 1, 0),
        frame(6, 1, 0, b"leaving?"),  # answers to nothing
        frame(6, 1, 0, bytes(8)),
        frame(8, 0, 1, b"\x80\0\0\1"),  # the highest bit is nobody's
        frame(0, 1, 1, b"late"),  # of a stream that has ended
        frame(1, 5, 1, b"\0\1x\1y"),
        frame(3, 0, 1, bytes(4)),
        frame(8, 0, 1, b"\0\0\0\1"),
    ],
)
@on_both_loops
async def test_what_is_borne(listen_grpc: ListenGrpc, sent: bytes) -> None:
    client = await (await listen_grpc()).connect()
    await client.served(1)
    client.send(sent)
    await client.served(3)


@on_both_loops
async def test_settings_and_pings_are_acknowledged(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).raw()
    client.send(PREFACE, settings(MAX_FRAME_SIZE=1 << 20), PingFrame(0, b"whatever"))
    first = await client.frame()
    assert first is not None and first.type == 4 and not first.flags
    kinds = []
    while not client.pings:
        got = await client.frame()
        assert got is not None
        kinds.append((got.type, sorted(got.flags)))
    assert (4, ["ACK"]) in kinds
    assert client.pings[0].opaque_data == b"whatever"


@pytest.mark.parametrize("size", [1, 7, 100])
@on_both_loops
async def test_frames_that_come_in_pieces(listen_grpc: ListenGrpc, size: int) -> None:
    client = await (await listen_grpc()).raw()
    whole = PREFACE + settings().serialize() + client.rpc(1, b"hello") + client.rpc(3, b"you")
    for at in range(0, len(whole), size):
        client.send(whole[at : at + size])
        await asyncio.sleep(0)
    assert (await client.answer(1)).messages == [b"hello"]
    assert (await client.answer(3)).messages == [b"you"]


@on_both_loops
async def test_padding_priorities_and_headers_that_go_on(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).connect()
    block = client.block(client.fields(more="x" * 100))
    client.send(
        HeadersFrame(1, block[:7], pad_length=9, flags=["PADDED", "PRIORITY"]),
        ContinuationFrame(1, block[7:9]),
        ContinuationFrame(1, b""),
        ContinuationFrame(1, block[9:], flags=["END_HEADERS"]),
        PriorityFrame(1, stream_weight=3),
        data(1, message(b"hello")[:4], "PADDED", pad=200),
        data(1, b"", "PADDED", pad=1),
        data(1, message(b"hello")[4:], "PADDED", "END_STREAM", pad=0),
    )
    assert (await client.answer(1)).messages == [b"hello"]


@on_both_loops
async def test_trailers_end_a_request(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).connect()
    client.send(client.open(1), data(1, message(b"hello")))
    trailers = client.block([("x", "y")])
    client.send(HeadersFrame(1, trailers, flags=["END_HEADERS", "END_STREAM"]))
    assert (await client.answer(1)).messages == [b"hello"]
    await client.served(3)


def without(client: Client, name: str) -> list[tuple[str, str]]:
    return [field for field in client.fields() if field[0] != name]


@pytest.mark.parametrize(
    "fields",
    [
        lambda c: without(c, ":method"),
        lambda c: without(c, ":path"),
        lambda c: without(c, ":scheme"),
        lambda c: [*c.fields(), (":path", "/echo")],
        lambda c: [(":path", "/echo"), *c.fields()],
        lambda c: [(":status", "200"), *c.fields()],
        lambda c: [("x", "y"), *c.fields()],
        lambda c: [*c.fields(), ("Upper", "case")],
        lambda c: [*c.fields(), ("connection", "close")],
        lambda c: [*c.fields(), ("transfer-encoding", "chunked")],
        lambda c: [*c.fields(), ("with space", "y")],
        lambda c: [*c.fields(), ("x", "a\r\nb")],
        lambda c: [*c.fields(), ("x", "a\0b")],
        lambda c: [*c.fields(), ("", "y")],
        lambda c: c.fields(te="gzip"),
        lambda c: c.fields(grpc_timeout="soon"),
        lambda c: c.fields(grpc_timeout="123456789S"),
        lambda c: [*c.fields(), ("x-bin", "not base64!")],
    ],
)
@on_both_loops
async def test_malformed_requests(listen_grpc: ListenGrpc, fields) -> None:
    client = await (await listen_grpc()).connect()
    block = client.block(fields(client))
    client.send(HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]))
    answer = await client.answer(1)
    assert (answer.reset, answer.headers) == (PROTOCOL, {})
    await client.served(3)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"content_type": "application/grpc+proto"}, "200"),
        ({"content_type": "application/grpc; charset=x"}, "200"),
        ({"content_type": "application/grpc-web"}, "415"),
        ({"content_type": "text/html"}, "415"),
        ({"content_type": None}, "415"),
        ({"method": "GET"}, "415"),
        ({"method": "GET", "path": "/nothing"}, "415"),
    ],
)
@on_both_loops
async def test_what_is_no_rpc(
    listen_grpc: ListenGrpc, more: dict[str, str | None], status: str, caplog
) -> None:
    client = await (await listen_grpc()).connect()
    answer = await client.ask(1, **more)
    assert answer.headers[":status"] == status
    client.send(client.open(3, ended=True, **{"path": "/echo", **more}))
    assert (await client.answer(3)).headers[":status"] == status
    await client.served(5)
    assert not caplog.records


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST /v2 HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"gRPC over HTTP/2"),
        (PREFACE[:-1] + b"x", b"gRPC over HTTP/2"),
    ],
)
@on_both_loops
async def test_other_protocols(listen_grpc: ListenGrpc, sent: bytes, said: bytes) -> None:
    port = await listen_grpc()
    client = await port.raw()
    client.send(sent)
    async with asyncio.timeout(10):
        answer = await client.reader.read()
    assert answer.startswith(said) if b"HTTP/1" in said else said in answer
    await port.wait(lambda: not port.listener.connections)


@on_both_loops
async def test_numbers_of_streams_only_grow(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).connect()
    await client.served(5)
    client.send(client.rpc(3))
    assert await client.end() == PROTOCOL


@on_both_loops
async def test_window_updates_of_streams_that_are_gone(listen_grpc: ListenGrpc) -> None:
    client = await (await listen_grpc()).connect()
    await client.served(1)
    client.send(*[grow(1, 1)] * 100)
    await client.served(3)
