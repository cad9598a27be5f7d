"""Euler's method for flow matching: latents go straight from noise to image (arXiv 2403.03206)."""

from __future__ import annotations

import numpy as np

from nerite.diffusion.samplers.table import NOISE, OUTPUT, Mix, Steps, Table, slots
from nerite.diffusion.schedule import (
    Floats,
    ScheduleConfig,
    dynamic_shift,
    respaced_sigmas,
    shifted,
    stretched,
)


def flow_euler(config: ScheduleConfig, steps: int, begin: int, tokens: int) -> Table:
    """``tokens`` is the number of the image's patches, by which dynamic shifting goes."""
    sigmas = np.append(_sigmas(config, steps, tokens), 0.0)
    walk, x = Steps(), slots()[0]
    for index in range(begin, steps):
        now, then = float(sigmas[index]), float(sigmas[index + 1])
        clean = x - now * OUTPUT
        new = x + (then - now) * OUTPUT
        if config.stochastic_sampling:
            new = (1 - then) * clean + then * NOISE
        walk.add(now * config.num_train_timesteps, [new], clean, Mix(1 - now, now))
    return walk.table(stochastic=config.stochastic_sampling)


def _sigmas(config: ScheduleConfig, steps: int, tokens: int) -> Floats:
    """float64 [steps], falling from 1 (mostly)."""
    last: Floats | float = 1 / config.num_train_timesteps
    shift = config.shift
    if config.use_dynamic_shifting:
        shift = dynamic_shift(config, tokens)
    else:  # diffusers shifts the end of training, and then what lies between once more
        last = shifted(shift, last)
    sigmas = stretched(config, shifted(shift, np.linspace(1, last, steps)))
    if config.respaced:
        sigmas = respaced_sigmas(config, sigmas[0], sigmas[-1], steps)
    return sigmas
