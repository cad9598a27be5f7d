"""gzip and deflate, both ways, as Triton does them: deflate is a zlib stream."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator, Sequence

from nerite.core.errors import InferenceError, Status, invalid
from nerite.frontends.http1 import Body, Head

# zlib's names for the two containers, and for either.
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_EITHER = 32 + zlib.MAX_WBITS
# Python's requests asks for gzip without being told to, so most answers that are compressed are
# so by accident: the fastest level costs a third of the usual one.
_LEVEL = 1
_PIECE = 1 << 20


class UnsupportedEncoding(InferenceError):
    """A Content-Encoding nobody here reads; `headers` tell which ones are."""

    headers = b"Accept-Encoding: gzip, deflate\r\n"

    def __init__(self) -> None:
        super().__init__(Status.UNSUPPORTED, "Unsupported compression type")


def decompress(head: Head, body: Body, limit: int) -> Body:
    """The body without its Content-Encoding; at most `limit` bytes where it had one.

    Raises InferenceError. Stops at the limit: a small body cannot fill the memory.
    """
    encoding = head.headers.get("content-encoding", "")
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOWS:
        raise UnsupportedEncoding
    if not body:
        raise invalid("nothing to be decompressed")
    try:
        return inflated(body, limit)
    except OverflowError:
        raise invalid(
            f"Decompressed data size exceeds the maximum allowed value of {limit} bytes. "
            "Use --http-max-input-size to increase the limit."
        ) from None
    except ValueError as error:
        raise invalid(f"failed to decompress the request's body: {error}") from None


def inflated(data: Body, limit: int) -> bytearray:
    """What gzip or zlib have made smaller. Raises ValueError; OverflowError beyond `limit`."""
    pieces = bytearray()
    try:
        for piece in _pieces(memoryview(data)):
            pieces += piece
            if len(pieces) > limit:
                raise OverflowError(f"it has more than {limit} bytes")
    except (zlib.error, EOFError) as error:
        raise ValueError(str(error)) from None
    return pieces


def _pieces(body: memoryview) -> Iterator[bytes]:
    """What the body holds, in pieces of at most a mebibyte. Raises zlib.error and EOFError."""
    stream = zlib.decompressobj(_EITHER)
    for start in range(0, len(body), _PIECE):
        rest: Body = body[start : start + _PIECE]
        piece = b""
        # A full piece may have left some of the output behind in the stream.
        while (rest or len(piece) == _PIECE) and not stream.eof:
            piece = stream.decompress(rest, _PIECE)
            rest = stream.unconsumed_tail
            yield piece
        if stream.eof:
            return
    raise EOFError("it ends too early")


def compress(head: Head, parts: Sequence[Body]) -> tuple[bytes, Sequence[Body]]:
    """Header lines and parts of an answer, compressed as the client likes best."""
    accepted = head.headers.get("accept-encoding")
    encoding = "identity" if accepted is None else preferred(accepted)
    if encoding == "identity" or not any(parts):
        return b"", parts
    return b"Content-Encoding: %b\r\n" % encoding.encode(), [deflated(encoding, parts)]


def deflated(encoding: str, parts: Sequence[Body]) -> bytes:
    """The parts in one, made smaller: `gzip` or `deflate`."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOWS[encoding])
    pieces = [stream.compress(part) for part in parts]
    return b"".join([*pieces, stream.flush()])


@functools.lru_cache(maxsize=256)
def preferred(accepted: str) -> str:
    """The known encoding of the highest weight; of equal ones the first."""
    best, highest = "identity", 0.0
    for one in accepted.split(","):
        name, _, weight = one.strip().replace(" ", "").partition(";q=")
        try:
            value = float(weight) if weight else 1.0
        except ValueError:
            continue
        if (name == "identity" or name in _WINDOWS) and value > highest:
            best, highest = name, value
    return best
