"""DLPack capsules, read and made with ctypes: numpy alone knows neither BF16 nor GPUs."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class DLDeviceType(IntEnum):
    """The devices of DLPack."""

    kDLCPU = 1
    kDLCUDA = 2
    kDLCUDAHost = 3
    kDLOpenCL = 4
    kDLVulkan = 7
    kDLMetal = 8
    kDLVPI = 9
    kDLROCM = 10
    kDLROCMHost = 11
    kDLExtDev = 12
    kDLCUDAManaged = 13
    kDLOneAPI = 14
    kDLWebGPU = 15
    kDLHexagon = 16


@dataclass(frozen=True)
class Layout:
    """What a capsule says. code, bits: DLPack's name of the element type. pointer: of the first
    element."""

    pointer: int
    device: int
    device_id: int
    code: int
    bits: int
    shape: tuple[int, ...]
    contiguous: bool = True


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = [
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", _Deleter),
    ]


_NAME = b"dltensor"
# By address and not as objects: a capsule that is being deleted must not be counted again.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, _Destructor)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_incref = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
_decref = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("Py_DecRef", ctypes.pythonapi))


class _Export:
    """Keeps an exported tensor's owner, and the C structure that describes it, until its user
    calls the deleter."""

    def __init__(self, layout: Layout, owner: object) -> None:
        self._owner = owner
        self._shape = (ctypes.c_int64 * len(layout.shape))(*layout.shape)
        self.managed = _Managed(
            _Tensor(
                layout.pointer,
                layout.device,
                layout.device_id,
                len(layout.shape),
                layout.code,
                layout.bits,
                1,
                self._shape,
                None,  # compact
                0,
            ),
            id(self),
            _DELETE,
        )


def _delete(address: int) -> None:
    _decref(_Managed.from_address(address).context)


def _drop(capsule: int) -> None:
    if _is_valid(capsule, _NAME):  # nobody took what is in it
        _delete(_pointer(capsule, _NAME))


_DELETE = _Deleter(_delete)
_DROP = _Destructor(_drop)


def export(layout: Layout, owner: object) -> Any:
    """A capsule of memory that `owner` keeps."""
    kept = _Export(layout, owner)
    _incref(kept)
    return _new(ctypes.addressof(kept.managed), _NAME, _DROP)


def read(capsule: Any) -> Layout:
    """What a capsule holds; ValueError for what is none."""
    address = id(capsule)
    if not _is_valid(address, _NAME):
        raise ValueError("not a DLPack capsule")
    tensor = _Managed.from_address(_pointer(address, _NAME)).tensor
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    return Layout(
        (tensor.data or 0) + tensor.byte_offset,
        tensor.device,
        tensor.device_id,
        tensor.code,
        tensor.bits * tensor.lanes,
        shape,
        strides is None or _compact(shape, strides),
    )


def _compact(shape: Sequence[int], strides: Sequence[int]) -> bool:
    step = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != step:
            return 0 in shape
        step *= size
    return True
