"""Euler's method over sigmas, plain and ancestral, and Heun's (arXiv 2206.00364, k-diffusion).

Latents grow with sigma here: they are the image plus sigma times noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nerite.diffusion.samplers.table import (
    NOISE,
    OUTPUT,
    Form,
    Mix,
    Steps,
    Table,
    clean_estimate,
    normalised,
    slots,
)
from nerite.diffusion.schedule import (
    Floats,
    ScheduleConfig,
    respaced_sigmas,
    sigmas_at,
    spaced_timesteps,
    timesteps_of,
    training_sigmas,
)


def levels(config: ScheduleConfig, steps: int) -> tuple[Floats, Floats]:
    """Timesteps [steps] and sigmas [steps + 1], the last being where the walk ends."""
    training = training_sigmas(config)
    timesteps = spaced_timesteps(config, steps)
    sigmas = sigmas_at(timesteps, training)
    if config.respaced:
        sigmas = respaced_sigmas(config, sigmas[0], sigmas[-1], steps)
        timesteps = timesteps_of(sigmas, training)
    last = training[0] if config.final_sigmas_type == "sigma_min" else 0.0
    return timesteps, np.append(sigmas, last)


def start(config: ScheduleConfig, sigmas: Floats) -> Steps:
    largest = float(sigmas.max())
    scale = np.hypot(largest, 1) if config.timestep_spacing == "leading" else largest
    return Steps(float(scale))


def estimate(config: ScheduleConfig, sigma: float) -> Form:
    """The clean image, from latents that are the image plus ``sigma`` times noise."""
    latents = slots()[0]
    if config.prediction_type == "v_prediction":
        mix = normalised(sigma)
        return mix.signal**2 * latents - mix.noise * OUTPUT
    return clean_estimate(config, 1.0, sigma)


def input_scale(sigma: float) -> float:
    return float(1 / np.hypot(sigma, 1))


def euler(config: ScheduleConfig, steps: int, begin: int) -> Table:
    return _euler(config, steps, begin, lambda now, then: (then, 0.0))


def euler_ancestral(config: ScheduleConfig, steps: int, begin: int) -> Table:
    """Euler to a lower level, then fresh noise up to the wanted one."""

    def split(now: float, then: float) -> tuple[float, float]:
        up = np.sqrt(then**2 * (now**2 - then**2) / now**2)
        return float(np.sqrt(then**2 - up**2)), float(up)

    return _euler(config, steps, begin, split)


_Split = Callable[[float, float], tuple[float, float]]


def _euler(config: ScheduleConfig, steps: int, begin: int, split: _Split) -> Table:
    """``split`` gives, for the sigmas of a step, the one walked to and the noise added there."""
    timesteps, sigmas = levels(config, steps)
    walk, x = start(config, sigmas), slots()[0]
    for index in range(begin, steps):
        now, then = float(sigmas[index]), float(sigmas[index + 1])
        down, up = split(now, then)
        clean = estimate(config, now)
        new = x + (down - now) * (x - clean) / now + up * NOISE
        walk.add(timesteps[index], [new], clean, Mix(1, now), input_scale(now))
    return walk.table()


def heun(config: ScheduleConfig, steps: int, begin: int) -> Table:
    """Each step but the last is a forward to where Euler leads, and one to correct it.

    Between the two, slot 1 keeps the latents and slot 2 the slope where the step began.
    """
    timesteps, sigmas = levels(config, steps)
    walk, (x, kept, slope) = start(config, sigmas), slots()[:3]
    for index in range(begin, steps):
        now, then = float(sigmas[index]), float(sigmas[index + 1])
        clean = estimate(config, now)
        first = (x - clean) / now
        new = [x + (then - now) * first, x, first]
        walk.add(timesteps[index], new, clean, Mix(1, now), input_scale(now))
        if index + 1 < steps:
            clean = estimate(config, then)
            both = (slope + (x - clean) / then) / 2
            new = [kept + (then - now) * both]
            walk.add(timesteps[index + 1], new, clean, Mix(1, then), input_scale(then))
    return walk.table()
