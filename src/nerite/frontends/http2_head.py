"""What opens an RPC: the headers of its stream, and how blocks of headers are read and written."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import Any

import hpack

from nerite.frontends.http2_frames import Code, ConnectionFault, StreamFault

_KEPT = 256  # blocks of a connection
_LONG = 4096  # bytes of headers that are not worth keeping: few bytes of HPACK can be many
_ONCE = (":method", ":scheme", ":path", ":authority")
# They are about HTTP/1's connection, and malform a request in HTTP/2 (RFC 9113, section 8.2.2).
_HOP = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
_OURS = ("te", "content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding")
_GRPC = re.compile(r"application/grpc($|[+;])")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")


class Head:
    """The headers of one RPC.

    Clients repeat themselves, so a Head is kept and used again with what others make of it: route
    and refusal are the listener's.

    path: of the RPC. metadata: what the client says besides, binary values as bytes; headers: the
    texts among it. timeout: seconds the client waits, if it says so. encoding: of its messages;
    accepts: encodings it reads. is_grpc: whether it is an RPC at all.
    """

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises StreamFault for what is no request of HTTP/2."""
        self.route: Any = None
        self.refusal: Any = None
        self.metadata: list[tuple[str, str | bytes]] = []
        named = _named(fields, self.metadata)
        if any(name not in named for name in (":method", ":scheme", ":path")):
            raise StreamFault(Code.PROTOCOL_ERROR, "a request without method, scheme or path")
        self.headers = {key: text for key, text in self.metadata if isinstance(text, str)}
        self.path = named[":path"]
        content = named.get("content-type", "")
        self.is_grpc = named[":method"] == "POST" and _GRPC.match(content) is not None
        self.encoding = named.get("grpc-encoding", "identity")
        accepted = named.get("grpc-accept-encoding", "")
        self.accepts = frozenset(one.strip() for one in accepted.split(","))
        self.timeout = _seconds(named.get("grpc-timeout"))


def _named(
    fields: Iterable[tuple[bytes, bytes]], metadata: list[tuple[str, str | bytes]]
) -> dict[str, str]:
    """The headers that mean something to the protocol; the others go to `metadata`."""
    named: dict[str, str] = {}
    regular = False
    for raw_name, raw_value in fields:
        name, value = bytes(raw_name).decode("latin-1"), bytes(raw_value).decode("latin-1")
        if name.startswith(":"):
            if regular or name in named or name not in _ONCE:
                raise StreamFault(Code.PROTOCOL_ERROR, f"header '{name}' is out of place")
            named[name] = value
            continue
        regular = True
        if name in _HOP or not _NAME.fullmatch(raw_name) or not _VALUE.fullmatch(raw_value):
            raise StreamFault(Code.PROTOCOL_ERROR, f"header {raw_name!r} has no place in HTTP/2")
        if name == "te" and value != "trailers":
            raise StreamFault(Code.PROTOCOL_ERROR, f"header te is '{value}'")
        if name in _OURS:
            named[name] = value
        elif name.endswith("-bin"):
            metadata += [(name, _binary(one)) for one in value.split(",")]
        else:
            metadata.append((name, value))
    return named


def _binary(text: str) -> bytes:
    """Base64, with or without its padding."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise StreamFault(Code.PROTOCOL_ERROR, "binary metadata is no base64") from None


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise StreamFault(Code.PROTOCOL_ERROR, f"grpc-timeout is '{text}'")
    return int(found[1]) * _SECONDS[found[2]]


class Heads:
    """Reads the header blocks of one connection.

    A block means the same as long as HPACK's table stays as it is, and a client in its stride
    adds nothing to it: then its blocks are known by their bytes.
    """

    def __init__(self, limit: int, prepare: Callable[[Head], None]) -> None:
        """limit: bytes of headers as they are counted in HTTP/2; up to twice as many only the
        request is lost. prepare: is shown each Head that is new."""
        self._limit = limit
        self._decoder = hpack.Decoder(2 * limit)
        self._prepare = prepare
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Raises StreamFault, and ConnectionFault where nothing further can be read."""
        head = self._known.get(block)
        if head is None:
            fields, lasting = self._decode(block)
            size = sum(len(name) + len(value) + 32 for name, value in fields)
            if size > self._limit:
                raise StreamFault(Code.ENHANCE_YOUR_CALM, f"{size} bytes of headers")
            head = Head(fields)
            self._prepare(head)
            if lasting and size < _LONG:
                if len(self._known) >= _KEPT:
                    self._known.clear()
                self._known[block] = head
        return head

    def skip(self, block: bytes) -> bool:
        """A block that nobody wants, for what it does to the table: trailers, or of a stream that
        is refused. Whether it is a request's. Raises ConnectionFault."""
        fields, _ = self._decode(block)
        return any(name[:1] == b":" for name, _ in fields)

    def _decode(self, block: bytes) -> tuple[list[Any], bool]:
        """The fields, and whether the block left the table as it was."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        # The newest entry, its number and its size tell of whatever changes the table.
        newest, count, size = (entries[0] if entries else None), len(entries), table.maxsize
        try:
            fields = list(self._decoder.decode(block, raw=True))
        except hpack.OversizedHeaderListError:
            text = "the headers of a request are too long"
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, text) from None
        except hpack.HPACKError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"HPACK: {error}") from None
        now = entries[0] if entries else None
        lasting = now is newest and len(entries) == count and table.maxsize == size
        if not lasting:
            self._known.clear()
        return fields, lasting


def block(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as literals that enter no table, so that who writes them need not remember any."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(data: bytes) -> bytes:
    """A length in HPACK's way with a 7-bit prefix, and the bytes."""
    length = len(data)
    if length < 127:
        return bytes((length,)) + data
    coded = bytearray(b"\x7f")
    length -= 127
    while length > 127:
        coded.append(length & 127 | 128)
        length >>= 7
    coded.append(length)
    return bytes(coded) + data
