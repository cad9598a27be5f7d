"""diffusers' schedulers are the oracle of ours, option by option and step by step."""

import numpy as np
import pytest

from nerite.diffusion.noise import TorchGenerator
from nerite.diffusion.samplers import KNOWN_SCHEDULERS, SLOTS, advance, build_table

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")

SD = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "clip_sample": False,
}
SHAPE = (1, 4, 6, 6)
KINDS = [name for name in KNOWN_SCHEDULERS if name.endswith("Scheduler")]
SPACINGS = ["leading", "trailing", "linspace"]
ODD = {
    "linear betas": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "alpha one": {"set_alpha_to_one": True},
    "no offset": {"steps_offset": 0},
    "short training": {"num_train_timesteps": 400},
    "trained betas": {"trained_betas": [0.001 + 0.00001 * i for i in range(1000)]},
}


def network(sample, timestep):
    """A stand-in that depends on both of its inputs, so that a wrong one shows."""
    return np.tanh(sample * 0.7) * np.cos(timestep / 300) + 0.1 * np.sin(sample * 3 + timestep)


def theirs(options, steps, kind):
    """The latents after every step, as a diffusers pipeline walks them."""
    scheduler = getattr(diffusers, kind).from_config(options)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(SHAPE, generator=generator) * scheduler.init_noise_sigma
    extra = {"generator": generator} if "Ancestral" in kind else {}
    walked, seen = [latents.numpy()], []
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, timestep)
        output = torch.from_numpy(network(scaled.numpy(), timestep.item()).astype(np.float32))
        latents = scheduler.step(output, timestep, latents, **extra).prev_sample
        walked.append(latents.numpy())
        seen.append(timestep.item())
    return walked, seen


def ours(options, steps, scheduler=None):
    table = build_table(options, steps, scheduler)
    generator = TorchGenerator(3)
    states = np.zeros((1, SLOTS, *SHAPE[1:]), np.float32)
    states[:, 0] = generator.normal(SHAPE) * np.float32(table.initial_scale)
    walked = [states[:, 0]]
    for index, timestep in enumerate(table.timesteps):
        sample = states[:, 0] * table.input_scales[index]
        output = network(sample, timestep).astype(np.float32)
        noisy = table.noisy(index)
        noise = generator.normal(SHAPE) if noisy else np.zeros(SHAPE, np.float32)
        states = advance(states, output, noise, table.matrices[index : index + 1])
        walked.append(states[:, 0])
    return walked, list(table.timesteps)


def assert_same_walk(options, steps, kind):
    expected, visited = theirs(options, steps, kind)
    walked, timesteps = ours({**options, "_class_name": kind}, steps)
    np.testing.assert_allclose(timesteps, visited, rtol=0, atol=1e-3)
    assert len(walked) == len(expected)
    for latents, reference in zip(walked, expected, strict=True):
        scale = max(1.0, float(np.abs(reference).max()))
        np.testing.assert_allclose(latents, reference, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_diffusers(kind, spacing, prediction):
    options = {**SD, "timestep_spacing": spacing, "prediction_type": prediction}
    for steps in (1, 2, 3, 4, 7, 14, 15, 20, 33):
        assert_same_walk(options, steps, kind)


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_options_of_training_are_honoured(kind, odd):
    for steps in (3, 20):
        assert_same_walk({**SD, **odd}, steps, kind)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_karras_and_final_sigmas(kind, spacing):
    for extra in (
        {"use_karras_sigmas": True},
        {"final_sigmas_type": "sigma_min"},
        {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
    ):
        for steps in (2, 14, 15, 20):
            assert_same_walk({**SD, "timestep_spacing": spacing, **extra}, steps, kind)


@pytest.mark.parametrize("steps", [5, 14, 20])
def test_options_of_the_dpm_solver(steps):
    for extra in (
        {"solver_order": 1},
        {"lower_order_final": False},
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "euler_at_final": True},
    ):
        assert_same_walk({**SD, **extra}, steps, "DPMSolverMultistepScheduler")


@pytest.mark.parametrize("kind", KINDS)
def test_many_steps_stay_with_diffusers(kind):
    assert_same_walk({**SD, "steps_offset": 0}, 250, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_as_many_steps_as_training_still_give_numbers(kind, spacing):
    # diffusers runs out of its tables here, or divides by zero.
    walked, timesteps = ours({**SD, "_class_name": kind, "timestep_spacing": spacing}, 1000)
    assert np.isfinite(walked[-1]).all()
    assert max(timesteps) <= 1000


@pytest.mark.parametrize("spacing", [None, *SPACINGS])
def test_another_scheduler_reads_the_folders_options_as_from_config_does(spacing):
    options = {**SD, "_class_name": "PNDMScheduler"}
    if spacing:
        options["timestep_spacing"] = spacing
    original = diffusers.PNDMScheduler.from_config(options)
    swapped = diffusers.DPMSolverMultistepScheduler.from_config(
        original.config, use_karras_sigmas=True
    )
    swapped.set_timesteps(12)
    table = build_table(options, 12, "dpm++_2m_karras")
    assert list(table.timesteps) == swapped.timesteps.tolist()


def test_rows_of_different_samplers_do_not_touch_each_other():
    options = {**SD, "_class_name": "PNDMScheduler"}
    tables = [build_table(options, 9, name) for name in ("pndm", "dpm++_2m", "euler_a", "ddim")]
    random = np.random.default_rng(0)
    states = random.normal(size=(4, SLOTS, *SHAPE[1:])).astype(np.float32)
    outputs, noise = random.normal(size=(2, 4, *SHAPE[1:])).astype(np.float32)
    matrices = np.stack([table.matrices[5] for table in tables])
    together = advance(states, outputs, noise, matrices)
    for row in range(4):
        one = slice(row, row + 1)
        alone = advance(states[one], outputs[one], noise[one], matrices[one])
        assert (alone[0] == together[row]).all()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ddim", "DDIMScheduler"),
        ("DDIMScheduler", "DDIMScheduler"),
        ("Euler", "EulerDiscreteScheduler"),
        ("euler a", "EulerAncestralDiscreteScheduler"),
        ("EULER_A", "EulerAncestralDiscreteScheduler"),
        ("eulerancestraldiscretescheduler", "EulerAncestralDiscreteScheduler"),
        ("DPM++ 2M", "DPMSolverMultistepScheduler"),
        ("dpm++-2m", "DPMSolverMultistepScheduler"),
        ("PNDM", "PNDMScheduler"),
    ],
)
def test_names_are_understood_in_many_spellings(name, kind):
    options = {**SD, "_class_name": "PNDMScheduler"}
    by_name, by_class = build_table(options, 6, name), build_table(options, 6, kind)
    assert (by_name.timesteps == by_class.timesteps).all()
    assert (by_name.matrices == by_class.matrices).all()


def test_karras_is_chosen_by_name_alone():
    options = {**SD, "_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}
    plain, karras = build_table(options, 8, "dpm++_2m"), build_table(options, 8, "dpm++_2m_karras")
    assert (plain.timesteps != karras.timesteps).any()
    assert (build_table(options, 8).timesteps == karras.timesteps).all()


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown scheduler 'heun'; known: ddim, euler, .*PNDM"):
        build_table({**SD, "_class_name": "PNDMScheduler"}, 4, "heun")
    with pytest.raises(ValueError, match="unknown scheduler 'UniPCMultistepScheduler'"):
        build_table({**SD, "_class_name": "UniPCMultistepScheduler"}, 4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("prediction_type", "sample"),
        ("beta_schedule", "squaredcos_cap_v2"),
        ("thresholding", True),
        ("solver_order", 3),
        ("algorithm_type", "sde-dpmsolver++"),
        ("sigma_min", 0.1),
        ("rescale_betas_zero_snr", True),
    ],
)
def test_an_option_that_we_lack_is_named(option, value):
    options = {**SD, "_class_name": "DPMSolverMultistepScheduler", option: value}
    with pytest.raises(ValueError, match=option):
        build_table(options, 4)


def test_pndm_with_runge_kutta_steps_is_refused():
    options = {**SD, "_class_name": "PNDMScheduler", "skip_prk_steps": False}
    with pytest.raises(ValueError, match="skip_prk_steps"):
        build_table(options, 4)
