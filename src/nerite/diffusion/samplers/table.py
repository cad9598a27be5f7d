"""Samplers as tables of coefficients: built once per request, applied to all rows at once.

Every sampler here is linear in the latents, the network's output, a few remembered tensors and
fresh noise. So one step of any of them is a small matrix, and one batched product advances rows
that use different samplers, step counts and positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.schedule import Floats, ScheduleConfig

SLOTS = 5
"""Tensors a row carries from step to step: its latents first, then what the sampler remembers."""

Form = Any
"""What a tensor is made of: float64 [SLOTS + 2], its parts of the slots, the output, the noise."""

_BASIS = np.eye(SLOTS + 2)
OUTPUT: Form = _BASIS[SLOTS]
NOISE: Form = _BASIS[SLOTS + 1]


def slots() -> tuple[Form, ...]:
    """The slots as forms, so that a sampler is written as its recurrence: x, first, second, ..."""
    return tuple(_BASIS[:SLOTS])


class Mix(NamedTuple):
    """How much of the clean image and of noise latents are made of."""

    signal: float
    noise: float


@dataclass(frozen=True, slots=True)
class Table:
    """A sampler with its steps laid out, one entry per forward.

    ``timesteps`` float64 [n] go to the network and ``input_scales`` float32 [n] multiply its
    input. ``matrices`` is float32 [n, SLOTS, SLOTS + 2]: the new slots from the columns (slots,
    network output, noise); step i draws noise where ``noisy[i]``. ``clean`` float32 [n, 2] makes
    an estimate of the clean latents from (latents, output) of a step. ``levels`` has n + 1
    entries: what an image's latents at the beginning of step i, and at last, are mixed from.
    The first latents without an image are noise times ``initial_scale``.
    """

    timesteps: Floats
    input_scales: NDArray[np.float32]
    matrices: NDArray[np.float32]
    clean: NDArray[np.float32]
    noisy: NDArray[np.bool_]
    levels: tuple[Mix, ...]
    initial_scale: float = 1.0

    @property
    def steps(self) -> int:
        return len(self.timesteps)


class Steps:
    """Collects a Table step by step."""

    def __init__(self, initial_scale: float = 1.0) -> None:
        self._initial_scale = initial_scale
        self._rows: list[tuple[float, float, Floats, Form, Mix]] = []

    def add(
        self,
        timestep: float | np.int64,
        new: Sequence[Form],
        clean: Form,
        level: Mix,
        input_scale: float = 1.0,
    ) -> None:
        """One forward: the ``new`` slots, latents first; ``clean`` is the estimated image."""
        matrix = np.zeros((SLOTS, SLOTS + 2))
        matrix[: len(new)] = new
        self._rows.append((float(timestep), input_scale, matrix, clean[[0, SLOTS]], level))

    def table(self, *, stochastic: bool = False) -> Table:
        """A ``stochastic`` sampler draws noise at every step, used or not."""
        timesteps, scales, matrices, clean, levels = zip(*self._rows, strict=True)
        stacked = np.stack(matrices)
        noisy = np.logical_or(stacked[:, :, SLOTS + 1].any(axis=1), stochastic)
        return Table(
            np.array(timesteps),
            np.array(scales, np.float32),
            stacked.astype(np.float32),
            np.stack(clean).astype(np.float32),
            noisy,
            (*levels, Mix(1, 0)),
            self._initial_scale,
        )


def advance(states: Any, outputs: Any, noise: Any, matrices: Any) -> Any:
    """The rows' states one step later, numpy's or torch's.

    ``states`` is float32 [rows, SLOTS, ...], ``outputs`` and ``noise`` [rows, ...], the latter
    None where no row draws any, ``matrices`` [rows, SLOTS, SLOTS + 2]. A row's result does not
    depend on the rows beside it.
    """
    rows = len(states)
    columns = states.reshape(rows, SLOTS, -1)
    moved = matrices[:, :, SLOTS : SLOTS + 1] * outputs.reshape(rows, 1, -1)
    for slot in range(SLOTS):  # a batched product's bits would depend on the batch
        moved = moved + matrices[:, :, slot : slot + 1] * columns[:, slot : slot + 1]
    if noise is not None:
        moved = moved + matrices[:, :, SLOTS + 1 :] * noise.reshape(rows, 1, -1)
    return moved.reshape(states.shape)


def clean_estimate(config: ScheduleConfig, signal: float, noise: float) -> Form:
    """The clean image, seen from latents that are ``signal`` of it and ``noise`` of noise."""
    latents = _BASIS[0]
    if config.prediction_type == "sample":
        return OUTPUT
    if config.prediction_type == "v_prediction":
        return signal * latents - noise * OUTPUT
    if config.prediction_type == "flow_prediction":
        return latents - noise * OUTPUT
    if signal == 0:
        raise ValueError("rescale_betas_zero_snr is served with v_prediction only by this sampler")
    return (latents - noise * OUTPUT) / signal


def unit(alpha: float) -> Mix:
    """Latents of unit variance, ``alpha`` of which is signal."""
    return Mix(float(np.sqrt(alpha)), float(np.sqrt(1 - alpha)))


def normalised(sigma: float) -> Mix:
    """Latents of unit variance with ``sigma`` as much noise as signal."""
    return Mix(float(1 / np.hypot(sigma, 1)), float(sigma / np.hypot(sigma, 1)))


def mixed(config: ScheduleConfig, sigma: float) -> Mix:
    """Latents with ``sigma`` as much noise as signal, as the model is used to them."""
    if config.use_flow_sigmas:
        return Mix(float(1 / (1 + sigma)), float(sigma / (1 + sigma)))
    return normalised(sigma)


def at(alphas: Floats, timestep: int | np.int64, final: float) -> float:
    """The cumulated alpha at ``timestep``, ``final`` before the first."""
    return float(alphas[timestep]) if timestep >= 0 else final


def final_alpha(config: ScheduleConfig, alphas: Floats) -> float:
    return 1.0 if config.set_alpha_to_one else float(alphas[0])
