"""Latent consistency models: jump to the clean image, add noise for the next (2310.04378)."""

from __future__ import annotations

import numpy as np

from nerite.diffusion.samplers.table import NOISE, Steps, Table, clean_estimate, slots, unit
from nerite.diffusion.schedule import Ints, ScheduleConfig, training_alphas

_SIGMA_DATA = 0.5


def lcm(config: ScheduleConfig, steps: int, begin: int) -> Table:
    alphas = training_alphas(config)
    timesteps = _timesteps(config, steps)
    walk, x = Steps(), slots()[0]
    for index in range(begin, steps):
        now = float(alphas[timesteps[index]])
        clean = clean_estimate(config, *unit(now))
        scaled = timesteps[index] * config.timestep_scaling
        total = scaled**2 + _SIGMA_DATA**2
        new = scaled / np.sqrt(total) * clean + _SIGMA_DATA**2 / total * x
        if index + 1 < steps:
            then = unit(float(alphas[timesteps[index + 1]]))
            new = then.signal * new + then.noise * NOISE
        walk.add(timesteps[index], [new], clean, unit(now))
    return walk.table()


def _timesteps(config: ScheduleConfig, steps: int) -> Ints:
    """Evenly out of those that the model was distilled on."""
    original = config.original_inference_steps
    if steps > original:
        raise ValueError(f"steps is {steps}: the lcm sampler takes at most {original}")
    distilled = np.arange(1, original + 1) * (config.num_train_timesteps // original) - 1
    chosen = np.floor(np.linspace(0, original, steps, endpoint=False)).astype(np.int64)
    return distilled[::-1][chosen]
