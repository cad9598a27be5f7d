"""MemoryBuffer: the bytes of a tensor, wherever they are, and the names of where they can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonserver._api import _dlpack
from tritonserver._api._dlpack import DLDeviceType
from tritonserver._api._errors import InvalidArgumentError
from tritonserver._api._kinds import MemoryType

# "cpu", "gpu:1", MemoryType.GPU, (MemoryType.GPU, 1), (DLDeviceType.kDLCUDA, 1)
DeviceOrMemoryType = str | MemoryType | tuple[MemoryType, int] | tuple[DLDeviceType, int]

_DEVICES = {
    DLDeviceType.kDLCPU: MemoryType.CPU,
    DLDeviceType.kDLCUDAHost: MemoryType.CPU_PINNED,
    DLDeviceType.kDLCUDA: MemoryType.GPU,
}


@dataclass(eq=False)
class MemoryBuffer:
    """`size` bytes at `data_ptr`, which `owner` keeps alive."""

    data_ptr: int
    memory_type: MemoryType
    memory_type_id: int
    size: int
    owner: Any

    @staticmethod
    def from_dlpack(owner: Any) -> MemoryBuffer:
        """The memory of an object with `__dlpack__`, not copied.

        Raises InvalidArgumentError for memory that is not contiguous, or not a CPU's or a GPU's.
        """
        return buffer_of(owner, layout_of(owner))


def layout_of(value: Any) -> _dlpack.Layout:
    """What an object says through DLPack. Raises InvalidArgumentError."""
    if not hasattr(value, "__dlpack__"):
        raise InvalidArgumentError("Object does not support DLpack protocol")
    try:
        device, _ = value.__dlpack_device__()
        # 1 is CUDA's default stream: what is being written there now is seen by what reads later.
        capsule = value.__dlpack__(stream=1) if device == DLDeviceType.kDLCUDA else _plain(value)
        return _dlpack.read(capsule)
    except Exception as error:
        raise InvalidArgumentError(f"Object does not support DLPack protocol: {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        value = value.view()
        try:
            value.flags.writeable = True  # numpy exports no other; it is only read here
        except ValueError:
            value = value.copy()
    return value.__dlpack__()


def buffer_of(owner: Any, layout: _dlpack.Layout) -> MemoryBuffer:
    """The memory of `owner`, whose layout this is. Raises InvalidArgumentError."""
    if not layout.contiguous:
        raise InvalidArgumentError("Only contiguous memory is supported")
    size = layout.bits // 8
    for length in layout.shape:
        size *= length
    kind = memory_type_of(layout.device)
    return MemoryBuffer(layout.pointer, kind, layout.device_id, size, owner)


def memory_type_of(device: int) -> MemoryType:
    """Raises InvalidArgumentError for a device whose memory cannot be used."""
    for known, kind in _DEVICES.items():
        if device == known:
            return kind
    raise InvalidArgumentError(
        f"Unsupported DLPack device type. Can't convert {device} to Triton server memory type"
    )


def device_of(kind: MemoryType) -> DLDeviceType:
    """The device that DLPack calls memory of a kind; pinned memory is a CPU's to its readers."""
    return DLDeviceType.kDLCUDA if kind is MemoryType.GPU else DLDeviceType.kDLCPU


def parse_memory_type(wanted: DeviceOrMemoryType) -> tuple[MemoryType, int]:
    """The kind of memory and the device's number. Raises InvalidArgumentError."""
    wrong = InvalidArgumentError(
        f"Invalid memory type {wanted!r}: there are 'cpu', 'cpu_pinned' and 'gpu', each with ':' "
        "and a device's number or without"
    )
    what: Any = wanted
    number: Any = 0
    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise wrong
        what, number = wanted
        if isinstance(what, DLDeviceType):
            return memory_type_of(what), number
    elif isinstance(wanted, str):
        what, _, number = wanted.partition(":")
    try:
        kind = MemoryType[what.upper()] if isinstance(what, str) else MemoryType(what)
        return kind, int(number or 0)
    except (KeyError, ValueError):
        raise wrong from None
