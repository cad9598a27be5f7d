"""Quantiles of a symmetric beta distribution, without a library of statistics."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 200
_FRACTIONS = 300
_TINY = 1e-300


def beta_quantiles(shares: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """For each share of 0 to 1 the point below which it lies; both parameters are ``shape``."""
    return np.array([_quantile(float(share), shape) for share in shares])


def _quantile(share: float, shape: float) -> float:
    if share <= 0 or share >= 1:
        return float(share > 0)
    if share > 0.5:  # where the points crowd, their distance from 0 has the more digits
        return 1 - _quantile(1 - share, shape)
    low, high = 0.0, 0.5
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if _share_below(middle, shape) < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _share_below(x: float, shape: float) -> float:
    """The incomplete beta function for x up to one half, by its continued fraction (Lentz)."""
    scale = 2 * math.lgamma(shape) - math.lgamma(2 * shape)
    front = math.exp(shape * math.log(x * (1 - x)) - scale) / shape
    value, upper, lower = 1.0, 1.0, 0.0
    for step in range(_FRACTIONS):
        half = step // 2
        if step == 0:
            term = 1.0
        elif step % 2 == 0:
            term = half * (shape - half) * x / ((shape + step - 1) * (shape + step))
        else:
            bottom = (shape + step - 1) * (shape + step)
            term = -(shape + half) * (2 * shape + half) * x / bottom
        lower = 1 / _away_from_zero(1 + term * lower)
        upper = _away_from_zero(1 + term / upper)
        change = upper * lower
        value *= change
        if step and abs(change - 1) < 1e-16:
            break
    return front * (value - 1)


def _away_from_zero(number: float) -> float:
    return number if abs(number) > _TINY else _TINY
