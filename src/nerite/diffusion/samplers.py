"""Samplers as tables of coefficients: built once per request, applied to all rows at once.

Every sampler here is linear in the latents, the network's output, a few remembered tensors and
fresh noise. So one step of any of them is a small matrix, and one batched product advances rows
that use different samplers, step counts and positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion import schedule
from nerite.diffusion.schedule import Floats, Ints, ScheduleConfig

SLOTS = 4
"""Tensors a row carries from step to step: its latents first, then what the sampler remembers."""

_OUTPUT, _NOISE = SLOTS, SLOTS + 1


@dataclass(frozen=True, slots=True)
class Table:
    """A sampler with its steps laid out, one entry per forward.

    ``timesteps`` float64 [n] go to the network and ``input_scales`` float32 [n] multiply its
    input; the first latents are noise times ``initial_scale``. ``matrices`` is float32
    [n, SLOTS, SLOTS + 2]: the new slots from the columns (slots, network output, noise).
    """

    timesteps: Floats
    input_scales: NDArray[np.float32]
    matrices: NDArray[np.float32]
    initial_scale: float = 1.0

    def noisy(self, index: int) -> bool:
        """Whether step ``index`` adds fresh noise."""
        return bool(self.matrices[index, :, _NOISE].any())


def advance(
    states: NDArray[np.float32],
    outputs: NDArray[np.float32],
    noise: NDArray[np.float32],
    matrices: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The rows' states one step later.

    ``states`` is float32 [rows, SLOTS, ...], ``outputs`` and ``noise`` [rows, ...], ``matrices``
    [rows, SLOTS, SLOTS + 2]. A row's result does not depend on the rows beside it.
    """
    rows = len(states)
    columns = np.concatenate(
        [states.reshape(rows, SLOTS, -1), outputs.reshape(rows, 1, -1), noise.reshape(rows, 1, -1)],
        axis=1,
    )
    moved: NDArray[np.float32] = (matrices @ columns).reshape(states.shape)
    return moved


def build_table(options: Mapping[str, Any], steps: int, scheduler: str | None = None) -> Table:
    """The table of ``steps`` steps for a ``scheduler_config.json`` read into ``options``.

    ``scheduler`` replaces the folder's own class as diffusers' ``from_config`` does: options that
    the JSON states are kept, the rest are the new class's defaults. Raises ValueError for a name
    that is not known or an option that cannot be served.
    """
    name = str(options.get("_class_name", "")) if scheduler is None else scheduler
    kind, overrides = _find(name)
    config = ScheduleConfig.read({**_KINDS[kind][1], **options, **overrides})
    return _KINDS[kind][0](config, steps)


def _find(name: str) -> tuple[str, Mapping[str, Any]]:
    word = name.strip().lower().replace("-", "_").replace(" ", "_").removesuffix("scheduler")
    if word not in _NAMES:
        raise ValueError(f"unknown scheduler {name[:60]!r}; known: {', '.join(KNOWN_SCHEDULERS)}")
    return _NAMES[word]


def _table(
    timesteps: Floats | Ints,
    matrices: Floats,
    input_scales: Floats | None = None,
    initial_scale: float = 1.0,
) -> Table:
    scales = np.ones(len(timesteps)) if input_scales is None else input_scales
    return Table(
        np.asarray(timesteps, np.float64),
        scales.astype(np.float32),
        matrices.astype(np.float32),
        initial_scale,
    )


def _blank(steps: int) -> Floats:
    return np.zeros((steps, SLOTS, SLOTS + 2))


def _clean_estimate(config: ScheduleConfig, alpha: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """(p, q) with clean image = p * latents + q * output, where latents keep unit variance."""
    if config.prediction_type == "epsilon":
        return 1 / alpha, -sigma / alpha
    return alpha, -sigma


def _noise_estimate(config: ScheduleConfig, alpha: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """(p, q) with noise = p * latents + q * output, where latents keep unit variance."""
    if config.prediction_type == "epsilon":
        return np.zeros_like(alpha), np.ones_like(alpha)
    return sigma, alpha


def _ddim(config: ScheduleConfig, steps: int) -> Table:
    """DDIM with eta 0, eq. 12 of arXiv 2010.02502."""
    alphas = schedule.training_alphas(config)
    final = 1.0 if config.set_alpha_to_one else alphas[0]
    timesteps = schedule.whole_timesteps(config, steps)
    previous = timesteps - config.num_train_timesteps // steps
    now, then = alphas[timesteps], np.where(previous >= 0, alphas[previous], final)
    clean = _clean_estimate(config, np.sqrt(now), np.sqrt(1 - now))
    noise = _noise_estimate(config, np.sqrt(now), np.sqrt(1 - now))
    matrices = _blank(steps)
    matrices[:, 0, 0] = np.sqrt(then) * clean[0] + np.sqrt(1 - then) * noise[0]
    matrices[:, 0, _OUTPUT] = np.sqrt(then) * clean[1] + np.sqrt(1 - then) * noise[1]
    return _table(timesteps, matrices)


def _euler_levels(config: ScheduleConfig, steps: int) -> tuple[Floats, Floats]:
    """Timesteps [steps] and sigmas [steps + 1], the last being where the walk ends."""
    training = schedule.training_sigmas(config)
    timesteps = schedule.spaced_timesteps(config, steps)
    sigmas = schedule.sigmas_at(timesteps, training)
    if config.use_karras_sigmas:
        sigmas = schedule.karras_sigmas(sigmas[0], sigmas[-1], steps)
        timesteps = schedule.timesteps_of(sigmas, training)
    last = training[0] if config.final_sigmas_type == "sigma_min" else 0.0
    return timesteps, np.append(sigmas, last)


def _slope(config: ScheduleConfig, sigma: Floats) -> tuple[Floats, Floats]:
    """(p, q) with d latents / d sigma = p * latents + q * output, latents growing with sigma."""
    if config.prediction_type == "epsilon":
        return np.zeros_like(sigma), np.ones_like(sigma)
    return sigma / (sigma**2 + 1), 1 / np.sqrt(sigma**2 + 1)


def _euler_table(config: ScheduleConfig, timesteps: Floats, sigmas: Floats, to: Floats) -> Table:
    """Euler's method from each of ``sigmas`` [steps] down to ``to`` [steps]."""
    slope, matrices = _slope(config, sigmas), _blank(len(sigmas))
    matrices[:, 0, 0] = 1 + (to - sigmas) * slope[0]
    matrices[:, 0, _OUTPUT] = (to - sigmas) * slope[1]
    largest = float(sigmas.max())
    initial = np.hypot(largest, 1) if config.timestep_spacing == "leading" else largest
    return _table(timesteps, matrices, 1 / np.sqrt(sigmas**2 + 1), float(initial))


def _euler(config: ScheduleConfig, steps: int) -> Table:
    """Algorithm 2 of arXiv 2206.00364 without its churn."""
    timesteps, sigmas = _euler_levels(config, steps)
    return _euler_table(config, timesteps, sigmas[:-1], sigmas[1:])


def _euler_ancestral(config: ScheduleConfig, steps: int) -> Table:
    """Euler to a lower level, then fresh noise up to the wanted one (k-diffusion)."""
    timesteps, sigmas = _euler_levels(config, steps)
    now, then = sigmas[:-1], sigmas[1:]
    up = np.sqrt(then**2 * (now**2 - then**2) / now**2)
    table = _euler_table(config, timesteps, now, np.sqrt(then**2 - up**2))
    table.matrices[:, 0, _NOISE] = up
    return table


def _dpm_levels(config: ScheduleConfig, steps: int) -> tuple[Floats, Floats]:
    """As ``_euler_levels``, with the roundings of DPM-Solver in diffusers."""
    training = schedule.training_sigmas(config)
    spare = 0 if config.timestep_spacing == "trailing" else 1
    timesteps: Floats = schedule.whole_timesteps(config, steps, spare=spare).astype(np.float64)
    sigmas = schedule.sigmas_at(timesteps, training)
    if config.use_karras_sigmas:
        sigmas = schedule.karras_sigmas(training[-1], training[0], steps)
        timesteps = np.rint(schedule.timesteps_of(sigmas, training))
    last = training[0] if config.final_sigmas_type == "sigma_min" else 0.0
    return timesteps, np.append(sigmas, last)


def _dpm_solver(config: ScheduleConfig, steps: int) -> Table:
    """DPM-Solver++ of order 1 or 2 (multistep, midpoint), arXiv 2211.01095.

    Slot 1 remembers the clean image estimated one step ago. With h the step in log signal over
    noise, exp(-h) is the ratio of the sigmas, which stays finite where the walk ends at 0.
    """
    timesteps, levels = _dpm_levels(config, steps)
    now, then = levels[:-1], levels[1:]
    alpha, alpha_then = 1 / np.hypot(now, 1), 1 / np.hypot(then, 1)
    first = alpha_then * (1 - then / now)
    second = _second_order(config, levels) * first / 2
    clean = _clean_estimate(config, alpha, now * alpha)
    matrices = _blank(steps)
    matrices[:, 0, 0] = (then * alpha_then) / (now * alpha) + (first + second) * clean[0]
    matrices[:, 0, _OUTPUT] = (first + second) * clean[1]
    matrices[:, 0, 1] = -second
    matrices[:, 1, 0], matrices[:, 1, _OUTPUT] = clean
    return _table(timesteps, matrices)


def _second_order(config: ScheduleConfig, levels: Floats) -> Floats:
    """This step's length over the last one's, 0 where a step is of first order, [steps]."""
    steps = len(levels) - 1
    ratios = np.zeros(steps)
    ends_early = (
        config.euler_at_final
        or config.final_sigmas_type == "zero"
        or (config.lower_order_final and steps < 15)
    )
    for index in range(1, steps - 1 if ends_early else steps):
        last = np.log(levels[index - 1] / levels[index])
        # Many steps can round to one timestep; nothing was learnt between the two.
        if config.solver_order == 2 and last > 0:
            ratios[index] = np.log(levels[index] / levels[index + 1]) / last
    return ratios


def _pndm(config: ScheduleConfig, steps: int) -> Table:
    """PLMS: Adams-Bashforth over the outputs, eq. 9 and 12 of arXiv 2202.09778.

    The second timestep is visited twice: the second forward there corrects the first step, from
    the latents where it began (slot 2 keeps them). Slots 1 to 3 else hold the last three outputs.
    """
    if not config.skip_prk_steps:
        raise ValueError("skip_prk_steps is false: only PNDM without Runge-Kutta steps is served")
    alphas = schedule.training_alphas(config)
    visits = schedule.whole_timesteps(config, steps)
    timesteps = np.concatenate([visits[:2], visits[1:]])
    ratio = config.num_train_timesteps // steps
    start, stop = timesteps.copy(), timesteps - ratio
    start[1:2], stop[1:2] = np.minimum(timesteps[1:2] + ratio, len(alphas) - 1), timesteps[1:2]
    a = alphas[start]
    b = np.where(stop >= 0, alphas[stop], 1.0 if config.set_alpha_to_one else alphas[0])
    output = (a - b) / (a * np.sqrt(1 - b) + np.sqrt(a * (1 - a) * b))
    noise = _noise_estimate(config, np.sqrt(a), np.sqrt(1 - a))
    matrices = _blank(len(timesteps))
    for index, matrix in enumerate(matrices):
        _multistep(matrix, index, output[index] * noise[1][index])
        matrix[0, 2 if index == 1 else 0] += np.sqrt(b / a)[index] + (output * noise[0])[index]
    return _table(timesteps, matrices)


_ADAMS_BASHFORTH = (
    (1.0,),
    (1 / 2, 1 / 2),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def _multistep(matrix: Floats, index: int, scale: float) -> None:
    """Fill in the outputs' weights and what the slots remember after step ``index``."""
    weights = _ADAMS_BASHFORTH[min(index, 4)]
    matrix[0, _OUTPUT] = scale * weights[0]
    matrix[0, 1 : len(weights)] = scale * np.array(weights[1:])
    if index == 1:  # a correction: its output is used here and not remembered
        matrix[1, 1] = 1
        return
    matrix[1, _OUTPUT] = 1
    matrix[2, 0 if index == 0 else 1] = 1
    matrix[3, 2] = float(index > 1)


_KINDS: Mapping[str, tuple[Callable[[ScheduleConfig, int], Table], Mapping[str, Any]]] = {
    "DDIMScheduler": (_ddim, {"timestep_spacing": "leading", "set_alpha_to_one": True}),
    "EulerDiscreteScheduler": (_euler, {}),
    "EulerAncestralDiscreteScheduler": (_euler_ancestral, {}),
    "DPMSolverMultistepScheduler": (_dpm_solver, {}),
    "PNDMScheduler": (_pndm, {"timestep_spacing": "leading"}),
}
_DPM = ("DPMSolverMultistepScheduler", {"solver_order": 2, "use_karras_sigmas": False})
_KARRAS = ("DPMSolverMultistepScheduler", {"solver_order": 2, "use_karras_sigmas": True})
_NAMES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{kind.removesuffix("Scheduler").lower(): (kind, {}) for kind in _KINDS},
    "plms": ("PNDMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "eulera": ("EulerAncestralDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "dpm": _DPM,
    "dpm++": _DPM,
    "dpm++_2m": _DPM,
    "dpmpp_2m": _DPM,
    "dpm++_2m_karras": _KARRAS,
    "dpmpp_2m_karras": _KARRAS,
}

KNOWN_SCHEDULERS = ("ddim", "euler", "euler_a", "dpm++_2m", "dpm++_2m_karras", "pndm", *_KINDS)
"""The names to offer; other spellings of them are understood too."""
