"""UniPC: a predictor, and a corrector that needs no further forward (arXiv 2302.04867)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nerite.diffusion.samplers.table import Form, Steps, Table, clean_estimate, mixed, slots
from nerite.diffusion.schedule import (
    Floats,
    ScheduleConfig,
    flow_levels,
    shifted,
    solver_levels,
    stretched,
    usable_order,
)

_NOISE = 1e-6  # how near to pure noise the walk begins


def unipc(config: ScheduleConfig, steps: int, begin: int) -> Table:
    """Slot 1 keeps the last corrected latents, slots 2 to 4 the last clean images."""
    timesteps, sigmas = _levels(config, steps)
    walk, (x, last, *remembered) = Steps(), slots()
    order = 1
    for index in range(begin, steps):
        clean = clean_estimate(config, *mixed(config, sigmas[index]))
        corrected = x
        if index > begin and index - 1 not in config.disable_corrector:
            corrected = _correct(config, sigmas, index, order, [last, clean, *remembered])
        order = _order(config, sigmas, index, begin)
        new = _predict(config, sigmas, index, order, [corrected, clean, *remembered])
        walk.add(
            np.trunc(timesteps[index]),
            [new, corrected, clean, *remembered[:2]],
            clean,
            mixed(config, sigmas[index]),
        )
    return walk.table()


def _levels(config: ScheduleConfig, steps: int) -> tuple[Floats, Floats]:
    ends = config.final_sigmas_type == "sigma_min"
    if config.use_flow_sigmas and not config.respaced:
        flow = np.linspace(1, 1 / config.num_train_timesteps, steps + 1)[:-1]
        flow = stretched(config, shifted(config.flow_shift, flow))
        if abs(flow[0] - 1) < _NOISE:
            flow[0] -= _NOISE  # of pure noise there is no logarithm
        return flow_levels(config, flow, flow[-1] if ends else 0.0)
    timesteps, sigmas = solver_levels(config, steps)
    if config.respaced and ends:
        sigmas[-1] = sigmas[-2]
    if config.use_flow_sigmas:
        timesteps = sigmas[:-1] / (1 + sigmas[:-1]) * config.num_train_timesteps
    elif not (config.use_exponential_sigmas or config.use_beta_sigmas):
        timesteps = np.rint(timesteps)
    return timesteps, sigmas


def _order(config: ScheduleConfig, sigmas: Floats, index: int, begin: int) -> int:
    left = len(sigmas) - 1 - index
    if sigmas[index] <= sigmas[index + 1]:
        return 1
    order = min(config.solver_order, index - begin + 1)
    if config.lower_order_final or not sigmas[index + 1]:
        order = min(order, left)
    return usable_order(sigmas, index, order)


def _predict(
    config: ScheduleConfig, sigmas: Floats, index: int, order: int, forms: Sequence[Form]
) -> Form:
    """Latents at the next sigma; ``forms`` are the latents, then clean images, newest first."""
    x, newest, *older = forms
    ratios, weights, scale = _solver(config, sigmas, index, index + 1, order)
    if order == 1:
        solved: Sequence[float] = []
    else:
        solved = [0.5] if order == 2 else _solve(ratios[:-1], weights[:-1])
    bends = [(m - newest) / r for m, r in zip(older, ratios[:-1], strict=False)]
    new = _walk(config, sigmas[index], sigmas[index + 1], x, newest)
    bent = sum((w * bend for w, bend in zip(solved, bends, strict=False)), 0 * x)
    return new - mixed(config, sigmas[index + 1]).signal * scale * bent


def _correct(
    config: ScheduleConfig, sigmas: Floats, index: int, order: int, forms: Sequence[Form]
) -> Form:
    """Latents at this sigma anew, now that their clean image is known.

    ``forms`` are the latents one step ago, the clean image now, then those before, newest first.
    """
    x, now, newest, *older = forms
    ratios, weights, scale = _solver(config, sigmas, index - 1, index, order)
    solved = [0.5] if order == 1 else _solve(ratios, weights)
    bends = [(m - newest) / r for m, r in zip(older, ratios[:-1], strict=False)]
    new = _walk(config, sigmas[index - 1], sigmas[index], x, newest)
    bent = sum((w * bend for w, bend in zip(solved, bends, strict=False)), 0 * x)
    bent = bent + solved[-1] * (now - newest)
    return new - mixed(config, sigmas[index]).signal * scale * bent


def _walk(config: ScheduleConfig, now: float, then: float, x: Form, clean: Form) -> Form:
    """The first-order step from sigma ``now`` to ``then``."""
    start, stop = mixed(config, now), mixed(config, then)
    return stop.noise / start.noise * x - stop.signal * (then / now - 1) * clean


def _solver(
    config: ScheduleConfig, sigmas: Floats, start: int, stop: int, order: int
) -> tuple[list[float], list[float], float]:
    """The steps back over this one [order], the right-hand side [order], and B(h)."""
    shrink = sigmas[stop] / sigmas[start]
    h = -np.log(shrink) if shrink > 0 else np.inf
    if h == 0:
        return [1.0] * order, [0.0] * order, 0.0
    ratios = [float(np.log(sigmas[start] / sigmas[start - i]) / h) for i in range(1, order)]
    # sigma rises backwards: the logarithms above are negative, as the steps back are.
    growth = shrink - 1
    scale = -h if config.solver_type == "bh1" else growth
    phi = growth / -h - 1
    weights, factorial = [], 1
    for power in range(1, order + 1):
        weights.append(float(phi * factorial / scale))
        factorial *= power + 1
        phi = phi / -h - 1 / factorial
    return [*ratios, 1.0], weights, float(scale)


def _solve(ratios: Sequence[float], weights: Sequence[float]) -> Sequence[float]:
    powers = np.vander(np.array(ratios), increasing=True).T
    solved: list[float] = np.linalg.solve(powers, np.array(weights)).tolist()
    return solved
