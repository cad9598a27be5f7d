"""Tensors to bytes and back, for every datatype of Triton's."""

import ml_dtypes
import numpy as np
import pytest

from nerite.core.tensor import datatype_of, from_bytes, numpy_dtype, to_bytes

FIXED = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
         "FP32", "FP64", "BF16"]  # fmt: skip


@pytest.mark.parametrize("datatype", FIXED)
def test_fixed_size_types(datatype: str) -> None:
    tensor = np.arange(6).astype(numpy_dtype(datatype)).reshape(2, 3)
    assert datatype_of(tensor) == datatype
    data = memoryview(to_bytes(tensor))
    assert len(data) == tensor.nbytes
    np.testing.assert_array_equal(from_bytes(data, datatype, (2, 3)), tensor)


def test_no_copy_of_a_large_contiguous_tensor() -> None:
    tensor = np.arange(6000, dtype=np.float32)
    view = np.frombuffer(to_bytes(tensor), np.float32)
    assert np.shares_memory(view, tensor)
    assert np.shares_memory(from_bytes(memoryview(view).cast("B"), "FP32", (6000,)), tensor)


def test_strided_and_big_endian_tensors() -> None:
    strided = np.arange(12, dtype=np.int16).reshape(3, 4).T
    assert bytes(to_bytes(strided)) == np.ascontiguousarray(strided).tobytes()
    big = np.arange(3, dtype=">i4")
    assert datatype_of(big) == "INT32"
    assert bytes(to_bytes(big)) == np.arange(3, dtype="<i4").tobytes()


def test_bytes() -> None:
    tensor = np.array([[b"", "❄", b"\x00\xff"]], dtype=object)
    data = to_bytes(tensor)
    assert data == b"\0\0\0\0" + b"\3\0\0\0" + "❄".encode() + b"\2\0\0\0\x00\xff"
    back = from_bytes(memoryview(data), "BYTES", (1, 3))
    assert back.tolist() == [[b"", "❄".encode(), b"\x00\xff"]]


@pytest.mark.parametrize("data", [b"\1", b"\5\0\0\0abc"])
def test_bytes_cut_short(data: bytes) -> None:
    with pytest.raises(ValueError, match="expected|has only"):
        from_bytes(memoryview(data), "BYTES", (1,))


def test_numpy_strings_are_bytes() -> None:
    assert datatype_of(np.array(["a", "b"])) == "BYTES"
    assert bytes(to_bytes(np.array(["a"]))) == b"\1\0\0\0a"


def test_types_triton_lacks() -> None:
    with pytest.raises(TypeError, match="complex64"):
        datatype_of(np.zeros(1, np.complex64))
    with pytest.raises(KeyError):
        numpy_dtype("FLOAT")
    assert numpy_dtype("BF16") == ml_dtypes.bfloat16
