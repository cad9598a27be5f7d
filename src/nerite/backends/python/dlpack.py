"""Arrays as DLPack capsules and back, without a copy.

numpy's own support knows no BF16 and refuses read-only arrays, which inputs may be.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from typing import Any, Tuple

import numpy as np

from nerite.core.tensor import Tensor, datatype_of, numpy_dtype

CPU, CUDA, CUDA_HOST = 1, 2, 3
_NAME, _USED = b"dltensor", b"used_dltensor"
# DLPack's type codes: int, uint, float, bfloat, bool.
_CODES = {
    "BOOL": (6, 8),
    "UINT8": (1, 8),
    "UINT16": (1, 16),
    "UINT32": (1, 32),
    "UINT64": (1, 64),
    "INT8": (0, 8),
    "INT16": (0, 16),
    "INT32": (0, 32),
    "INT64": (0, 64),
    "FP16": (2, 16),
    "FP32": (2, 32),
    "FP64": (2, 64),
    "BF16": (4, 16),
}
_DATATYPES = {code: name for name, code in _CODES.items()}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, POINTER(_Managed))
_Managed._fields_ = (("tensor", _Tensor), ("context", c_void_p), ("deleter", _Deleter))

_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = c_void_p
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)
_capsule_rename = ctypes.pythonapi.PyCapsule_SetName
_capsule_rename.argtypes = (ctypes.py_object, ctypes.c_char_p)


def is_capsule(thing: Any) -> bool:
    return type(thing).__name__ == "PyCapsule"


def export(array: Tensor, owner: Any) -> Any:
    """A capsule of a contiguous array on the CPU; `owner` lives as long as it is in use.

    It is numpy's, of plain numbers of the same size: whoever lets go of it does so in C, also
    amid an exception, where no Python code may run.
    """
    code, bits = _CODES[datatype_of(array)]
    plain = np.dtype(f"u{array.itemsize}")
    if array.size:
        memory: Any = (c_char * array.nbytes).from_address(array.ctypes.data)
        memory.keeper = (owner, array)
        shown: Any = np.frombuffer(memory, plain).reshape(array.shape)
    else:
        shown = np.empty(array.shape, plain)
    capsule = shown.__dlpack__()
    tensor = _managed(capsule).tensor
    tensor.code, tensor.bits = code, bits
    return capsule


def device_of(capsule: Any) -> Tuple[int, int]:  # noqa: UP006
    """A capsule's device type and number."""
    tensor = _managed(capsule).tensor
    return tensor.device_type, tensor.device_id


def take(capsule: Any) -> Tensor:
    """The array on the CPU in a capsule, which is used up. ValueError where it has none such."""
    managed = _managed(capsule)
    tensor = managed.tensor
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    if tensor.strides and not _in_c_order(shape, tensor.strides):
        raise ValueError(
            "DLPack tensor is not contiguous. Only contiguous DLPack tensors that are stored in "
            "C-Order are supported."
        )
    datatype = _DATATYPES.get((tensor.code, tensor.bits))
    if datatype is None or tensor.lanes != 1:
        raise ValueError(f"DLPack type {tensor.code} of {tensor.bits} bits is no Triton datatype")
    dtype = numpy_dtype(datatype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    _capsule_rename(capsule, _USED)
    if not size:
        _delete(managed)
        return np.empty(shape, dtype)
    memory: Any = (c_char * size).from_address(tensor.data + tensor.byte_offset)
    memory.keeper = _Keeper(managed)
    flat: Tensor = np.frombuffer(memory, dtype)
    return flat.reshape(shape)


class _Keeper:
    """Gives a foreign tensor back when the last array on it goes."""

    def __init__(self, managed: Any) -> None:
        self._managed = managed

    def __del__(self) -> None:
        _delete(self._managed)


def _delete(managed: Any) -> None:
    if managed.deleter:
        managed.deleter(ctypes.pointer(managed))


def _managed(capsule: Any) -> Any:
    return ctypes.cast(_capsule_pointer(capsule, _NAME), POINTER(_Managed)).contents


def _in_c_order(shape: Tuple[int, ...], strides: Any) -> bool:  # noqa: UP006
    expected = 1
    for axis in range(len(shape) - 1, -1, -1):
        if shape[axis] != 1:
            if strides[axis] != expected:
                return False
            expected *= shape[axis]
    return True
