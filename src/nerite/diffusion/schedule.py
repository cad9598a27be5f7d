"""What a ``scheduler_config.json`` says: the noise levels of training and which of them to visit.

Read by samplers.py, which turns it into tables of coefficients. diffusers' schedulers define the
meaning of every option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_KARRAS_RHO = 7.0
_CHOICES: dict[str, tuple[object, ...]] = {
    "beta_schedule": ("linear", "scaled_linear"),
    "prediction_type": ("epsilon", "v_prediction"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "solver_order": (1, 2),
    # Read by nobody here: another value would need a sampler that we do not have.
    "clip_sample": (False,),
    "thresholding": (False,),
    "rescale_betas_zero_snr": (False,),
    "use_exponential_sigmas": (False,),
    "use_beta_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "use_flow_sigmas": (False,),
    "algorithm_type": ("dpmsolver++",),
    "solver_type": ("midpoint",),
    "variance_type": (),
    "sigma_min": (),
    "sigma_max": (),
    "lambda_min_clipped": (float("-inf"),),
    "timestep_type": ("discrete",),
    "interpolation_type": ("linear",),
}


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """The options we read, under diffusers' names; the defaults are those its classes share."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] = ()
    prediction_type: str = "epsilon"
    timestep_spacing: str = "linspace"
    steps_offset: int = 0
    set_alpha_to_one: bool = False
    skip_prk_steps: bool = False
    use_karras_sigmas: bool = False
    final_sigmas_type: str = "zero"
    solver_order: int = 2
    lower_order_final: bool = True
    euler_at_final: bool = False

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> ScheduleConfig:
        """Raises ValueError for an option value that no sampler of ours honours."""
        given = {name: value for name, value in options.items() if value is not None}
        for name, allowed in _CHOICES.items():
            if name in given and given[name] not in allowed:
                known = ", ".join(repr(choice) for choice in allowed) or "null"
                raise ValueError(f"{name} is {given[name]!r}: only {known} can be served")
        known_fields = {field.name for field in fields(cls)}
        chosen = {name: value for name, value in given.items() if name in known_fields}
        if "trained_betas" in chosen:
            chosen["trained_betas"] = tuple(chosen["trained_betas"])
        return cls(**chosen)


def training_alphas(config: ScheduleConfig) -> Floats:
    """Cumulated alphas of the training steps, [num_train_timesteps], falling.

    Rounded to float32 where diffusers rounds: its Karras timesteps are whole numbers, and half
    of a last bit can move one of them.
    """
    count, start, end = config.num_train_timesteps, config.beta_start, config.beta_end
    if config.trained_betas:
        betas = np.array(config.trained_betas, np.float32)
    elif config.beta_schedule == "linear":
        betas = np.linspace(start, end, count, dtype=np.float32)
    else:
        betas = np.linspace(start**0.5, end**0.5, count, dtype=np.float32) ** 2
    alphas = np.float32(1) - betas
    return np.cumprod(alphas, dtype=np.float64).astype(np.float32).astype(np.float64)


def training_sigmas(config: ScheduleConfig) -> Floats:
    """Noise over signal of the training steps, [num_train_timesteps], rising."""
    alphas = training_alphas(config)
    return np.sqrt((1 - alphas) / alphas)


def spaced_timesteps(config: ScheduleConfig, steps: int, *, spare: int = 0) -> Floats:
    """``steps`` timesteps, falling; linspace gives fractions, the other spacings whole numbers.

    ``spare`` counts further timesteps below that the caller's method does not visit. Spacings
    are those of Table 2 in "Common Diffusion Noise Schedules and Sample Steps are Flawed"
    (arXiv 2305.08891), in the rounding of diffusers.
    """
    count = config.num_train_timesteps
    if config.timestep_spacing == "linspace":
        return np.linspace(0, count - 1, steps + spare)[::-1][:steps]
    if config.timestep_spacing == "leading":
        # diffusers has a ratio of 0, and no picture, where steps + spare exceed the training's.
        ratio = max(1, count // (steps + spare))
        rising = np.arange(steps + spare) * ratio + config.steps_offset
        return rising[::-1][:steps].astype(np.float64)
    falling: Floats = np.arange(count, 0, -count / steps)[:steps]
    return np.rint(falling) - 1


def whole_timesteps(config: ScheduleConfig, steps: int, *, spare: int = 0) -> Ints:
    """``spaced_timesteps`` as indexes into the training tables, int64 [steps].

    An offset can point one step past the training (1000 of 1000): diffusers fails there, we
    start from the last one.
    """
    spaced = np.rint(spaced_timesteps(config, steps, spare=spare)).astype(np.int64)
    return np.minimum(spaced, config.num_train_timesteps - 1)


def karras_sigmas(first: float, last: float, steps: int) -> Floats:
    """``steps`` sigmas from ``first`` down to ``last``, eq. 5 of arXiv 2206.00364, rho 7."""
    ramp = np.linspace(0, 1, steps)
    start, end = first ** (1 / _KARRAS_RHO), last ** (1 / _KARRAS_RHO)
    sigmas: Floats = (start + ramp * (end - start)) ** _KARRAS_RHO
    return sigmas


def timesteps_of(sigmas: Floats, training: Floats) -> Floats:
    """Timesteps, with fractions, at which training had ``sigmas``, interpolated in log sigma."""
    return np.interp(np.log(sigmas), np.log(training), np.arange(len(training), dtype=np.float64))


def sigmas_at(timesteps: Floats | Ints, training: Floats) -> Floats:
    """Sigmas at ``timesteps``, interpolated and held at the ends."""
    return np.interp(timesteps, np.arange(len(training)), training)
