"""One denoising step for jobs that share a forward: pack their rows, guide, advance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nerite.diffusion.job import Array, Conditioning, Job
from nerite.diffusion.samplers import advance

Forward = Callable[[Array, Array, Conditioning], Array]
"""(latents [rows, C, h, w], timesteps [rows], conditioning by input name) -> [rows, C, h, w]."""


def denoise(jobs: Sequence[Job], forward: Forward) -> None:
    """Move every job one step on with a single call of ``forward``.

    The jobs have equal keys and none is done. Rows of guided jobs come a second time, at the
    end, with the negative conditioning; unguided jobs bring one row per image.
    """
    latents = np.concatenate([job.latents * job.table.input_scales[job.index] for job in jobs])
    timesteps = _per_row(jobs, [job.table.timesteps[job.index] for job in jobs])
    guided = np.flatnonzero(_per_row(jobs, [job.negative is not None for job in jobs]))
    output = forward(
        np.concatenate([latents, latents[guided]]),
        np.concatenate([timesteps, timesteps[guided]]),
        _conditioning(jobs),
    )
    positive, negative = output[: len(latents)], output[len(latents) :]
    scale = _per_row(jobs, [job.params.guidance_scale for job in jobs])[guided]
    scale = scale.astype(np.float32).reshape(-1, 1, 1, 1)
    positive[guided] = negative + scale * (positive[guided] - negative)
    _advance(jobs, positive)


def _per_row(jobs: Sequence[Job], values: Sequence[float]) -> Array:
    return np.repeat(np.array(values), [job.rows for job in jobs])


def _conditioning(jobs: Sequence[Job]) -> Conditioning:
    """Per input name, one row per image and then one per guided image."""
    sides = [(job.rows, job.positive) for job in jobs]
    sides += [(job.rows, job.negative) for job in jobs if job.negative is not None]
    return {
        name: np.concatenate([np.repeat(side[name], rows, axis=0) for rows, side in sides])
        for name in jobs[0].positive
    }


def _advance(jobs: Sequence[Job], outputs: Array) -> None:
    matrices = np.concatenate(
        [np.repeat(job.table.matrices[job.index][None], job.rows, axis=0) for job in jobs]
    )
    states = advance(
        np.concatenate([job.states for job in jobs]),
        outputs,
        np.concatenate([_fresh_noise(job) for job in jobs]),
        matrices,
    )
    start = 0
    for job in jobs:
        job.states = states[start : start + job.rows]
        job.index += 1
        start += job.rows


def _fresh_noise(job: Job) -> Array:
    """Float32 [num_images, C, h, w]; each image's own stream, untouched where none is needed."""
    if not job.table.noisy(job.index):
        return np.zeros(job.latents.shape, np.float32)
    shape = (1, *job.latents.shape[1:])
    return np.concatenate([generator.normal(shape) for generator in job.generators])
