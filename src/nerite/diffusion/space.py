"""Where tensors live: numpy's on the CPU, or torch's on a device; the rest of the code is the same.

Both kinds share their operators, slices and ``reshape``; what they do not share is named here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.noise import TorchGenerator

Array = Any
"""A tensor of numpy's or torch's; the docstring at hand says its shape and dtype."""


class Generator(Protocol):
    """Random normals from a seed: those of ``torch.Generator().manual_seed(seed)`` on the CPU."""

    def normal(self, shape: tuple[int, ...]) -> Array:
        """The next draw of the stream, float32."""
        ...


class Space(Protocol):
    def put(self, array: NDArray[Any]) -> Array:
        """A tensor here with the values of ``array``, its dtype kept but float64 made float32."""
        ...

    def take(self, tensor: Array) -> NDArray[Any]:
        """A tensor's values as numpy's; waits until they are there."""
        ...

    def concat(self, tensors: Sequence[Array], axis: int = 0) -> Array: ...

    def generator(self, seed: int) -> Generator: ...

    def pace(self) -> None:
        """Wait until no more than the last step is still on its way to the device."""
        ...

    def trim(self) -> None:
        """Give back memory that is kept for later use."""
        ...

    def free_memory(self) -> int | None:
        """Bytes that could still be taken, None where nobody knows."""
        ...

    def begin_peak(self) -> None:
        """From here on ``peak`` counts."""
        ...

    def peak(self) -> int | None:
        """Bytes that were taken at most since ``begin_peak``, None where nobody knows."""
        ...


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a runtime's error says that memory ran out; they share no type."""
    if isinstance(error, MemoryError):
        return True
    text = f"{type(error).__name__}: {error}".lower()
    signs = ("outofmemory", "out of memory", "failed to allocate", "bad_alloc", "can't allocate")
    return any(sign in text for sign in signs)


class NumpySpace:
    def put(self, array: NDArray[Any]) -> Array:
        return array.astype(np.float32) if array.dtype == np.float64 else array

    def take(self, tensor: Array) -> NDArray[Any]:
        return np.asarray(tensor)

    def concat(self, tensors: Sequence[Array], axis: int = 0) -> Array:
        return np.concatenate(tensors, axis)

    def generator(self, seed: int) -> Generator:
        return TorchGenerator(seed)

    def pace(self) -> None: ...

    def trim(self) -> None: ...

    def free_memory(self) -> int | None:
        return memory_available()

    def begin_peak(self) -> None:
        reset_resident_peak()

    def peak(self) -> int | None:
        return resident_peak()


def memory_available() -> int | None:
    """Bytes that this process could still take: the machine's, or its container's if less."""
    lines = _lines("/proc/meminfo")
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].strip().isdigit():
        found.append(max(0, int(limit[0]) - int(used[0])))
    return min(found) if found else None


def reset_resident_peak() -> None:
    """Set the peak of this process's resident memory back to what it is now, where that goes."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def resident_peak() -> int | None:
    """The most bytes of memory that this process has had resident; None where nobody counts."""
    lines = [line for line in _lines("/proc/self/status") if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.readlines()
    except OSError:
        return []
