"""Euler's method for flow matching: latents go straight from noise to image (arXiv 2403.03206)."""

from __future__ import annotations

import numpy as np

from nerite.diffusion.samplers.table import NOISE, OUTPUT, Mix, Steps, Table, slots
from nerite.diffusion.schedule import Floats, ScheduleConfig, respaced_sigmas, shifted


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
    last = 1 / config.num_train_timesteps
    if config.use_dynamic_shifting:
        sigmas = _shifted(config, np.linspace(1, last, steps), _mu(config, tokens))
    else:
        # diffusers shifts the end of training, and then what lies between once more.
        sigmas = shifted(config.shift, np.linspace(1, shifted(config.shift, last), steps))
    if config.shift_terminal:
        left = 1 - sigmas
        sigmas = 1 - left * (1 - config.shift_terminal) / left[-1]
    if config.respaced:
        sigmas = respaced_sigmas(config, sigmas[0], sigmas[-1], steps)
    return sigmas


def _shifted(config: ScheduleConfig, sigmas: Floats, mu: float) -> Floats:
    weight = np.exp(mu) if config.time_shift_type == "exponential" else mu
    shifted: Floats = weight / (weight + (1 / sigmas - 1))
    return shifted


def _mu(config: ScheduleConfig, tokens: int) -> float:
    """On the line through the shifts of the smallest and the largest picture."""
    base, largest = config.base_image_seq_len, config.max_image_seq_len
    slope = (config.max_shift - config.base_shift) / (largest - base)
    return config.base_shift + slope * (tokens - base)
