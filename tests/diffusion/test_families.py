"""Every family on torch: diffusers' own pipelines are the oracle, alone and in a busy engine."""

import inspect
import shutil
from dataclasses import replace

import numpy as np
import pytest

from nerite.diffusion import Engine, InvalidParams, Params, open_pipeline

from . import tiny as models

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
Image = pytest.importorskip("PIL.Image")

pytestmark = pytest.mark.filterwarnings("ignore")

REQUEST = Params("a red house in the snow", seed=5, steps=4, width=64, height=64)
RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (64, 64, 3), np.uint8).repeat(1, axis=0)
MASK = np.zeros((64, 64), np.uint8)
MASK[16:48, :40] = 255
SAMPLERS = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm++_2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm++_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lcm": ("LCMScheduler", {}),
}


@pytest.fixture(autouse=True)
def text_model(monkeypatch):
    """diffusers looks for the final norm where transformers had it until version 5."""
    from transformers import CLIPTextModel

    if not hasattr(CLIPTextModel, "text_model"):
        monkeypatch.setattr(CLIPTextModel, "text_model", property(lambda self: self), False)


class Model:
    """A folder, our pipeline for it, and diffusers' own."""

    def __init__(self, kind, folder):
        torch.set_num_threads(1)
        self.theirs = models.make(kind, folder)
        self.folder = folder
        self.ours = open_pipeline(folder, threads=1, runtime="torch")
        self.painted = {}

    def expect(self, params):
        """uint8 [n, h, w, 3] by diffusers, each image with its own seed."""
        images = [
            self._paint(replace(params, seed=params.seed + k)) for k in range(params.num_images)
        ]
        return np.concatenate(images)

    def _paint(self, params):
        task = (
            "Inpaint" if params.mask is not None else "Img2Img" if params.image is not None else ""
        )
        kind = type(self.theirs).__name__.replace("Pipeline", f"{task}Pipeline")
        pipe = getattr(diffusers, kind)(**self._components())
        pipe.set_progress_bar_config(disable=True)
        if params.scheduler:
            name, options = SAMPLERS[params.scheduler]
            own = self.theirs.scheduler.config
            pipe.scheduler = getattr(diffusers, name).from_config(own, **options)
        extra = {"clip_skip": params.clip_skip} if params.clip_skip else {}
        if task:
            extra |= {"image": Image.fromarray(params.image), "strength": params.chosen_strength}
        if task == "Inpaint":
            extra["mask_image"] = Image.fromarray(params.mask)
        if task != "Img2Img":
            extra |= {"height": params.height, "width": params.width}
        images = pipe(
            params.prompt,
            negative_prompt=params.negative_prompt or None,
            num_inference_steps=params.steps,
            guidance_scale=params.guidance_scale,
            generator=torch.Generator().manual_seed(params.seed),
            output_type="np",
            **extra,
        ).images
        return (images * 255).round().astype(np.uint8)

    def _components(self):
        components = dict(self.theirs.components)
        return {
            **components,
            "scheduler": type(components["scheduler"]).from_config(components["scheduler"].config),
        }


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = Model(kind, tmp_path_factory.mktemp("families") / kind)
        return made[kind]

    return get


def paint(pipeline, *requests):
    """The pictures of requests that arrive one step after the other."""
    engine, painted, arriving = Engine(pipeline, max_running_images=6), {}, list(requests)
    while engine.step() or arriving:
        if arriving:
            number = len(requests) - len(arriving)
            engine.add(
                arriving.pop(0), lambda event, number=number: painted.update({number: event})
            )
    for event in painted.values():
        if isinstance(event, BaseException):
            raise event
    return [painted[number].images for number in range(len(requests))]


def assert_close(images, expected):
    assert images.shape == expected.shape
    difference = np.abs(images.astype(int) - expected.astype(int))
    assert difference.max() <= 2, difference.max()


PLAIN = [kind for kind in models.KINDS if kind != "sd inpaint"]


@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3"])
def test_the_usual_is_the_pipelines_own(model, kind):
    made = model(kind)
    usual = inspect.signature(type(made.theirs).__call__).parameters
    assert made.ours.limits.guidance_scale == usual["guidance_scale"].default
    if kind == "sd3":  # 50 of the others are more than they need
        assert made.ours.limits.steps == usual["num_inference_steps"].default


@pytest.mark.parametrize("kind", PLAIN)
def test_a_picture_alone_is_diffusers(model, kind):
    one = model(kind)
    for change in (
        {},
        {"guidance_scale": 1.0, "width": 80},
        {"negative_prompt": "a boat", "num_images": 2},
        {"clip_skip": 1, "height": 96},
    ):
        params = replace(REQUEST, **change)
        expected = one.expect(params)
        assert expected.std() > 5  # a flat picture would prove nothing
        assert_close(paint(one.ours, params)[0], expected)


@pytest.mark.parametrize("kind", PLAIN)
def test_the_words_change_the_picture(model, kind):
    one = model(kind)
    first, other = (
        paint(one.ours, replace(REQUEST, prompt=prompt))[0].astype(int)
        for prompt in ("a red house", "a blue sailboat at night")
    )
    assert np.abs(first - other).max() > 2


@pytest.mark.parametrize("scheduler", SAMPLERS)
@pytest.mark.parametrize("kind", ["sd", "sd2", "sdxl"])
def test_every_sampler_paints_as_in_diffusers(model, kind, scheduler):
    one, params = model(kind), replace(REQUEST, scheduler=scheduler)
    assert_close(paint(one.ours, params)[0], one.expect(params))


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("strength", [1.0, 0.75, 0.3])
def test_a_picture_from_a_picture(model, kind, strength):
    one = model(kind)
    params = replace(REQUEST, image=IMAGE, strength=strength, steps=6, num_images=2)
    assert_close(paint(one.ours, params)[0], one.expect(params))


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("scheduler", SAMPLERS)
def test_every_sampler_starts_from_a_picture_and_under_a_mask(model, kind, scheduler):
    one = model(kind)
    params = replace(REQUEST, image=IMAGE, strength=0.7, steps=7, scheduler=scheduler)
    assert_close(paint(one.ours, params)[0], one.expect(params))
    params = replace(params, mask=MASK)
    assert_close(paint(one.ours, params)[0], one.expect(params))


@pytest.mark.parametrize("kind", ["sd", "sd inpaint", "sd2", "sdxl", "sd3"])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_a_picture_under_a_mask(model, kind, strength):
    one = model(kind)
    if kind == "sd3":  # diffusers forgets the shift there
        one.theirs.vae.register_to_config(shift_factor=0.0)
        (one.folder / "vae").joinpath("config.json").write_text(one.theirs.vae.to_json_string())
        one.ours = open_pipeline(one.folder, threads=1, runtime="torch")
    params = replace(REQUEST, image=IMAGE, mask=MASK, strength=strength, num_images=2)
    expected = one.expect(params)
    assert_close(paint(one.ours, params)[0], expected)


def test_pictures_are_scaled_to_the_size_that_is_asked_for(model):
    one = model("sd")
    image = RANDOM.integers(0, 256, (50, 90, 3), np.uint8)
    mask = RANDOM.integers(0, 256, (33, 41), np.uint8)
    params = replace(REQUEST, image=image, mask=mask, width=96, height=72)
    assert_close(paint(one.ours, params)[0], one.expect(params))


@pytest.mark.parametrize("kind", models.KINDS)
def test_pictures_of_a_busy_engine_are_diffusers(model, kind):
    """A neighbour joins at each step, with its own length, guidance, sampler, size and task."""
    one, names = model(kind), [None, *SAMPLERS]
    if kind.startswith("sd3"):
        names = [None]
    requests = []
    for i in range(12):
        task = {0: {}, 1: {"image": IMAGE, "strength": 0.8}, 2: {}}[i % 3]
        if kind == "sd inpaint":
            task = {"image": IMAGE, "mask": MASK, "strength": 1 - i % 2 / 4}
        requests.append(
            Params(
                ["a red house", "the moon at night", ""][i % 3],
                negative_prompt=["", "snow"][i % 2],
                seed=i,
                steps=3 + i * 5 % 6,
                guidance_scale=[5.0, 1.0, 2.0, 0.5][i % 4],
                width=64,
                height=[64, 64, 80][i % 3],
                num_images=1 + (i % 4 == 3),
                scheduler=names[i % len(names)],
                **task,
            )
        )
    if kind != "sd inpaint":
        requests = [replace(one, height=64) if one.image is not None else one for one in requests]
    else:
        requests = [replace(one, height=64) for one in requests]
    for request, images in zip(requests, paint(one.ours, *requests), strict=True):
        assert_close(images, one.expect(request))


def test_an_inpainting_model_needs_a_mask(model):
    with pytest.raises(InvalidParams, match="mask is missing: this model paints under masks only"):
        model("sd inpaint").ours.check(REQUEST)


def test_a_strength_that_leaves_no_step_is_refused(model):
    params = replace(REQUEST, image=IMAGE, strength=0.1)
    with pytest.raises(InvalidParams, match=r"strength is 0\.1, which leaves none of 4 steps"):
        model("sd").ours.check(params)


def test_more_layers_than_there_are_cannot_be_skipped(model):
    with pytest.raises(InvalidParams, match="clip_skip must be at most 2") as refusal:
        model("sd").ours.check(replace(REQUEST, clip_skip=3))
    assert refusal.value.field == "clip_skip"


def test_noise_is_not_for_models_of_flow_matching(model):
    with pytest.raises(InvalidParams, match="'euler' does not fit this model; known: dpm"):
        model("sd3").ours.check(replace(REQUEST, scheduler="euler"))


def test_in_fixed_batches_the_bytes_do_not_depend_on_the_neighbours(model):
    strict = open_pipeline(model("sd").folder, threads=1, runtime="torch", fixed_rows=4)
    request = replace(REQUEST, scheduler="euler_a")
    (alone,) = paint(strict, request)
    others = [replace(REQUEST, seed=s, num_images=1 + s % 3, steps=3 + s) for s in range(4)]
    assert (paint(strict, *others[:2], request, *others[2:])[2] == alone).all()
    assert (paint(strict, request, *others)[0] == alone).all()
    assert_close(alone, model("sd").expect(request))


def test_weights_that_are_stored_in_half_precision_only(model, tmp_path):
    one = model("sd")
    folder = shutil.copytree(one.folder, tmp_path / "model")
    for weights in list(folder.glob("*/*.safetensors")):
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    opened = open_pipeline(folder, threads=1, runtime="torch")
    assert_close(paint(opened, REQUEST)[0], one.expect(REQUEST))


def test_bfloat16_paints_nearly_the_same(model):
    one = model("sd")
    half = open_pipeline(one.folder, threads=1, runtime="torch", dtype="bfloat16")
    images = paint(half, REQUEST)[0].astype(int)
    assert np.abs(images - one.expect(REQUEST).astype(int)).mean() < 8


def test_what_a_row_takes_is_measured(model):
    memory = model("sd").ours.measure()
    assert memory.budget is None or memory.budget > 0
    assert memory.per_pixel >= 0
    assert (
        memory.cost(replace(REQUEST, num_images=2))
        == 4 * memory.cost(replace(REQUEST, guidance_scale=1.0))
        or memory.cost(REQUEST) >= 0
    )


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(model, device):
    with pytest.raises(ValueError, match=f"device is '{device}'"):
        open_pipeline(model("sd").folder, device=device, runtime="torch")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dtype": "int8"}, "dtype is 'int8': it must be one of auto, float32, bfloat16"),
        (
            {"runtime": "paper"},
            "runtime is 'paper': it must be one of auto, onnxruntime, openvino, torch",
        ),
    ],
)
def test_an_option_of_no_meaning_is_refused(model, option, message):
    with pytest.raises(ValueError, match=message):
        open_pipeline(model("sd").folder, **{"runtime": "torch", **option})
