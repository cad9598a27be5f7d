"""Linear multistep: the slopes of up to four steps, integrated as one polynomial (k-diffusion)."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Polynomial

from nerite.diffusion.samplers.euler import estimate, input_scale, levels, start
from nerite.diffusion.samplers.table import Mix, Table, slots
from nerite.diffusion.schedule import Floats, ScheduleConfig

_ORDER = 4


def lms(config: ScheduleConfig, steps: int, begin: int) -> Table:
    """Slots 1 to 3 remember the last slopes."""
    timesteps, sigmas = levels(config, steps)
    walk, (x, *remembered) = start(config, sigmas), slots()[:_ORDER]
    for index in range(begin, steps):
        now = float(sigmas[index])
        clean = estimate(config, now)
        slopes = [(x - clean) / now, *remembered][: index - begin + 1]
        weights = _weights(sigmas, index)
        new = x + sum(w * slope for w, slope in zip(weights, slopes, strict=False))
        walk.add(
            timesteps[index],
            [new, slopes[0], *remembered[: _ORDER - 2]],
            clean,
            Mix(1, now),
            input_scale(now),
        )
    return walk.table()


def _weights(sigmas: Floats, index: int) -> list[float]:
    """The integrals from this sigma to the next of Lagrange's polynomials through the last ones.

    As many as sigmas lie before, also where the walk began later, as diffusers has it.
    """
    points = sigmas[max(0, index - _ORDER + 1) : index + 1][::-1]
    weights = []
    for k, point in enumerate(points):
        others = np.delete(points, k)
        if (point == others).any():  # as many steps as training: nothing lies between the two
            weights.append(0.0)
            continue
        lagrange = Polynomial([1.0])
        for other in others:
            lagrange *= Polynomial([-other, 1.0]) / (point - other)
        primitive = lagrange.integ()
        weights.append(float(primitive(sigmas[index + 1]) - primitive(sigmas[index])))
    return weights
