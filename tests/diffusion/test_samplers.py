"""diffusers' schedulers are the oracle of ours, option by option and step by step."""

import inspect

import numpy as np
import pytest

from nerite.diffusion.noise import TorchGenerator
from nerite.diffusion.quantiles import beta_quantiles
from nerite.diffusion.samplers import FLOW, KNOWN_SCHEDULERS, SLOTS, advance, build_table

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
KINDS = [name for name in KNOWN_SCHEDULERS if name.endswith("Scheduler") and name != FLOW]
LONG = [kind for kind in KINDS if kind != "LCMScheduler"]  # it knows 50 steps only
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


def theirs(options, steps, kind, begin=0, image=None, mu=None):
    """The latents after every step, as a diffusers pipeline walks them."""
    scheduler = getattr(diffusers, kind).from_config(options)
    scheduler.set_timesteps(steps, **({} if mu is None else {"mu": mu}))
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(SHAPE, generator=generator)
    timesteps = scheduler.timesteps[begin * scheduler.order :]
    if image is None:
        latents = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    else:
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin * scheduler.order)
        mix = getattr(scheduler, "add_noise", None)
        mix = mix or (lambda image, noise, t: scheduler.scale_noise(image, t, noise))
        latents = mix(torch.from_numpy(image), noise, timesteps[:1])
    accepted = inspect.signature(scheduler.step).parameters
    extra = {"generator": generator} if "generator" in accepted else {}
    walked, seen = [latents.numpy()], []
    for timestep in timesteps:
        scaled = latents
        if hasattr(scheduler, "scale_model_input"):
            scaled = scheduler.scale_model_input(latents, timestep)
        output = torch.from_numpy(network(scaled.numpy(), timestep.item()).astype(np.float32))
        latents = scheduler.step(output, timestep, latents, **extra).prev_sample
        walked.append(latents.numpy())
        seen.append(timestep.item())
    return walked, seen


def ours(options, steps, scheduler=None, begin=0, image=None, tensor=np.asarray, tokens=0):
    """The same, of numpy's arrays, or of what ``tensor`` makes of those."""
    table = build_table(options, steps, scheduler, begin=begin, tokens=tokens)
    generator = TorchGenerator(3)
    noise = generator.normal(SHAPE)
    states = np.zeros((1, SLOTS, *SHAPE[1:]), np.float32)
    states[:, 0] = noise * np.float32(table.initial_scale)
    if image is not None:
        states[:, 0] = table.levels[0].signal * image + table.levels[0].noise * noise
    states = tensor(states)
    walked = [np.asarray(states[:, 0])]
    for index, timestep in enumerate(table.timesteps):
        sample = np.asarray(states[:, 0]) * table.input_scales[index]
        output = network(sample, timestep).astype(np.float32)
        noise = tensor(generator.normal(SHAPE)) if table.noisy[index] else None
        matrices = tensor(table.matrices[index : index + 1])
        states = advance(states, tensor(output), noise, matrices)
        walked.append(np.asarray(states[:, 0]))
    return walked, list(table.timesteps)


def assert_same_walk(options, steps, kind, *, mu=None, tokens=0, **start):
    expected, visited = theirs(options, steps, kind, mu=mu, **start)
    walked, timesteps = ours({**options, "_class_name": kind}, steps, tokens=tokens, **start)
    np.testing.assert_allclose(timesteps, visited, rtol=0, atol=2e-3)
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


RESPACED = ["Euler", "Heun", "LMS", "DPMSolverMultistep", "UniPCMultistep"]
RESPACED = [next(kind for kind in KINDS if kind.startswith(name)) for name in RESPACED]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("kind", RESPACED)
def test_respaced_and_final_sigmas(kind, spacing):
    for extra in (
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"use_beta_sigmas": True},
        {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0},
        {"final_sigmas_type": "sigma_min"},
        {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
        {"use_beta_sigmas": True, "final_sigmas_type": "sigma_min"},
    ):
        if "sigma_min" in extra and kind == "LMSDiscreteScheduler":
            continue  # it does not know the option
        if "final_sigmas_type" in extra and kind[:3] in ("Heu", "LMS"):
            continue
        for steps in (2, 14, 20):
            assert_same_walk({**SD, "timestep_spacing": spacing, **extra}, steps, kind)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[:3] not in ("PND", "Heu", "LMS")])
def test_training_that_ends_without_signal(kind):
    options = {**SD, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    for spacing in SPACINGS:
        assert_same_walk({**options, "timestep_spacing": spacing}, 12, kind)


def test_without_signal_noise_tells_nothing():
    options = {**SD, "_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True}
    with pytest.raises(ValueError, match="rescale_betas_zero_snr is served with v_prediction only"):
        build_table({**options, "timestep_spacing": "trailing"}, 4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[:6] not in ("PNDMSc", "EulerA")])
def test_networks_that_predict_the_image(kind):
    assert_same_walk({**SD, "prediction_type": "sample"}, 9, kind)


@pytest.mark.parametrize("begin", [1, 2, 5, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_a_later_start(kind, begin):
    image = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    for extra in ({}, {"use_karras_sigmas": True}) if kind in RESPACED else ({},):
        assert_same_walk({**SD, **extra}, 9, kind, begin=begin, image=image)


SOLVER = {
    "first order": {"solver_order": 1},
    "third order": {"solver_order": 3},
    "third order to the end": {"solver_order": 3, "lower_order_final": False},
    "no lower order": {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
    "euler at last": {"final_sigmas_type": "sigma_min", "euler_at_final": True},
    "heun": {"solver_type": "heun"},
    "sde": {"algorithm_type": "sde-dpmsolver++"},
    "sde, heun": {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
    "sde of third order": {"algorithm_type": "sde-dpmsolver++", "solver_order": 3},
    "lu": {"use_lu_lambdas": True},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


@pytest.mark.parametrize("extra", SOLVER.values(), ids=SOLVER.keys())
def test_options_of_the_dpm_solver(extra):
    for steps in (5, 14, 20):
        assert_same_walk({**SD, **extra}, steps, "DPMSolverMultistepScheduler")


@pytest.mark.parametrize(
    "extra",
    [
        {"solver_order": 1},
        {"solver_order": 3},
        {"solver_type": "bh1"},
        {"solver_order": 3, "solver_type": "bh1"},
        {"disable_corrector": [0, 3]},
        {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"beta_schedule": "squaredcos_cap_v2"},
    ],
    ids=str,
)
def test_options_of_unipc(extra):
    for steps in (5, 14, 20):
        assert_same_walk({**SD, **extra}, steps, "UniPCMultistepScheduler")


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_small_log", "fixed_large"])
def test_variances_of_ddpm(variance):
    for steps in (1, 4, 20):
        assert_same_walk({**SD, "variance_type": variance}, steps, "DDPMScheduler")


@pytest.mark.parametrize(
    "extra",
    [{}, {"original_inference_steps": 20}, {"timestep_scaling": 5.0}, {"set_alpha_to_one": False}],
    ids=str,
)
def test_options_of_lcm(extra):
    for steps in (1, 4, 8):
        assert_same_walk({**SD, **extra}, steps, "LCMScheduler")


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"shift": 3.0},
        {"shift_terminal": 0.1},
        {"shift": 2.0, "use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
        {"use_beta_sigmas": True},
        {"stochastic_sampling": True},
        {"num_train_timesteps": 500},
    ],
    ids=str,
)
def test_flow_matching(extra):
    image = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    for steps in (4, 28) if "shift_terminal" in extra else (1, 4, 28):
        assert_same_walk({"_class_name": FLOW, **extra}, steps, FLOW)
    assert_same_walk({"_class_name": FLOW, **extra}, 10, FLOW, begin=4, image=image)


FLOWING = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@pytest.mark.parametrize("kind", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"flow_shift": 3.0},
        {"flow_shift": 3.0, "solver_order": 3},
        {"final_sigmas_type": "sigma_min"},
        {"algorithm_type": "sde-dpmsolver++"},
        {"num_train_timesteps": 500},
        {"use_karras_sigmas": True},
        {"shift_terminal": 0.1, "flow_shift": 3.0},
        {"prediction_type": "v_prediction"},
    ],
    ids=str,
)
def test_solvers_of_flow_matching(kind, extra):
    if kind.startswith("DPM") and "use_karras_sigmas" in extra:
        with pytest.raises(ValueError, match="use_flow_sigmas excludes other ways"):
            build_table({**FLOWING, **extra, "_class_name": kind}, 4)
        return
    unknown = "algorithm_type" if kind.startswith("UniPC") else "shift_terminal"
    if unknown in extra:
        return  # which it does not know
    for steps in (4, 20):
        assert_same_walk({**FLOWING, **extra}, steps, kind)


def test_a_solver_in_the_place_of_eulers_keeps_the_models_shift():
    own = {"_class_name": FLOW, "shift": 3.0}
    for name, kind in (
        ("unipc", "UniPCMultistepScheduler"),
        ("dpm++_2m", "DPMSolverMultistepScheduler"),
    ):
        expected, visited = theirs({**FLOWING, "flow_shift": 3.0}, 9, kind)
        walked, timesteps = ours(own, 9, name)
        np.testing.assert_allclose(timesteps, visited, atol=2e-3)
        np.testing.assert_allclose(walked[-1], expected[-1], atol=1e-4)
    solver = {**FLOWING, "_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0}
    back, euler = build_table(solver, 9, "flow_euler"), build_table(own, 9)
    np.testing.assert_array_equal(back.timesteps, euler.timesteps)


def test_quantiles_are_scipys():
    stats = pytest.importorskip("scipy.stats")
    shares = np.concatenate([np.linspace(0, 1, 41), [1e-9, 1e-4, 1 - 1e-6]])
    for shape in (0.6, 1.0, 2.5):
        expected = stats.beta.ppf(shares, shape, shape)
        np.testing.assert_allclose(beta_quantiles(shares, shape), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("extra", [{}, {"shift_terminal": 0.1}, {"use_karras_sigmas": True}])
@pytest.mark.parametrize("shape", ["exponential", "linear"])
@pytest.mark.parametrize("tokens", [256, 1024, 4096])
@pytest.mark.parametrize("kind", [FLOW, "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"])
def test_flow_matching_shifts_by_the_size_of_the_picture(kind, tokens, shape, extra):
    if kind.startswith("DPM") and (extra or shape == "linear"):
        return  # which it does not know
    options = {"use_dynamic_shifting": True, "time_shift_type": shape, **extra}
    if kind != FLOW:
        options |= FLOWING
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    for steps in (2, 9, 20):
        assert_same_walk(options, steps, kind, mu=mu, tokens=tokens)


def test_a_solver_in_the_place_of_eulers_shifts_by_size_too():
    own = {"_class_name": FLOW, "use_dynamic_shifting": True, "shift": 3.0, "max_shift": 2.0}
    mu = 0.5 + (2.0 - 0.5) * (1024 - 256) / (4096 - 256)
    for name, kind in (
        ("unipc", "UniPCMultistepScheduler"),
        ("dpm++_2m", "DPMSolverMultistepScheduler"),
    ):
        expected, visited = theirs({**own, **FLOWING}, 9, kind, mu=mu)
        walked, timesteps = ours(own, 9, name, tokens=1024)
        np.testing.assert_allclose(timesteps, visited, atol=2e-3)
        np.testing.assert_allclose(walked[-1], expected[-1], atol=1e-4)


def test_torchs_tensors_walk_as_numpys_do():
    options = {**SD, "_class_name": "EulerAncestralDiscreteScheduler"}
    for name in ("unipc", "euler_a", "lms", "dpm++_2m_sde"):
        plain, _ = ours(options, 7, name)
        torched, _ = ours(options, 7, name, tensor=lambda array: torch.as_tensor(array))
        np.testing.assert_allclose(plain[-1], torched[-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", LONG)
def test_many_steps_stay_with_diffusers(kind):
    assert_same_walk({**SD, "steps_offset": 0}, 250, kind)


@pytest.mark.parametrize("kind", LONG)
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
    with pytest.raises(ValueError, match=r"unknown scheduler 'magic'; known: ddim, euler, .*PNDM"):
        build_table({**SD, "_class_name": "PNDMScheduler"}, 4, "magic")
    with pytest.raises(ValueError, match="unknown scheduler 'EDMEulerScheduler'"):
        build_table({**SD, "_class_name": "EDMEulerScheduler"}, 4)


def test_models_of_flow_matching_have_their_own():
    with pytest.raises(
        ValueError, match=r"'euler' does not fit this model; known: dpm.*flow_euler"
    ):
        build_table({"_class_name": FLOW}, 4, "euler")
    with pytest.raises(ValueError, match=r"'flow_euler' does not fit this model; known: ddim"):
        build_table({**SD, "_class_name": "PNDMScheduler"}, 4, "flow_euler")


def test_lcm_says_how_many_steps_it_takes():
    with pytest.raises(ValueError, match="steps is 51: the lcm sampler takes at most 50"):
        build_table({**SD, "_class_name": "LCMScheduler"}, 51)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("beta_schedule", "sigmoid"),
        ("thresholding", True),
        ("solver_order", 4),
        ("algorithm_type", "dpmsolver"),
        ("use_karras_sigmas and use_beta_sigmas", True),
    ],
)
def test_an_option_that_we_lack_is_named(option, value):
    extra = dict.fromkeys(option.split(" and "), value)
    options = {**SD, "_class_name": "DPMSolverMultistepScheduler", **extra}
    with pytest.raises(ValueError, match=option):
        build_table(options, 4)


RUNGE_KUTTA = {
    "leading": {},
    "trailing": {"timestep_spacing": "trailing"},
    "linspace": {"timestep_spacing": "linspace"},
    "v": {"prediction_type": "v_prediction"},
    "alpha one": {"set_alpha_to_one": True, "steps_offset": 0},
    "short training": {"num_train_timesteps": 400},
    "trained betas": {"trained_betas": [0.001 + 0.00001 * i for i in range(1000)]},
}


@pytest.mark.parametrize("extra", RUNGE_KUTTA.values(), ids=RUNGE_KUTTA.keys())
def test_pndm_with_runge_kutta_steps(extra):
    options = {**SD, "skip_prk_steps": False, **extra}
    for steps in (4, 5, 7, 20, 50):
        assert_same_walk(options, steps, "PNDMScheduler")


@pytest.mark.parametrize("begin", [1, 2, 5, 8])
def test_pndm_with_runge_kutta_steps_from_an_image(begin):
    image = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    options = {**SD, "skip_prk_steps": False}
    assert_same_walk(options, 9, "PNDMScheduler", begin=begin, image=image)


def test_runge_kutta_steps_say_how_many_they_take():
    options = {**SD, "_class_name": "PNDMScheduler", "skip_prk_steps": False}
    with pytest.raises(ValueError, match="steps is 3: PNDM with Runge-Kutta steps takes at least"):
        build_table(options, 3)
