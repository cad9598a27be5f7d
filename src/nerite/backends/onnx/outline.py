"""Whether a file is an ONNX model, by the outline of its protobuf message: `nerite check` asks.

Weights are stepped over, so that this takes no longer for a large model; whether the graph in it
is a right one is for onnxruntime to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH = 7  # ModelProto.graph
_ORT_FORMAT = b"ORTM"  # onnxruntime's own, with its name after a flatbuffer's first offset


def is_model(file: Path) -> bool:
    """Raises OSError when the file cannot be read."""
    with file.open("rb") as opened:
        if opened.read(8)[4:] == _ORT_FORMAT:
            return True
        opened.seek(0)
        try:
            return (_GRAPH, _BYTES) in set(_fields(opened, file.stat().st_size))
        except ValueError:
            return False


def _fields(opened: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """The number and kind of each field of the message. ValueError when it is none."""
    while opened.tell() < size:
        tag = _varint(opened)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _varint(opened)
        elif kind in (_FIXED64, _FIXED32):
            opened.seek(8 if kind == _FIXED64 else 4, 1)
        elif kind == _BYTES:
            opened.seek(_varint(opened), 1)
        if kind not in (_VARINT, _FIXED64, _BYTES, _FIXED32) or not number or opened.tell() > size:
            raise ValueError("no protobuf message")
        yield number, kind


def _varint(opened: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = opened.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("no protobuf message")
