"""The embedded painter through our library and through diffusers: the same pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nerite.diffusion
from nerite.diffusion import Engine, Params, Watch, find_model_folder, open_pipeline

PAINTER = Path(nerite.diffusion.__file__).parents[1] / "painter" / "repository" / "painter" / "1"

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        not any(PAINTER.glob("**/unet/model.onnx")), reason="the painter's weights are not there"
    ),
]

REQUEST = Params("a red house in the snow at night with a moon", seed=7, width=128, height=128)


@pytest.fixture(scope="module")
def pipeline():
    return open_pipeline(find_model_folder(PAINTER), threads=1)


@pytest.fixture(scope="module")
def theirs():
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    torch.set_num_threads(1)
    model = diffusers.StableDiffusionPipeline.from_pretrained(
        find_model_folder(PAINTER), torch_dtype=torch.float32, safety_checker=None
    )
    model.set_progress_bar_config(disable=True)

    def paint(params):
        images = model(
            params.prompt,
            height=params.height,
            width=params.width,
            num_inference_steps=params.steps,
            guidance_scale=params.guidance_scale,
            generator=torch.Generator().manual_seed(params.seed),
            output_type="np",
        ).images
        return (images * 255).round().astype(np.uint8)

    return paint


def paint(pipeline, *requests):
    engine, painted = Engine(pipeline), {}
    for request in requests:
        engine.add(request, lambda event, request=request: painted.update({request: event}))
    while engine.step():
        pass
    return [painted[request].images for request in requests]


def test_its_picture_is_diffusers(pipeline, theirs):
    (image,) = paint(pipeline, REQUEST)
    expected = theirs(REQUEST)
    assert expected.std() > 20
    assert np.abs(image.astype(int) - expected.astype(int)).max() <= 2


def test_beside_others_it_is_the_same_picture(pipeline, theirs):
    requests = [replace(REQUEST, seed=seed, steps=3 + seed, guidance_scale=4.0) for seed in (1, 2)]
    for image, request in zip(paint(pipeline, *requests), requests, strict=True):
        assert np.abs(image.astype(int) - theirs(request).astype(int)).max() <= 2


def test_alone_the_same_seed_gives_the_same_bytes(pipeline):
    request = replace(REQUEST, steps=3)
    (first,), (again,) = paint(pipeline, request), paint(pipeline, request)
    assert (first == again).all()
    (other,) = paint(pipeline, replace(request, seed=8))
    assert (first != other).any()


def test_every_size_it_promises_is_painted(pipeline):
    assert (pipeline.limits.width, pipeline.limits.height) == (128, 128)
    for width, height in [(64, 64), (72, 200), (256, 256)]:
        (image,) = paint(pipeline, replace(REQUEST, width=width, height=height, steps=1))
        assert image.shape == (1, height, width, 3)


def test_a_strict_engine_gives_the_same_bytes_beside_any_neighbours():
    strict = open_pipeline(find_model_folder(PAINTER), threads=1, fixed_rows=4)
    request = replace(REQUEST, steps=2, scheduler="euler_a")
    (alone,) = paint(strict, request)
    others = [replace(request, seed=seed, num_images=seed, steps=seed) for seed in (1, 2, 3)]
    assert (paint(strict, *others[:2], request, others[2])[2] == alone).all()
    assert (paint(strict, request, *others)[0] == alone).all()


def test_a_preview_looks_like_the_picture(pipeline):
    engine, told, painted = Engine(pipeline), [], []
    engine.add(replace(REQUEST, steps=8), painted.append, watch=Watch(told.append, previews=7))
    while engine.step():
        pass
    (preview,) = [progress.preview for progress in told if progress.preview is not None]
    small = painted[0].images[0].reshape(16, 8, 16, 8, 3).mean(axis=(1, 3))
    assert preview.shape == small.shape
    # As a table of colours would: far nearer than its own mirror image, or grey.
    error, mirrored = (np.abs(small - other).mean() for other in (preview, preview[::-1]))
    assert error < mirrored * 0.8
    assert error < 40
