"""pb_utils.Tensor: a named array, as numpy or DLPack, on the CPU or a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from nerite.backends.python import dlpack
from nerite.backends.python.errors import TritonModelException, message_of
from nerite.core import tensor as tensors


class Tensor:
    """A named tensor. What comes in, and what was made of numpy, is never copied.

    A tensor made by `from_dlpack` of memory on a GPU stays there until it is sent.
    """

    __slots__ = ("__weakref__", "_array", "_datatype", "_foreign", "_name")

    def __init__(self, name: str, array: tensors.Tensor) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"Tensor '{name}' needs a numpy array, got {type(array).__name__}")
        name = message_of(name, "Tensor")
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        try:
            self._datatype = tensors.datatype_of(array)
        except TypeError as error:
            raise TritonModelException(f"Tensor '{name}': {error}") from None
        self._name = name
        self._array = array
        self._foreign: Any = None

    @classmethod
    def of(cls, name: str, array: tensors.Tensor) -> Tensor:
        """A tensor that came in: its name and type are right."""
        made = cls.__new__(cls)
        made._name, made._array, made._foreign = name, array, None
        made._datatype = tensors.datatype_of(array)
        return made

    @classmethod
    def from_dlpack(cls, name: str, tensor: Any) -> Tensor:
        """The tensor of a capsule, or of anything with `__dlpack__`, as torch's have.

        Raises TritonModelException when it is not contiguous or of a type Triton lacks.
        """
        name = message_of(name, "Tensor.from_dlpack")
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        capsule = tensor
        if not dlpack.is_capsule(tensor):
            if not hasattr(tensor, "__dlpack__") or not hasattr(tensor, "__dlpack_device__"):
                raise TritonModelException(
                    "Provided tensor is not supported. Tensor must be a DLPack capsule or have "
                    "`__dlpack__` and `__dlpack_device__` attributes"
                )
            device = int(tensor.__dlpack_device__()[0])
            if device == dlpack.CUDA:
                return cls._on_gpu(name, tensor)
            _check_device(device)
            capsule = tensor.__dlpack__()
        device = dlpack.device_of(capsule)[0]
        if device == dlpack.CUDA:
            return cls._on_gpu(name, _torch().utils.dlpack.from_dlpack(capsule))
        _check_device(device)
        try:
            return cls.of(name, dlpack.take(capsule))
        except ValueError as error:
            raise TritonModelException(str(error)) from None

    @classmethod
    def _on_gpu(cls, name: str, foreign: Any) -> Tensor:
        made = cls.__new__(cls)
        made._name, made._foreign = name, foreign
        made._datatype = _foreign_datatype(foreign)
        return made

    def name(self) -> str:
        return self._name

    def shape(self) -> list[int]:
        return list(self._array.shape if self._foreign is None else self._foreign.shape)

    def triton_dtype(self) -> str:
        return "TYPE_STRING" if self._datatype == "BYTES" else f"TYPE_{self._datatype}"

    def is_cpu(self) -> bool:
        return self._foreign is None

    def as_numpy(self) -> tensors.Tensor:
        """The array itself. Raises TritonModelException for BF16 and for memory on a GPU."""
        if self._foreign is not None:
            raise TritonModelException("Tensor is stored in GPU and cannot be converted to NumPy.")
        if self._datatype == "BF16":
            raise TritonModelException(
                "Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack() and "
                "from_dlpack() instead."
            )
        return self._array

    def to_dlpack(self) -> Any:
        """A DLPack capsule on the same memory, which lives as long as the capsule's user."""
        if self._datatype == "BYTES":
            raise TritonModelException("DLPack does not have support for string tensors.")
        if self._foreign is not None:
            return self._foreign.__dlpack__()
        if not self._array.flags.c_contiguous:  # of one number, numpy would make an array
            self._array = np.ascontiguousarray(self._array)
        return dlpack.export(self._array, self)

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        return self.to_dlpack()

    def __dlpack_device__(self) -> tuple[int, int]:
        if self._foreign is None:
            return dlpack.CPU, 0
        kind, number = self._foreign.__dlpack_device__()
        return int(kind), int(number)

    def array(self) -> tensors.Tensor:
        """What is sent: the array on the CPU, BF16 too."""
        if self._foreign is None:
            return self._array
        capsule = _torch().from_dlpack(self._foreign).contiguous().cpu().__dlpack__()
        return dlpack.take(capsule)


def _check_device(device: int) -> None:
    if device not in (dlpack.CPU, dlpack.CUDA_HOST):
        raise TritonModelException(f"DLDevice type {device} is not support by Python backend.")


def _foreign_datatype(foreign: Any) -> str:
    name = str(foreign.dtype).rsplit(".", 1)[-1]
    if name == "bfloat16":
        return "BF16"
    try:
        return tensors.datatype_of(np.empty(0, np.dtype(name)))
    except TypeError as error:
        raise TritonModelException(f"tensor of {foreign.dtype}: {error}") from None


def _torch() -> Any:
    """torch moves what is on a GPU; whoever has such a tensor nearly always has it."""
    try:
        import torch
    except ImportError:
        raise TritonModelException(
            "a tensor on a GPU is sent through torch, which is not installed here"
        ) from None
    return torch
