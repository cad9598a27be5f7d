"""Tensors: from numpy, torch and lists, and back, without copies where there need be none."""

import gc
import sys
import weakref
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tritonserver
from tritonserver import DataType, DLDeviceType, InvalidArgumentError, MemoryBuffer, Tensor


@pytest.mark.parametrize(
    "dtype",
    [bool, "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"],
)
def test_numpy_there_and_back(dtype: Any) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    tensor = Tensor.from_dlpack(array)
    assert tensor.data_ptr == array.ctypes.data
    assert (tensor.size, list(tensor.shape)) == (array.nbytes, [2, 3])
    back = np.from_dlpack(tensor)
    assert back.ctypes.data == array.ctypes.data
    assert np.array_equal(back, array) and back.dtype == array.dtype


def test_bfloat16_through_torch() -> None:
    torch = pytest.importorskip("torch")
    wanted = torch.tensor([1.0, -2.5], dtype=torch.bfloat16)
    tensor = Tensor.from_dlpack(wanted)
    assert tensor.data_type is DataType.BF16
    assert tensor.to_array().dtype == ml_dtypes.bfloat16
    back = torch.from_dlpack(tensor)
    assert back.data_ptr() == wanted.data_ptr() and torch.equal(back, wanted)


def test_a_tensor_keeps_what_it_shows() -> None:
    owner = np.ones(1000)
    before = sys.getrefcount(owner)
    tensor = Tensor.from_dlpack(owner)
    assert sys.getrefcount(owner) == before + 1
    alive = weakref.ref(tensor)
    array = np.from_dlpack(tensor)
    capsule = tensor.__dlpack__()  # never used
    del tensor, owner, capsule
    assert alive() is not None and array.sum() == 1000
    del array
    gc.collect()
    assert alive() is None


def test_texts() -> None:
    tensor = Tensor.from_string_array([["höllo", ""], ["x", "yz"]])
    assert tensor.data_type is DataType.BYTES and list(tensor.shape) == [2, 2]
    assert tensor.to_string_array().tolist() == [["höllo", ""], ["x", "yz"]]
    assert Tensor.from_bytes_array(np.array([b"\0a"], object)).to_bytes_array().tolist() == [b"\0a"]
    with pytest.raises(InvalidArgumentError, match="Got DataType.INT64"):
        Tensor.from_string_array([1, 2])
    with pytest.raises(InvalidArgumentError, match=r"has data type DataType.FP64 not DataType"):
        Tensor.from_dlpack(np.ones(1)).to_bytes_array()
    with pytest.raises(InvalidArgumentError, match="read BYTES"):
        np.from_dlpack(tensor)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "Object does not support DLpack protocol"),
        (np.ones((4, 4))[:, 1], "Only contiguous memory is supported"),
        (np.ones(2, complex), "Can't convert .* to Triton server data type"),
    ],
)
def test_what_cannot_be_a_tensor(value: Any, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        Tensor.from_dlpack(value)


def test_empty_and_read_only() -> None:
    assert Tensor.from_object(np.empty((0, 3), np.float32)).to_array().shape == (0, 3)
    frozen = np.frombuffer(b"\1\0\2\0", np.int16)
    assert Tensor.from_dlpack(frozen).to_array().tolist() == [1, 2]
    assert Tensor.from_object(np.ones((3, 3))[:, 1]).to_array().tolist() == [1, 1, 1]


def test_a_shape_that_does_not_fit() -> None:
    tensor = Tensor.from_dlpack(np.ones(4, np.float32))
    tensor.shape = [2, 2]
    assert np.from_dlpack(tensor).shape == (2, 2)
    tensor.shape = [3]
    with pytest.raises(InvalidArgumentError, match=r"16 bytes does not have the shape \[3\]"):
        tensor.to_array()


def test_devices() -> None:
    tensor = Tensor.from_object([1.0])
    assert tensor.__dlpack_device__() == (DLDeviceType.kDLCPU, 0)
    same: list[Any] = ["cpu", "CPU:0", "cpu_pinned", tritonserver.MemoryType.CPU]
    same += [(tritonserver.MemoryType.CPU, 0), (DLDeviceType.kDLCPU, 0)]
    assert all(tensor.to_device(one) is tensor for one in same)
    for wrong in ("moon", "cpu:x", (DLDeviceType.kDLMetal, 0), ("cpu",)):
        with pytest.raises(InvalidArgumentError):
            tensor.to_device(wrong)  # type: ignore[arg-type]
    buffer = MemoryBuffer.from_dlpack(np.ones(3, np.int32))
    assert (buffer.size, buffer.memory_type) == (12, tritonserver.MemoryType.CPU)


def test_a_gpu_that_there_is_not() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(tritonserver.UnsupportedError, match="needs cupy or torch, and a GPU"):
        Tensor.from_object([1.0]).to_device("gpu")


@pytest.mark.gpu
def test_to_the_gpu_and_back() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    there = Tensor.from_string_array(["a", "bc"]).to_device("gpu:0")
    assert there.memory_type is tritonserver.MemoryType.GPU
    assert there.to_string_array().tolist() == ["a", "bc"]
    numbers = Tensor.from_object([1.0, 2.0]).to_device("gpu:0")
    assert torch.from_dlpack(numbers).sum().item() == 3.0
