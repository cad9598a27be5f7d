"""How rows are packed into one forward, and that what comes back finds its way."""

import numpy as np
import pytest

from nerite.diffusion import Params
from nerite.diffusion.denoise import denoise
from nerite.diffusion.job import Job
from nerite.diffusion.noise import TorchGenerator
from nerite.diffusion.samplers import SLOTS, build_table
from nerite.diffusion.space import NumpySpace

OPTIONS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def make_job(images, scale, *, scheduler="ddim", steps=4, index=0, seed=0):
    params = Params("", guidance_scale=scale, num_images=images, steps=steps, seed=seed)
    states = np.zeros((images, SLOTS, 2, 3, 3), np.float32)
    states[:, 0] = np.random.default_rng(seed).normal(size=(images, 2, 3, 3))
    context = np.full((1, 5, 6), seed, np.float32)
    return Job(
        params,
        build_table({**OPTIONS, "skip_prk_steps": True}, steps, scheduler),
        states,
        {"context": context},
        {"context": -1 - context} if params.guided else None,
        [TorchGenerator(seed + k) for k in range(images)],
        index=index,
    )


class Forward:
    """Answers each row with its context's number plus a part of the row itself."""

    def __init__(self):
        self.calls = []

    def __call__(self, latents, timesteps, conditioning):
        self.calls.append((latents.copy(), timesteps, conditioning))
        return latents * 0.5 + conditioning["context"][:, :1, :1, None]


def test_guidance_is_packed_as_further_rows_of_the_same_forward():
    jobs = [make_job(2, 7.5, seed=1), make_job(1, 1.0, seed=2), make_job(1, 3.0, seed=3, index=2)]
    latents = [job.latents.copy() for job in jobs]
    expected = [job.table.timesteps[job.index] for job in jobs]
    forward = Forward()
    denoise(jobs, forward, NumpySpace())
    ((sample, timesteps, conditioning),) = forward.calls
    assert conditioning["context"][:, 0, 0].tolist() == [1, 1, 2, 3, -2, -2, -4]
    np.testing.assert_array_equal(timesteps, np.array(expected)[[0, 0, 1, 2, 0, 0, 2]])
    np.testing.assert_array_equal(sample, np.concatenate([*latents, latents[0], latents[2]]))
    assert [job.index for job in jobs] == [1, 1, 3]


def test_unguided_jobs_bring_no_second_branch():
    forward = Forward()
    denoise([make_job(3, 1.0), make_job(1, 0.0)], forward, NumpySpace())
    assert len(forward.calls[0][0]) == 4


@pytest.mark.parametrize("scale", [1.5, 7.5])
def test_the_output_is_guided_and_applied_to_its_own_row(scale):
    job, other = make_job(1, scale, seed=4), make_job(1, 1.0, seed=5)
    before, after_other = job.latents.copy(), other.latents.copy()
    denoise([other, job], Forward(), NumpySpace())
    # Both branches see the same latents, so only their contexts, 4 and -5, are apart.
    output = before * 0.5 - 5 + scale * (4 + 5)
    matrix = job.table.matrices[0, 0]
    np.testing.assert_allclose(job.latents, matrix[0] * before + matrix[SLOTS] * output, rtol=1e-4)
    output = after_other * 0.5 + 5
    expected = matrix[0] * after_other + matrix[SLOTS] * output
    np.testing.assert_allclose(other.latents, expected, rtol=1e-4)


def test_the_networks_input_is_scaled_as_the_sampler_says():
    job, forward = make_job(1, 1.0, scheduler="euler"), Forward()
    before = job.latents.copy()
    assert job.table.input_scales[0] < 0.1
    denoise([job], forward, NumpySpace())
    np.testing.assert_array_equal(forward.calls[0][0], before * job.table.input_scales[0])


def test_each_image_draws_from_its_own_stream_and_only_where_noise_is_due():
    walker, still = make_job(2, 1.0, scheduler="euler_a", seed=9), make_job(1, 1.0, seed=6)
    denoise([walker, still], Forward(), NumpySpace())
    for k, generator in enumerate(walker.generators):
        reference = TorchGenerator(9 + k)
        reference.normal((1, 2, 3, 3))
        assert (generator.normal((32,)) == reference.normal((32,))).all()
    assert (still.generators[0].normal((32,)) == TorchGenerator(6).normal((32,))).all()


def test_jobs_know_what_must_be_equal_to_share_a_forward():
    one, two = make_job(1, 7.5, seed=1), make_job(3, 1.0, steps=9, scheduler="euler_a")
    assert one.key == two.key
    two.positive = {"context": np.zeros((1, 8, 6), np.float32)}
    assert one.key != two.key
