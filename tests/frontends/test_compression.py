"""gzip and deflate of requests and answers, and what a small body may not become."""

import gzip
import tracemalloc
import zlib

import pytest

from nerite.core.errors import InferenceError, Status
from nerite.frontends.compression import UnsupportedEncoding, compress, decompress
from nerite.frontends.http1 import Head

BODY = b"a tensor" * 5000


def head(**headers: str) -> Head:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return Head(f"POST / HTTP/1.1\r\n{lines}\r\n".encode())


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", gzip.compress(BODY)),  # Triton tells them apart by their content
        ("identity", BODY),
        ("gzip", gzip.compress(BODY) + b"what follows is not read"),
        ("gzip", gzip.compress(BODY, compresslevel=0)),
    ],
)
def test_requests(encoding: str, packed: bytes) -> None:
    assert decompress(head(Content_Encoding=encoding), packed, 1 << 20) == BODY
    assert decompress(head(), BODY, 1 << 20) is BODY


def test_a_large_request() -> None:
    body = bytes(range(256)) * 40_000
    assert decompress(head(Content_Encoding="gzip"), gzip.compress(body), 1 << 26) == body


def test_an_unknown_encoding() -> None:
    with pytest.raises(UnsupportedEncoding) as caught:
        decompress(head(Content_Encoding="br"), BODY, 1 << 20)
    assert caught.value.status is Status.UNSUPPORTED
    assert caught.value.headers == b"Accept-Encoding: gzip, deflate\r\n"


@pytest.mark.parametrize(
    "packed",
    [b"", b"not compressed", gzip.compress(BODY)[:-20], gzip.compress(BODY)[:-8] + b"checksum"],
)
def test_what_cannot_be_decompressed(packed: bytes) -> None:
    with pytest.raises(InferenceError, match="decompress") as caught:
        decompress(head(Content_Encoding="gzip"), packed, 1 << 20)
    assert caught.value.status is Status.INVALID_ARG


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(bytes(200 << 20))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    with pytest.raises(InferenceError) as caught:
        decompress(head(Content_Encoding="gzip"), bomb, 1 << 20)
    assert tracemalloc.get_traced_memory()[1] - before < 16 << 20
    tracemalloc.stop()
    assert caught.value.message == (
        "Decompressed data size exceeds the maximum allowed value of 1048576 bytes. "
        "Use --http-max-input-size to increase the limit."
    )
    exactly = gzip.compress(bytes(1 << 20))
    assert len(decompress(head(Content_Encoding="gzip"), exactly, 1 << 20)) == 1 << 20


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "deflate"),
        ("gzip;q=0.3, deflate;q=0.5", "deflate"),
        ("gzip; q=0.3, deflate; q=0.5", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=x, deflate;q=0.1", "deflate"),
        ("identity, gzip;q=0.9", None),
        ("br, zstd", None),
        ("*", None),
        ("", None),
    ],
)
def test_answers(accepted: str, encoding: str | None) -> None:
    parts = [BODY[:100], bytearray(BODY[100:])]
    headers, packed = compress(head(Accept_Encoding=accepted), parts)
    if encoding is None:
        assert (headers, packed) == (b"", parts)
        return
    assert headers == b"Content-Encoding: %b\r\n" % encoding.encode()
    (whole,) = packed
    assert (gzip if encoding == "gzip" else zlib).decompress(whole) == BODY  # type: ignore[attr-defined]
    assert compress(head(Accept_Encoding=accepted), []) == (b"", [])
