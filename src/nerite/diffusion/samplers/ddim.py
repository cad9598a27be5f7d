"""DDIM with eta 0, eq. 12 of arXiv 2010.02502."""

from __future__ import annotations

import numpy as np

from nerite.diffusion.samplers.table import (
    OUTPUT,
    Form,
    Mix,
    Steps,
    Table,
    at,
    clean_estimate,
    final_alpha,
    slots,
    unit,
)
from nerite.diffusion.schedule import ScheduleConfig, training_alphas, whole_timesteps


def ddim(config: ScheduleConfig, steps: int, begin: int) -> Table:
    alphas = training_alphas(config)
    final = final_alpha(config, alphas)
    walk = Steps()
    for timestep in whole_timesteps(config, steps)[begin:]:
        now = at(alphas, timestep, final)
        then = at(alphas, timestep - config.num_train_timesteps // steps, final)
        clean = clean_estimate(config, *unit(now))
        new = np.sqrt(then) * clean + np.sqrt(1 - then) * _noise(config, clean, unit(now))
        walk.add(timestep, [new], clean, unit(now))
    return walk.table()


def _noise(config: ScheduleConfig, clean: Form, mix: Mix) -> Form:
    """The noise in latents of which the clean image is known."""
    if config.prediction_type == "epsilon":
        return OUTPUT
    if config.prediction_type == "v_prediction":
        return mix.signal * OUTPUT + mix.noise * slots()[0]
    noise: Form = (slots()[0] - mix.signal * clean) / mix.noise
    return noise
