"""DPM-Solver++ of order 1 to 3 (multistep), arXiv 2211.01095, and its SDE variant."""

from __future__ import annotations

import numpy as np

from nerite.diffusion.samplers.table import (
    NOISE,
    Form,
    Steps,
    Table,
    clean_estimate,
    mixed,
    slots,
)
from nerite.diffusion.schedule import (
    Floats,
    ScheduleConfig,
    flow_levels,
    shifted,
    solver_levels,
    training_sigmas,
    usable_order,
)


def dpm_solver(config: ScheduleConfig, steps: int, begin: int) -> Table:
    """Slots 1 and 2 remember the clean images estimated one and two steps ago."""
    timesteps, sigmas = _levels(config, steps)
    stochastic = config.algorithm_type.startswith("sde")
    walk, (_, first, second) = Steps(), slots()[:3]
    for index in range(begin, steps):
        clean = clean_estimate(config, *mixed(config, sigmas[index]))
        order = _order(config, sigmas, index, begin)
        new = _step(config, sigmas, index, (clean, first, second)[:order])
        # diffusers hands whole timesteps to the network, whatever the sigmas.
        walk.add(
            np.trunc(timesteps[index]), [new, clean, first], clean, mixed(config, sigmas[index])
        )
    return walk.table(stochastic=stochastic)


def _levels(config: ScheduleConfig, steps: int) -> tuple[Floats, Floats]:
    if config.use_flow_sigmas:
        if config.respaced or config.use_lu_lambdas:
            raise ValueError("use_flow_sigmas excludes other ways to space sigmas")
        rising = 1 - np.linspace(1, 1 / config.num_train_timesteps, steps + 1)
        last = training_sigmas(config)[0] if config.final_sigmas_type == "sigma_min" else 0.0
        return flow_levels(config, shifted(config.flow_shift, rising)[:0:-1], last)
    timesteps, sigmas = solver_levels(config, steps)
    fractions = config.use_exponential_sigmas or config.use_beta_sigmas
    if not fractions and config.beta_schedule != "squaredcos_cap_v2":
        timesteps = np.rint(timesteps)
    return timesteps, sigmas


def _order(config: ScheduleConfig, sigmas: Floats, index: int, begin: int) -> int:
    steps = len(sigmas) - 1
    few = config.lower_order_final and steps < 15
    order = min(config.solver_order, index - begin + 1)
    if index == steps - 1 and (config.euler_at_final or few or config.final_sigmas_type == "zero"):
        return 1
    if index == steps - 2 and few:
        order = min(order, 2)
    return usable_order(sigmas, index, order)


def _step(config: ScheduleConfig, sigmas: Floats, index: int, clean: tuple[Form, ...]) -> Form:
    """The next latents; ``clean`` images, newest first, are as many as the order.

    With h the step in log signal over noise, exp(-h) is the ratio of the sigmas, which stays
    finite where the walk ends at 0.
    """
    now, then = sigmas[index], sigmas[index + 1]
    signal, noise = mixed(config, then)
    stochastic = config.algorithm_type.startswith("sde")
    shrink = (then / now) ** (2 if stochastic else 1)
    h = -np.log(shrink) if shrink > 0 else np.inf
    x = slots()[0]
    kept = noise / mixed(config, now).noise * ((then / now) if stochastic else 1.0)
    new = kept * x + signal * (1 - shrink) * clean[0]
    if stochastic:
        new = new + noise * np.sqrt(1 - shrink) * NOISE
    if len(clean) == 1 or h == 0:
        return new
    step = np.log(now / then)
    slope = (clean[0] - clean[1]) * (step / np.log(sigmas[index - 1] / now))
    bend = 1 + (shrink - 1) / h
    if len(clean) == 2:
        weight = (1 - shrink) / 2 if config.solver_type != "heun" else bend
        return new + signal * weight * slope
    older = (clean[1] - clean[2]) * (step / np.log(sigmas[index - 2] / sigmas[index - 1]))
    r0 = np.log(sigmas[index - 1] / now) / step
    r1 = np.log(sigmas[index - 2] / sigmas[index - 1]) / step
    first = slope + r0 / (r0 + r1) * (slope - older)
    second = (slope - older) / (r0 + r1)
    curve = (shrink - 1 + h) / h**2 + (0.5 if stochastic else -0.5)
    return new + signal * (bend * first - curve * second)
