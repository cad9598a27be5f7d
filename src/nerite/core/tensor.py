"""Tensor and its datatypes: Triton's names, numpy's types, and the byte form of BYTES.

BF16 is numpy through ml_dtypes; where that is not installed (a worker in a user's own
interpreter) BF16 tensors are refused by name. BYTES is an object array of `bytes`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = NDArray[Any]

_NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
try:
    import ml_dtypes
except ImportError:
    pass
else:
    _NUMPY["BF16"] = np.dtype(ml_dtypes.bfloat16)

_TRITON = {dtype: name for name, dtype in _NUMPY.items()}

_LENGTH = struct.Struct("<I")
_SMALL = 1 << 12  # bytes


def numpy_dtype(datatype: str) -> np.dtype[Any]:
    """The numpy dtype of a Triton datatype ("FP32"); KeyError when there is none."""
    return _NUMPY[datatype]


def item_size(datatype: str) -> int:
    """Bytes of an element; 0 where they differ, and for what is no datatype."""
    dtype = _NUMPY.get(datatype)
    return 0 if dtype is None or datatype == "BYTES" else dtype.itemsize


def datatype_of(tensor: Tensor) -> str:
    """The Triton datatype of an array; TypeError when Triton has none (complex, dates…)."""
    name = _TRITON.get(tensor.dtype)
    if name is not None:
        return name
    if tensor.dtype.kind in "SU":
        return "BYTES"
    native = _TRITON.get(tensor.dtype.newbyteorder("="))
    if native is not None:
        return native
    raise TypeError(f"numpy dtype {tensor.dtype} has no Triton datatype")


def fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    """Whether two shapes agree; -1 in either agrees with any size."""
    return len(shape) == len(declared) and all(
        a == b or a == -1 or b == -1 for a, b in zip(shape, declared)
    )


def to_bytes(tensor: Tensor) -> bytes | memoryview:
    """The wire form of a tensor: C order, little endian; BYTES as 4-byte lengths and data.

    No copy for a large contiguous tensor of a fixed-size type.
    """
    datatype = _TRITON.get(tensor.dtype) or datatype_of(tensor)
    if datatype == "BYTES":
        return _bytes_to_wire(tensor)
    if tensor.nbytes <= _SMALL and tensor.dtype.isnative:
        return tensor.tobytes()  # quicker than a view
    contiguous = np.ascontiguousarray(tensor)
    if contiguous.dtype.byteorder == ">":
        contiguous = contiguous.astype(contiguous.dtype.newbyteorder("<"))
    return contiguous.reshape(-1).view(np.uint8).data if contiguous.size else b""


def _bytes_to_wire(tensor: Tensor) -> bytes:
    parts: list[bytes] = []
    for item in tensor.reshape(-1).tolist():
        if isinstance(item, str):
            item = item.encode()
        elif not isinstance(item, (bytes, bytearray, memoryview)):
            item = str(item).encode()
        parts.append(_LENGTH.pack(len(item)))
        parts.append(bytes(item))
    return b"".join(parts)


def from_bytes(data: memoryview, datatype: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor in `data`, a view of it for fixed-size types.

    Raises ValueError when `data` does not hold exactly `shape` elements, KeyError for an
    unknown datatype.
    """
    dtype = _NUMPY[datatype]
    if datatype == "BYTES":
        items = split_bytes(data)
        flat = np.empty(len(items), dtype=object)
        flat[:] = items
        return flat.reshape(shape)
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def split_bytes(data: memoryview) -> list[bytes]:
    """The elements of a BYTES tensor's wire form; ValueError when it is cut short."""
    items: list[bytes] = []
    position, end = 0, len(data)
    while position < end:
        if end - position < _LENGTH.size:
            raise ValueError(f"{end - position} bytes where a 4-byte length was expected")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if end - position < length:
            raise ValueError(f"an element of {length} bytes has only {end - position}")
        items.append(bytes(data[position : position + length]))
        position += length
    return items
