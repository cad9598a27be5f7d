"""PNDM without Runge-Kutta steps (PLMS): Adams-Bashforth over the outputs, arXiv 2202.09778."""

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
from nerite.diffusion.schedule import ScheduleConfig, training_alphas, whole_timesteps

_ADAMS_BASHFORTH = (
    (1.0,),
    (1 / 2, 1 / 2),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def pndm(config: ScheduleConfig, steps: int, begin: int) -> Table:
    """The second timestep is visited twice: its second forward corrects the first step.

    It starts from the latents where that began (slot 2 keeps them). Slots 1 to 3 else hold the
    last three outputs.
    """
    if not config.skip_prk_steps:
        raise ValueError("skip_prk_steps is false: only PNDM without Runge-Kutta steps is served")
    if config.prediction_type == "sample":
        raise ValueError("prediction_type is 'sample': PNDM serves epsilon and v_prediction")
    alphas = training_alphas(config)
    final = final_alpha(config, alphas)
    visits = whole_timesteps(config, steps)
    visits = np.concatenate([visits[:2], visits[1:]])[begin:]
    ratio = config.num_train_timesteps // steps
    walk = Steps()
    for count, timestep in enumerate(visits):
        start, stop = timestep, timestep - ratio
        if count == 1:
            start, stop = min(timestep + ratio, len(alphas) - 1), timestep
        a, b = at(alphas, start, final), at(alphas, stop, final)
        walk.add(
            timestep,
            _slots(config, count, a, b),
            clean_estimate(config, *unit(at(alphas, timestep, final))),
            unit(at(alphas, timestep, final)),
        )
    return walk.table()


def _slots(config: ScheduleConfig, count: int, a: float, b: float) -> list[Form]:
    """The new slots of forward ``count``, from cumulated alpha ``a`` to ``b``."""
    x, *outputs = slots()[:4]
    origin = outputs[1] if count == 1 else x
    weights = _ADAMS_BASHFORTH[min(count, 4)]
    slope = sum(w * form for w, form in zip(weights, [OUTPUT, *outputs], strict=False))
    if config.prediction_type == "v_prediction":
        slope = np.sqrt(a) * slope + np.sqrt(1 - a) * origin
    scale = (b - a) / (a * np.sqrt(1 - b) + np.sqrt(a * (1 - a) * b))
    new = np.sqrt(b / a) * origin - scale * slope
    if count == 1:  # a correction: its output is used here and not remembered
        return [new, outputs[0]]
    return [new, OUTPUT, x if count == 0 else outputs[0], outputs[1] if count > 1 else 0 * x]
