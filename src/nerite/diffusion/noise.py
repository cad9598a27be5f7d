"""torch's CPU random normals in numpy, so that a seed means here what it means everywhere else."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16
_UNIT_24 = np.float32(2.0**-24)
_TWO_PI = np.float32(2 * np.pi)


class TorchGenerator:
    """``torch.Generator().manual_seed(seed)``, for ``torch.randn`` in float32 on the CPU.

    MT19937 is seeded with the low 32 bits of ``seed``. The algorithm, after torch's
    ``DistributionTemplates.h``: 16 values or more are filled with 24-bit uniforms and each block
    of 16 goes through Box-Muller, a ragged tail drawing its last 16 values anew; fewer come one
    by one from 53-bit uniforms, the second of each pair being kept for the next scalar draw.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.RandomState(seed & 0xFFFFFFFF)
        self._kept: float | None = None

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The next draw of the stream, float32 of ``shape``, within 5e-7 of torch's."""
        size = math.prod(shape)
        if size < _BLOCK:
            values = np.array([self._scalar() for _ in range(size)], np.float32)
            return values.reshape(shape)
        uniforms = self._uniforms(size)
        whole = size - size % _BLOCK
        values = np.empty(size, np.float32)
        values[:whole] = _box_muller(uniforms[:whole])
        if whole < size:
            values[-_BLOCK:] = _box_muller(self._uniforms(_BLOCK))
        return values.reshape(shape)

    def _words(self, count: int) -> NDArray[np.uint32]:
        return self._bits.randint(0, 1 << 32, count, dtype=np.uint32)

    def _uniforms(self, count: int) -> NDArray[np.float32]:
        return (self._words(count) & np.uint32(0xFFFFFF)).astype(np.float32) * _UNIT_24

    def _double(self) -> float:
        high, low = (int(word) for word in self._words(2))
        return ((high << 32 | low) & ((1 << 53) - 1)) * 2.0**-53

    def _scalar(self) -> float:
        if self._kept is not None:
            value, self._kept = self._kept, None
            return value
        angle = 2 * math.pi * self._double()
        radius = math.sqrt(-2 * math.log1p(-self._double()))
        self._kept = radius * math.sin(angle)
        return radius * math.cos(angle)


def _box_muller(uniforms: NDArray[np.float32]) -> NDArray[np.float32]:
    """Float32 [16 n] in and out; every operation in float32, as torch's is."""
    blocks = uniforms.reshape(-1, 2, _BLOCK // 2)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - blocks[:, 0]))
    angle = _TWO_PI * blocks[:, 1]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.reshape(-1)
