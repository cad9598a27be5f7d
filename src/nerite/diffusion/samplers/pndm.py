"""PNDM, with Runge-Kutta steps first or without (PLMS), arXiv 2202.09778."""

from __future__ import annotations

import numpy as np

from nerite.diffusion.samplers.table import (
    OUTPUT,
    Form,
    Steps,
    Table,
    at,
    clean_estimate,
    final_alpha,
    slots,
    unit,
)
from nerite.diffusion.schedule import Ints, ScheduleConfig, training_alphas, whole_timesteps

_ADAMS_BASHFORTH = (
    (1.0,),
    (1 / 2, 1 / 2),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


_FIRST = 3  # steps by Runge-Kutta, whose outputs Adams and Bashforth's need
_PARTS = 4  # forwards of each


def pndm(config: ScheduleConfig, steps: int, begin: int) -> Table:
    """Slots 1 to 3 hold the last three outputs, but slot 2 the latents where the first step began,
    which a second forward corrects where there are no Runge-Kutta steps.
    """
    if config.prediction_type == "sample":
        raise ValueError("prediction_type is 'sample': PNDM serves epsilon and v_prediction")
    alphas = training_alphas(config)
    final = final_alpha(config, alphas)
    visits = _visits(config, steps)
    early = 0 if config.skip_prk_steps else _FIRST * _PARTS
    ratio = config.num_train_timesteps // steps
    factors = []
    for count, timestep in enumerate(visits[begin:]):
        start, stop = timestep, timestep - ratio
        if count < early:
            start = visits[count - count % _PARTS]
            stop = timestep - (0 if count % 2 else ratio // 2)
        elif count == 1:
            start, stop = min(timestep + ratio, len(alphas) - 1), timestep
        factors.append(_factors(config, at(alphas, start, final), at(alphas, stop, final)))
    walk = Steps()
    for count, timestep in enumerate(visits[begin:]):
        near = factors[max(0, count - 1)], factors[count], factors[min(count + 1, len(factors) - 1)]
        new = _runge_kutta(count, *near) if count < early else _multistep(count, factors[count])
        mix = unit(at(alphas, timestep, final))
        walk.add(timestep, new, clean_estimate(config, *mix), mix)
    return walk.table()


def _visits(config: ScheduleConfig, steps: int) -> Ints:
    """The timestep of every forward."""
    spaced = whole_timesteps(config, steps)
    if config.skip_prk_steps:
        return np.concatenate([spaced[:2], spaced[1:]])
    if steps <= _FIRST:
        raise ValueError(f"steps is {steps}: PNDM with Runge-Kutta steps takes at least 4")
    half = config.num_train_timesteps // steps // 2
    pairs = zip(spaced[:_FIRST], spaced[1:], strict=False)
    early = [(now, then + half, then + half, then) for now, then in pairs]
    return np.concatenate([np.ravel(early), spaced[_FIRST:]])


_Factors = tuple[float, float]
"""Of the latents and of the output, whose sum is the latents elsewhere."""


def _factors(config: ScheduleConfig, a: float, b: float) -> _Factors:
    """From cumulated alpha ``a`` to ``b``: eq. 9 of the paper."""
    latents = float(np.sqrt(b / a))
    output = -float((b - a) / (a * np.sqrt(1 - b) + np.sqrt(a * (1 - a) * b)))
    if config.prediction_type == "v_prediction":
        return latents + output * float(np.sqrt(1 - a)), output * float(np.sqrt(a))
    return latents, output


def _runge_kutta(count: int, before: _Factors, now: _Factors, after: _Factors) -> list[Form]:
    """The new slots of forward ``count``; each step's first output is remembered.

    Slot 4 keeps what the step's end needs: the last output, then all but the last one's share.
    Where the step began is told by the latents and the output that led there.
    """
    x, *outputs, kept = slots()
    part = count % _PARTS
    if part == _PARTS - 1:
        return [kept + now[1] / 6 * OUTPUT, *outputs]
    if part == 0:
        return [now[0] * x + now[1] * OUTPUT, OUTPUT, *outputs[:2], OUTPUT]
    origin = (x - before[1] * kept) / before[0]
    new = now[0] * origin + now[1] * OUTPUT
    if part == 1:
        return [new, *outputs, OUTPUT]
    slope = outputs[0] / 6 + kept / 3 + OUTPUT / 3
    return [new, *outputs, after[0] * origin + after[1] * slope]


def _multistep(count: int, factors: _Factors) -> list[Form]:
    """The new slots of forward ``count``."""
    x, *outputs = slots()[:4]
    origin = outputs[1] if count == 1 else x
    weights = _ADAMS_BASHFORTH[min(count, 4)]
    slope = sum(w * form for w, form in zip(weights, [OUTPUT, *outputs], strict=False))
    new = factors[0] * origin + factors[1] * slope
    if count == 1:  # a correction: its output is used here and not remembered
        return [new, outputs[0]]
    return [new, OUTPUT, x if count == 0 else outputs[0], outputs[1] if count > 1 else 0 * x]
