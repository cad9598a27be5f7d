"""One denoising step for jobs that share a forward: pack their rows, guide, advance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.job import Conditioning, Job
from nerite.diffusion.samplers import advance
from nerite.diffusion.space import Array, Space

Forward = Callable[[Array, Array, Conditioning], Array]
"""(latents [rows, C, h, w], timesteps [rows], conditioning by input name) -> [rows, C, h, w]."""


def denoise(jobs: Sequence[Job], forward: Forward, space: Space) -> None:
    """Move every job one step on with a single call of ``forward``.

    The jobs have equal keys and none is done. Rows of guided jobs come a second time, at the
    end, with the negative conditioning; unguided jobs bring one row per image.
    """
    latents = space.concat([job.latents * float(job.table.input_scales[job.index]) for job in jobs])
    if jobs[0].extra is not None:
        latents = space.concat([latents, space.concat([job.extra for job in jobs])], axis=1)
    timesteps = _per_row(jobs, [job.table.timesteps[job.index] for job in jobs])
    guided = np.flatnonzero(_per_row(jobs, [job.negative is not None for job in jobs]))
    rows = len(latents)
    if len(guided):
        latents = space.concat([latents, latents[space.put(guided)]])
        timesteps = np.concatenate([timesteps, timesteps[guided]])
    output = forward(latents, space.put(timesteps), _conditioning(jobs, space))
    if len(guided):
        output = _guide(jobs, output[:rows], output[rows:], guided, space)
    _advance(jobs, output, space)


def in_fixed_batches(forward: Forward, rows: int, space: Space) -> Forward:
    """``forward`` with always as many rows, the last batch being filled up with its first row.

    A network's bytes for a row depend on the batch's shape, but not on the rows beside it.
    """

    def fixed(latents: Array, timesteps: Array, conditioning: Conditioning) -> Array:
        outputs = []
        for start in range(0, len(latents), rows):
            part = slice(start, start + rows)
            count = len(latents[part])

            def fill(tensor: Array, part: slice = part, missing: int = rows - count) -> Array:
                chosen = tensor[part]
                return space.concat([chosen, *[chosen[:1]] * missing]) if missing else chosen

            filled = {name: fill(tensor) for name, tensor in conditioning.items()}
            outputs.append(forward(fill(latents), fill(timesteps), filled)[:count])
        return space.concat(outputs)

    return fixed


def _per_row(jobs: Sequence[Job], values: Sequence[float]) -> NDArray[np.float64]:
    return np.repeat(np.array(values), [job.rows for job in jobs])


def _conditioning(jobs: Sequence[Job], space: Space) -> Conditioning:
    """Per input name, one row per image and then one per guided image."""
    sides = [(job.rows, job.positive) for job in jobs]
    sides += [(job.rows, job.negative) for job in jobs if job.negative is not None]
    return {
        name: space.concat([row[name] for rows, row in sides for _ in range(rows)])
        for name in jobs[0].positive
    }


def _guide(
    jobs: Sequence[Job], positive: Array, negative: Array, guided: NDArray[np.int64], space: Space
) -> Array:
    """Away from the negative branch, by each row's own scale; unguided rows as they are."""
    scales = _per_row(jobs, [job.params.guidance_scale for job in jobs])[guided]
    scale = space.put(scales.reshape(-1, 1, 1, 1))
    mixed = negative + scale * (positive[space.put(guided)] - negative)
    if len(guided) == len(positive):
        return mixed
    positive[space.put(guided)] = mixed
    return positive


def _advance(jobs: Sequence[Job], outputs: Array, space: Space) -> None:
    matrices = np.concatenate(
        [np.repeat(job.table.matrices[job.index][None], job.rows, axis=0) for job in jobs]
    )
    states = advance(
        space.concat([job.states for job in jobs]),
        outputs,
        _fresh_noise(jobs, space),
        space.put(matrices),
    )
    start = 0
    for job in jobs:
        part = slice(start, start + job.rows)
        if job.wants_clean:
            latents, output = (float(factor) for factor in job.table.clean[job.index])
            job.clean = latents * job.latents + output * outputs[part]
        job.states = states[part]
        job.index += 1
        start += job.rows
        if job.kept is not None:
            _keep(job)


def _keep(job: Job) -> None:
    """Put back what the mask protects, as noisy as the rest of the picture is now."""
    kept, level = job.kept, job.table.levels[job.index]
    assert kept is not None
    noised = level.signal * kept.image + level.noise * kept.noise
    job.states[:, 0] = (1 - kept.mask) * noised + kept.mask * job.latents


def _fresh_noise(jobs: Sequence[Job], space: Space) -> Array:
    """Float32 [rows, C, h, w], each image's own stream; None where no row draws any."""
    if not any(job.table.noisy[job.index] for job in jobs):
        return None
    return space.concat([noise for job in jobs for noise in _draw(job)])


def _draw(job: Job) -> list[Array]:
    if not job.table.noisy[job.index]:
        return [job.latents * 0]
    shape = (1, *job.latents.shape[1:])
    return [generator.normal(shape) for generator in job.generators]
