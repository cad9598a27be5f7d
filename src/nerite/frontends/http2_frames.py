"""The frames of HTTP/2 (RFC 9113): their kinds, flags and codes, and how they are written."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHODS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC")
_HTTP1 = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"this port speaks gRPC; the HTTP port is another\n"
)
# A frame's length (its two high bytes and the low one), kind, flags and stream.
PREFIX = Struct(">HBBBL")
PREFIX_SIZE = PREFIX.size
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = 2**31 - 1
SMALLEST_FRAME, LARGEST_FRAME = 1 << 14, (1 << 24) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

# Settings.
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

_SETTING = Struct(">HL")
_WORD = Struct(">L")
_TWO_WORDS = Struct(">LL")


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


_ANY = (0, 2**32 - 1, Code.PROTOCOL_ERROR)
_BOUNDS = {
    ENABLE_PUSH: (0, 1, Code.PROTOCOL_ERROR),
    INITIAL_WINDOW_SIZE: (0, LARGEST_WINDOW, Code.FLOW_CONTROL_ERROR),
    MAX_FRAME_SIZE: (SMALLEST_FRAME, LARGEST_FRAME, Code.PROTOCOL_ERROR),
}


class ConnectionFault(Exception):  # noqa: N818  what a client did, not what went wrong here
    """The connection ends with this code and text (GOAWAY)."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class StreamFault(Exception):  # noqa: N818  the same
    """One stream ends with this code (RST_STREAM)."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def prefix(kind: int, flags: int, stream: int, length: int) -> bytes:
    """What stands before a frame's `length` bytes."""
    return PREFIX.pack(length >> 8, length & 255, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return prefix(kind, flags, stream, len(payload)) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*one) for one in values.items()))


def read_settings(payload: bytes) -> dict[int, int]:
    """What a client wants; of what it says twice, the latter. Raises ConnectionFault."""
    if len(payload) % _SETTING.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
    values: dict[int, int] = {}
    for key, value in _SETTING.iter_unpack(payload):
        low, high, code = _BOUNDS.get(key, _ANY)
        if not low <= value <= high:
            raise ConnectionFault(code, f"setting {key} is {value}")
        values[key] = value
    return values


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _WORD.pack(increment))


def reset(stream: int, code: Code) -> bytes:
    return frame(RST_STREAM, 0, stream, _WORD.pack(code))


def goaway(last_stream: int, code: Code, text: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _TWO_WORDS.pack(last_stream, code) + text.encode())


def complaint(begins: bytes) -> bytes:
    """What a client is told that begins with these bytes, and not with the preface."""
    if begins[:4] in _METHODS:
        return _HTTP1
    return goaway(0, Code.PROTOCOL_ERROR, "this port speaks gRPC over HTTP/2")


def word(payload: bytes) -> int:
    """Of a frame that holds nothing but a number. Raises ConnectionFault."""
    if len(payload) != _WORD.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame of a wrong length")
    return int(_WORD.unpack(payload)[0])


def unpadded(flags: int, payload: memoryview) -> memoryview:
    """What DATA or HEADERS hold without their padding. Raises ConnectionFault."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than the frame is long")
    return payload[1 : len(payload) - payload[0]]
