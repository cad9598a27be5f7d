"""Files of weights, seen by their heads: what is in them, and whether they are whole."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_HEAD = 100 << 20
_POINTER = b"version https://git-lfs"
_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8", "F8_E5M2": "float8", "I8": "int8", "U8": "uint8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Weights:
    """shapes: of each tensor by its name. dtype: that of most of the numbers."""

    file: Path
    shapes: Mapping[str, tuple[int, ...]]
    dtype: str
    numbers: int
    size: int


def read_weights(file: Path) -> Weights:
    """The head of a safetensors file; no tensor is read.

    Raises ValueError where it is cut off, a Git LFS pointer, or something else.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            start = opened.read(8)
            pointer = start + opened.read(15) == _POINTER
            opened.seek(8)
            head = {} if pointer else json.loads(opened.read(_head_length(start, size)))
    except ValueError as error:
        raise ValueError(f"{file} is not a safetensors file, or cut off: {error}") from None
    if pointer:
        text = f"{file} is a Git LFS pointer, not the file itself: run `git lfs pull` there"
        raise ValueError(text)
    head.pop("__metadata__", None)
    return _read_head(file, head, 8 + _head_length(start, size), size)


def _head_length(start: bytes, size: int) -> int:
    if len(start) < 8:
        raise ValueError("it has less than 8 bytes")
    length: int = struct.unpack("<Q", start)[0]
    if length > min(_MAX_HEAD, size):
        raise ValueError(f"its head would have {length} bytes")
    return length


def _read_head(file: Path, head: Mapping[str, Any], begin: int, size: int) -> Weights:
    try:
        shapes = {name: tuple(entry["shape"]) for name, entry in head.items()}
        kinds: Counter[str] = Counter()
        for name, entry in head.items():
            kinds[str(entry["dtype"])] += math.prod(shapes[name])
        expected = begin + max((entry["data_offsets"][1] for entry in head.values()), default=0)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{file} is not a safetensors file: its head is malformed") from None
    if size != expected:
        what = "download or copy it again" if size < expected else "it is not one file"
        raise ValueError(f"{file} has {size} bytes, and its head says {expected}: {what}")
    most = kinds.most_common(1)[0][0] if kinds else ""
    return Weights(file, shapes, _NAMES.get(most, most.lower()), kinds.total(), size)


def find_broken(folder: Path) -> str:
    """What is wrong with the first of a model's files of weights that is; "" for nothing.

    For when a runtime failed, which says less of it.
    """
    for file in sorted(folder.rglob("*.safetensors")):
        try:
            read_weights(file)
        except (OSError, ValueError) as error:
            return str(error)
    return ""
