"""What a ``scheduler_config.json`` says: the noise levels of training and which of them to visit.

Read by samplers/, which turns it into tables of coefficients. diffusers' schedulers define the
meaning of every option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.quantiles import beta_quantiles

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_KARRAS_RHO = 7.0
_BETA = 0.6  # both parameters of the distribution
_WAYS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
# The signal that is left at the last step of training, where it was rescaled to none: a sigma
# of 4096, as diffusers has it.
_ALMOST_NO_SIGNAL = 2.0**-24
_CHOICES: dict[str, tuple[object, ...]] = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample", "flow_prediction"),
    "timestep_spacing": ("leading", "trailing", "linspace"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "solver_order": (1, 2, 3),
    "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
    "solver_type": ("midpoint", "heun", "bh1", "bh2", "logrho"),
    "time_shift_type": ("exponential", "linear"),
    # Read by nobody here: another value would need a sampler that we do not have.
    "clip_sample": (False,),
    "thresholding": (False,),
    "invert_sigmas": (False,),
    "predict_x0": (True,),
    "solver_p": (),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large"),
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
    rescale_betas_zero_snr: bool = False
    prediction_type: str = "epsilon"
    timestep_spacing: str = "linspace"
    steps_offset: int = 0
    set_alpha_to_one: bool = False
    skip_prk_steps: bool = False
    variance_type: str = "fixed_small"
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False
    use_beta_sigmas: bool = False
    use_lu_lambdas: bool = False
    use_flow_sigmas: bool = False
    flow_shift: float = 1.0
    sigma_min: float | None = None
    sigma_max: float | None = None
    final_sigmas_type: str = "zero"
    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    solver_order: int = 2
    lower_order_final: bool = True
    euler_at_final: bool = False
    disable_corrector: tuple[int, ...] = ()
    original_inference_steps: int = 50
    timestep_scaling: float = 10.0
    shift: float = 1.0
    shift_terminal: float | None = None
    use_dynamic_shifting: bool = False
    time_shift_type: str = "exponential"
    base_shift: float = 0.5
    max_shift: float = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096
    stochastic_sampling: bool = False

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
        for name in ("trained_betas", "disable_corrector"):
            if name in chosen:
                chosen[name] = tuple(chosen[name])
        config = cls(**chosen)
        chosen_ways = [name for name in _WAYS if getattr(config, name)]
        if len(chosen_ways) > 1:
            raise ValueError(f"{' and '.join(chosen_ways)} exclude each other")
        return config

    @property
    def respaced(self) -> bool:
        """Whether sigmas go their own way, whatever the timesteps."""
        return any(getattr(self, name) for name in _WAYS)


def training_alphas(config: ScheduleConfig, *, last: float = 0.0) -> Floats:
    """Cumulated alphas of the training steps, [num_train_timesteps], falling.

    Rounded to float32 where diffusers rounds: its Karras timesteps are whole numbers, and half
    of a last bit can move one of them. ``last`` is put at the end where training was rescaled to
    end without signal.
    """
    betas = _betas(config)
    if not config.rescale_betas_zero_snr:
        return _cumulated(np.float32(1) - betas)
    roots = np.sqrt(_cumulated(np.float32(1) - betas).astype(np.float32))
    first = roots[0]
    roots = (roots - roots[-1]) * (first / (first - roots[-1]))
    bars = roots**2
    betas = np.float32(1) - np.concatenate([bars[:1], bars[1:] / bars[:-1]])
    alphas = _cumulated(np.float32(1) - betas)
    alphas[-1] = last or alphas[-1]
    return alphas


def _betas(config: ScheduleConfig) -> NDArray[np.float32]:
    count, start, end = config.num_train_timesteps, config.beta_start, config.beta_end
    if config.trained_betas:
        return np.array(config.trained_betas, np.float32)
    if config.beta_schedule == "linear":
        return np.linspace(start, end, count, dtype=np.float32)
    if config.beta_schedule == "scaled_linear":
        squares: NDArray[np.float32]
        squares = np.linspace(start**0.5, end**0.5, count, dtype=np.float32) ** 2
        return squares
    cosine = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
    betas: NDArray[np.float32]
    betas = np.minimum(1 - cosine[1:] / cosine[:-1], 0.999).astype(np.float32)
    return betas


def _cumulated(alphas: NDArray[np.float32]) -> Floats:
    return np.cumprod(alphas, dtype=np.float64).astype(np.float32).astype(np.float64)


def training_sigmas(config: ScheduleConfig) -> Floats:
    """Noise over signal of the training steps, [num_train_timesteps], rising."""
    alphas = training_alphas(config, last=_ALMOST_NO_SIGNAL).astype(np.float32)
    sigmas: Floats = np.sqrt((np.float32(1) - alphas) / alphas).astype(np.float64)
    return sigmas


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


def respaced_sigmas(config: ScheduleConfig, first: float, last: float, steps: int) -> Floats:
    """``steps`` sigmas from ``first`` down to ``last`` as Karras, in equal ratios or by beta.

    sigma_max and sigma_min replace the two where the config names them. Karras' are eq. 5 of
    arXiv 2206.00364 with rho 7; the quantiles of a beta distribution are arXiv 2407.12173.
    """
    start = first if config.sigma_max is None else config.sigma_max
    end = last if config.sigma_min is None else config.sigma_min
    ramp = np.linspace(0, 1, steps)
    if config.use_exponential_sigmas:
        exponential: Floats = np.exp(np.log(start) + ramp * (np.log(end) - np.log(start)))
        return exponential
    if config.use_beta_sigmas:
        return end + beta_quantiles(1 - ramp, _BETA) * (start - end)
    low, high = start ** (1 / _KARRAS_RHO), end ** (1 / _KARRAS_RHO)
    sigmas: Floats = (low + ramp * (high - low)) ** _KARRAS_RHO
    return sigmas


def timesteps_of(sigmas: Floats, training: Floats) -> Floats:
    """Timesteps, with fractions, at which training had ``sigmas``, interpolated in log sigma.

    In float32, as diffusers does, which may cut the fractions off.
    """
    logs = np.log(training.astype(np.float32)).astype(np.float64)
    return np.interp(np.log(sigmas), logs, np.arange(len(training), dtype=np.float64))


def sigmas_at(timesteps: Floats | Ints, training: Floats) -> Floats:
    """Sigmas at ``timesteps``, interpolated and held at the ends."""
    return np.interp(timesteps, np.arange(len(training)), training)


def solver_levels(config: ScheduleConfig, steps: int, *, spare: int = 1) -> tuple[Floats, Floats]:
    """Timesteps [steps] and sigmas [steps + 1] as the multistep solvers of diffusers round them.

    ``spare`` is what they leave out below where timesteps are not trailing.
    """
    training = training_sigmas(config)
    spare = 0 if config.timestep_spacing == "trailing" else spare
    timesteps: Floats = whole_timesteps(config, steps, spare=spare).astype(np.float64)
    sigmas = sigmas_at(timesteps, training)
    if config.respaced:
        sigmas = respaced_sigmas(config, training[-1], training[0], steps)
        timesteps = timesteps_of(sigmas, training)
    elif config.use_lu_lambdas:
        ends = np.log(training[-1]), np.log(training[0])
        sigmas = np.exp(np.linspace(*ends, steps))
        timesteps = timesteps_of(sigmas, training)
    last = training[0] if config.final_sigmas_type == "sigma_min" else 0.0
    return timesteps, np.append(sigmas, last)


def flow_levels(config: ScheduleConfig, flow: Floats, last: float) -> tuple[Floats, Floats]:
    """The same for models of flow matching, whose latents are 1 - ``flow`` of the image.

    The sigmas are noise over signal here too. ``last`` is the flow at which the walk ends.
    """
    # As near to pure noise as diffusers gets: one step nearer would count in the logarithm.
    rounded = np.append(flow, last).astype(np.float32).astype(np.float64)
    return flow * config.num_train_timesteps, rounded / (1 - rounded)


def shifted(shift: float, flow: Floats | float) -> Floats:
    """More time among the noise, for larger pictures (arXiv 2403.03206)."""
    moved: Floats = shift * np.asarray(flow) / (1 + (shift - 1) * np.asarray(flow))
    return moved


def dynamic_shift(config: ScheduleConfig, tokens: int) -> float:
    """The shift for a picture of so many patches, by those of the smallest and the largest one."""
    base, largest = config.base_image_seq_len, config.max_image_seq_len
    slope = (config.max_shift - config.base_shift) / (largest - base)
    mu = config.base_shift + slope * (tokens - base)
    return float(np.exp(mu)) if config.time_shift_type == "exponential" else mu


def stretched(config: ScheduleConfig, flow: Floats) -> Floats:
    """``flow``, ending at ``shift_terminal`` where there is one."""
    left = 1 - flow
    if not config.shift_terminal or not left[-1]:  # one step has no way to stretch
        return flow
    # In the order of diffusers: the last timestep may round either way.
    moved: Floats = 1 - left / (left[-1] / (1 - config.shift_terminal))
    return moved


def usable_order(sigmas: Floats, index: int, order: int) -> int:
    """``order``, or less where the steps before ``index`` that it looks at rounded to one.

    Many steps can share a timestep; nothing was learnt between the two.
    """
    for back in range(1, order):
        if sigmas[index - back] <= sigmas[index - back + 1]:
            return back
    return order
