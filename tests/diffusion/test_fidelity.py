"""diffusers' own pipeline is the oracle of our pictures, alone and in a busy engine."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from nerite.diffusion import Engine, InvalidParams, Params, open_pipeline

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSES = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++_2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "pndm": ("PNDMScheduler", {}),
}
REQUEST = Params("a red house in the snow", seed=5, steps=8, width=64, height=64)


@pytest.fixture(scope="module")
def pipeline(tiny):
    return open_pipeline(tiny[0], threads=1)


@pytest.fixture(scope="module")
def reference(tiny):
    """Params -> uint8 [n, h, w, 3], painted by diffusers; equal requests are painted once."""
    painted = {}

    def paint(params):
        if params not in painted:
            painted[params] = _paint(tiny[1], params)
        return painted[params]

    return paint


def _paint(model, params):
    own = model.scheduler
    if params.scheduler:
        name, options = CLASSES[params.scheduler]
        model.scheduler = getattr(diffusers, name).from_config(own.config, **options)
    generators = [torch.Generator().manual_seed(params.seed + k) for k in range(params.num_images)]
    try:
        images = model(
            params.prompt,
            negative_prompt=params.negative_prompt,
            height=params.height,
            width=params.width,
            num_inference_steps=params.steps,
            guidance_scale=params.guidance_scale,
            num_images_per_prompt=params.num_images,
            generator=generators,
            output_type="np",
        ).images
    finally:
        model.scheduler = own
    return (images * 255).round().astype(np.uint8)


def paint_alone(pipeline, params):
    engine, events = Engine(pipeline), []
    engine.add(params, events.append)
    while engine.step():
        pass
    (event,) = events
    if isinstance(event, BaseException):
        raise event
    return event


def assert_close(images, expected):
    assert images.dtype == np.uint8
    assert images.shape == expected.shape
    assert np.abs(images.astype(int) - expected.astype(int)).max() <= 2


@pytest.mark.parametrize("scheduler", [None, *CLASSES])
def test_a_picture_alone_is_diffusers(pipeline, reference, scheduler):
    params = replace(REQUEST, scheduler=scheduler)
    expected = reference(params)
    assert expected.std() > 5  # a flat picture would prove nothing
    images = paint_alone(pipeline, params).images
    assert_close(images, expected)
    assert (images != expected).mean() < 0.1  # rounded down, half of all values would differ


def test_runge_kutta_steps_are_diffusers(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "prk")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"skip_prk_steps": False}))
    model = copy.copy(tiny[1])
    model.scheduler = diffusers.PNDMScheduler.from_pretrained(folder / "scheduler")
    ours = open_pipeline(folder, threads=1)
    ours.measure()  # which steps, too
    assert_close(paint_alone(ours, REQUEST).images, _paint(model, REQUEST))
    with pytest.raises(InvalidParams, match="steps is 3: PNDM with Runge-Kutta") as raised:
        ours.check(replace(REQUEST, steps=3))
    assert raised.value.field == "steps"


@pytest.mark.parametrize(
    "change",
    [
        {"guidance_scale": 1.0},
        {"guidance_scale": 0.0, "negative_prompt": "a boat"},
        {"guidance_scale": 15.0, "negative_prompt": "a boat"},
        {"width": 72, "height": 104},
        {"num_images": 3, "scheduler": "euler_a"},
        {"seed": -1},
        {"seed": 2**40 + 1},
        {"steps": 1},
        {"prompt": ""},
    ],
    ids=lambda change: str(change)[:40],
)
def test_every_parameter_means_what_it_means_in_diffusers(pipeline, reference, change):
    params = replace(REQUEST, **change)
    painted = paint_alone(pipeline, params)
    assert painted.seed == params.seed
    assert_close(painted.images, reference(params))


def test_the_parameters_change_the_picture(pipeline):
    plain = paint_alone(pipeline, REQUEST).images
    for change in ({"seed": 6}, {"prompt": "a blue boat"}, {"guidance_scale": 3.0}, {"steps": 9}):
        other = paint_alone(pipeline, replace(REQUEST, **change)).images
        assert np.abs(plain.astype(int) - other.astype(int)).max() > 2, change


def test_image_k_is_drawn_from_seed_plus_k(pipeline):
    both = paint_alone(pipeline, replace(REQUEST, num_images=2)).images
    second = paint_alone(pipeline, replace(REQUEST, seed=REQUEST.seed + 1)).images
    assert_close(both[1:], second)


def test_alone_the_same_request_gives_the_same_bytes(tiny, pipeline):
    first = paint_alone(pipeline, REQUEST).images
    assert (paint_alone(pipeline, REQUEST).images == first).all()
    assert (paint_alone(open_pipeline(tiny[0], threads=1), REQUEST).images == first).all()


def test_pictures_of_a_busy_engine_are_diffusers(pipeline, reference):
    """A neighbour joins at each step, with its own length, guidance, sampler and size."""
    names, sizes = [None, *CLASSES], [(64, 64), (64, 64), (72, 104), (64, 64), (96, 64)]
    requests = [
        Params(
            ["a red house", "the moon at night", ""][i % 3],
            negative_prompt=["", "snow"][i % 2],
            seed=i,
            steps=3 + i * 5 % 11,
            guidance_scale=[12.0, 1.0, 2.0, 0.5][i % 4],
            width=sizes[i % 5][0],
            height=sizes[i % 5][1],
            num_images=1 + (i % 4 == 3),
            scheduler=names[i % 7],
        )
        for i in range(21)
    ]
    engine, painted, arriving = Engine(pipeline, max_running_images=6), {}, list(requests)
    while engine.step() or arriving:
        if arriving:
            request = arriving.pop(0)
            engine.add(request, lambda event, request=request: painted.update({request: event}))
    assert len(painted) == len(requests)
    for request in requests:
        assert_close(painted[request].images, reference(request))


EXPORTS = {
    "one timestep": {"times": 1, "letters": "?"},
    "a scalar": {"times": 0, "letters": "", "squeeze": True},
    "int64 timesteps": {"times": 2, "letters": "b", "dtype": "int64"},
    "one, said to be many": {"times": 1, "letters": "t", "squeeze": True},
}


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS.keys())
def test_other_exports_of_the_unet_paint_the_same(tiny, reference, export_unet, tmp_path, export):
    folder = shutil.copytree(tiny[0], tmp_path / "model")
    export_unet(folder / "unet" / "model.onnx", tiny[1].unet, **export)
    engine, painted = Engine(open_pipeline(folder, threads=1)), {}
    for steps in (4, 6):
        params = replace(REQUEST, steps=steps, scheduler="ddim")
        engine.add(params, lambda event, params=params: painted.update({params: event}))
    while engine.step():
        pass
    for params, event in painted.items():
        assert_close(event.images, reference(params))


def test_options_that_diffusers_pipeline_overrides(tiny, reference, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "model")
    path = folder / "scheduler" / "scheduler_config.json"
    options = json.loads(path.read_text()) | {"steps_offset": 0, "clip_sample": True}
    path.write_text(json.dumps(options))
    pipeline = open_pipeline(folder, threads=1)
    assert pipeline.start([REQUEST])[0].table.timesteps[-1] == 1
    assert_close(paint_alone(pipeline, REQUEST).images, reference(REQUEST))


def test_v_prediction_as_the_folder_says(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "model")
    own = tiny[1].scheduler
    try:
        type(own).from_config(own.config, prediction_type="v_prediction").save_config(
            folder / "scheduler"
        )
        tiny[1].scheduler = type(own).from_pretrained(folder / "scheduler")
        pipeline = open_pipeline(folder, threads=1)
        for scheduler in (None, "euler", "dpm++_2m"):
            params = replace(REQUEST, scheduler=scheduler)
            assert_close(paint_alone(pipeline, params).images, _paint(tiny[1], params))
    finally:
        tiny[1].scheduler = own


def test_an_export_traced_at_one_size_names_the_sizes_it_paints(tiny, reference, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "model")
    unet = tiny[1].unet
    with torch.no_grad():
        torch.onnx.export(
            unet,
            (torch.randn(2, 4, 8, 8), torch.rand(2), torch.randn(2, 77, 16)),
            folder / "unet" / "model.onnx",
            input_names=["sample", "timestep", "encoder_hidden_states"],
            dynamic_axes={
                "sample": {0: "b", 2: "h", 3: "w"},
                "timestep": {0: "b"},
                "encoder_hidden_states": {0: "b"},
            },
            opset_version=17,
            dynamo=False,
        )
    pipeline = open_pipeline(folder, threads=1)
    with pytest.raises(InvalidParams, match="multiple of 16 from 64 to 256; try 64 or 80"):
        pipeline.check(replace(REQUEST, width=72))
    assert_close(
        paint_alone(pipeline, replace(REQUEST, width=80)).images,
        reference(replace(REQUEST, width=80)),
    )


def test_an_aborted_request_costs_no_further_forward(tiny):
    opened = open_pipeline(tiny[0], threads=1)
    rows, forward = [], opened._forward
    opened._forward = lambda latents, *rest: rows.append(len(latents)) or forward(latents, *rest)
    engine, events = Engine(opened), []
    engine.add(REQUEST, events.append)
    ticket = engine.add(replace(REQUEST, num_images=3), events.append)
    engine.step()
    engine.step()
    engine.abort(ticket)
    while engine.step():
        pass
    assert rows == [8, 8, *[2] * 7]  # PNDM visits its second timestep twice
    assert len(events) == 2
