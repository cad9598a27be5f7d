"""Tensor: typed memory that comes from any object and goes to any library, mostly uncopied."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.core.tensor import datatype_of, from_bytes, numpy_dtype, to_bytes
from tritonserver._api import _dlpack
from tritonserver._api._dlpack import DLDeviceType
from tritonserver._api._errors import InvalidArgumentError, UnsupportedError
from tritonserver._api._kinds import DataType, MemoryType
from tritonserver._api._memorybuffer import (
    DeviceOrMemoryType,
    MemoryBuffer,
    buffer_of,
    device_of,
    layout_of,
    parse_memory_type,
)

_INT, _UINT, _FLOAT, _BFLOAT, _BOOL = 0, 1, 2, 4, 6
_ELEMENTS = {
    DataType.BOOL: (_BOOL, 8),
    DataType.INT8: (_INT, 8),
    DataType.INT16: (_INT, 16),
    DataType.INT32: (_INT, 32),
    DataType.INT64: (_INT, 64),
    DataType.UINT8: (_UINT, 8),
    DataType.UINT16: (_UINT, 16),
    DataType.UINT32: (_UINT, 32),
    DataType.UINT64: (_UINT, 64),
    DataType.FP16: (_FLOAT, 16),
    DataType.FP32: (_FLOAT, 32),
    DataType.FP64: (_FLOAT, 64),
    DataType.BF16: (_BFLOAT, 16),
}
_DATA_TYPES = {element: data_type for data_type, element in _ELEMENTS.items()}


@dataclass(eq=False)
class Tensor:
    """A tensor's element type, shape and memory.

    BYTES tensors are held as Triton sends them: each element's length in 4 bytes, then its bytes.
    All else supports DLPack: `numpy.from_dlpack(tensor)`, `torch.from_dlpack(tensor)`.
    """

    data_type: DataType
    shape: Sequence[int]
    memory_buffer: MemoryBuffer

    @property
    def data_ptr(self) -> int:
        return self.memory_buffer.data_ptr

    @property
    def memory_type(self) -> MemoryType:
        return self.memory_buffer.memory_type

    @property
    def memory_type_id(self) -> int:
        return self.memory_buffer.memory_type_id

    @property
    def size(self) -> int:
        """In bytes."""
        return self.memory_buffer.size

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule of the same memory, as the array API standard has it."""
        if copy or (dl_device is not None and dl_device != self.__dlpack_device__()):
            raise BufferError("to_device makes copies; DLPack here gives the memory as it is")
        if self.memory_type is MemoryType.GPU:
            owner = self.memory_buffer.owner
            if hasattr(owner, "__dlpack__"):  # it makes its readers' stream wait for its own
                owner.__dlpack__(stream=stream)
        elif stream not in (None, 0):
            raise UnsupportedError(
                f"DLPack stream synchronization on memory type {self.memory_type} and stream "
                f"{stream} not supported"
            )
        if self.data_type not in _ELEMENTS:
            raise InvalidArgumentError(
                f"Unsupported Triton server data type. Can't convert {self.data_type} to DLPack "
                "data type; to_bytes_array and to_string_array read BYTES"
            )
        device, number = self.__dlpack_device__()
        layout = _dlpack.Layout(
            self.data_ptr, device, number, *_ELEMENTS[self.data_type], _shape(self)
        )
        return _dlpack.export(layout, self)

    def __dlpack_device__(self) -> tuple[DLDeviceType, int]:
        return device_of(self.memory_type), self.memory_type_id

    def to_string_array(self) -> NDArray[np.str_]:
        """The elements of a BYTES tensor as text. Raises UnicodeDecodeError where one is none."""
        array = self.to_bytes_array()
        texts = [item.decode() for item in array.reshape(-1).tolist()]
        return np.array(texts, np.str_).reshape(array.shape)

    def to_bytes_array(self) -> NDArray[np.object_]:
        """The elements of a BYTES tensor. Raises InvalidArgumentError for any other."""
        if self.data_type is not DataType.BYTES:
            raise InvalidArgumentError(
                f"Tensor has data type {self.data_type} not {DataType.BYTES}"
            )
        return self.to_array()

    def to_array(self) -> NDArray[Any]:
        """The tensor in this machine's memory, as nerite's models take it; a view where that is
        possible. BYTES become an array of `bytes`. Raises InvalidArgumentError."""
        here = self.to_host()
        flat = np.asarray(_View(here)) if here.size else np.empty(0, np.uint8)
        shape = _shape(here)
        try:
            if here.data_type is DataType.BYTES:
                return from_bytes(flat.data, "BYTES", shape)
            return flat.view(numpy_dtype(here.data_type.name)).reshape(shape)
        except ValueError as error:
            raise InvalidArgumentError(
                f"a tensor of {here.size} bytes does not have the shape {list(shape)}: {error}"
            ) from None

    @staticmethod
    def from_string_array(string_array: list[Any] | NDArray[Any]) -> Tensor:
        """A BYTES tensor of texts. Raises InvalidArgumentError for anything else."""
        return Tensor.from_bytes_array(string_array)

    @staticmethod
    def from_bytes_array(bytes_array: list[Any] | NDArray[Any]) -> Tensor:
        """A BYTES tensor of texts or bytes. Raises InvalidArgumentError for anything else."""
        tensor = Tensor.from_object(bytes_array)
        if tensor.data_type is not DataType.BYTES:
            raise InvalidArgumentError(
                f"Unsupported conversion from {bytes_array} to Triton BYTES Tensor. "
                f"Got {tensor.data_type}"
            )
        return tensor

    @staticmethod
    def from_object(obj: Any) -> Tensor:
        """A tensor of an array, a list, a number, or whatever supports DLPack.

        Raises InvalidArgumentError.
        """
        if isinstance(obj, list):
            try:
                obj = np.array(obj)
            except ValueError as error:
                text = f"Conversion from {obj} to tensor not supported: {error}"
                raise InvalidArgumentError(text) from None
        if isinstance(obj, (np.ndarray, np.generic)):
            return from_array(np.asarray(obj))
        if hasattr(obj, "__dlpack__"):
            return Tensor.from_dlpack(obj)
        raise InvalidArgumentError(
            f"Input type {type(obj)} not supported. Must be one of list, numpy.ndarray or the type "
            "must support __dlpack__"
        )

    @staticmethod
    def from_dlpack(obj: Any) -> Tensor:
        """A tensor of the memory of an object with `__dlpack__`, not copied.

        Raises InvalidArgumentError.
        """
        layout = layout_of(obj)
        data_type = _DATA_TYPES.get((layout.code, layout.bits))
        if data_type is None:
            raise InvalidArgumentError(
                f"Unsupported DLPack data type. Can't convert {(layout.code, layout.bits)} to "
                "Triton server data type"
            )
        return Tensor(data_type, list(layout.shape), buffer_of(obj, layout))

    def to_host(self) -> Tensor:
        """This tensor in the CPU's memory; itself where it is there."""
        return self.to_device("cpu")

    def to_device(self, device: DeviceOrMemoryType) -> Tensor:
        """This tensor on a device ("cpu", "gpu:1", …); itself where it is there.

        GPUs need cupy or torch. Raises InvalidArgumentError, UnsupportedError.
        """
        kind, number = parse_memory_type(device)
        here = (self.memory_type, self.memory_type_id)
        if here == (kind, number) or MemoryType.GPU not in (self.memory_type, kind):
            return self
        flat = replace(self, data_type=DataType.UINT8, shape=[self.size])
        moved = _move(flat, number if kind is MemoryType.GPU else None)
        if moved is None:
            text = f"Conversion from {here} to {(kind, number)} not supported."
            raise UnsupportedError(f"{text} It needs cupy or torch, and a GPU.")
        return replace(self, memory_buffer=MemoryBuffer.from_dlpack(moved))


class _View:
    """A tensor's bytes as numpy asks for them; the array keeps this, and this the tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.__array_interface__ = {
            "shape": (tensor.size,),
            "typestr": "|u1",
            "data": (tensor.data_ptr, False),
            "version": 3,
        }


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple([int(size) for size in tensor.shape])


def from_array(array: NDArray[Any]) -> Tensor:
    """A tensor of a numpy array, a view of it but for BYTES. Raises InvalidArgumentError."""
    try:
        data_type = DataType[datatype_of(array)]
    except TypeError as error:
        text = "Unsupported Numpy data type. Can't convert to Triton server data type"
        raise InvalidArgumentError(f"{text}: {error}") from None
    # The tensor's memory is the wire's: in C order, and BYTES with their lengths.
    held = np.frombuffer(to_bytes(array), np.uint8) if array.size else np.empty(0, np.uint8)
    buffer = MemoryBuffer(held.ctypes.data, MemoryType.CPU, 0, held.size, held)
    return Tensor(data_type, list(array.shape), buffer)


def _move(flat: Tensor, gpu: int | None) -> Any:
    """Bytes on a GPU, or in the CPU's memory for None; None where no library can."""
    for name in ("cupy", "torch"):
        try:
            library = importlib.import_module(name)
        except ImportError:
            continue
        if name == "torch":
            if not library.cuda.is_available():
                continue
            return library.from_dlpack(flat).to("cpu" if gpu is None else f"cuda:{gpu}", copy=True)
        array = library.from_dlpack(flat) if flat.memory_type is MemoryType.GPU else flat.to_array()
        if gpu is None:
            return library.asnumpy(array)
        with library.cuda.Device(gpu):
            return library.asarray(array)
    return None
