"""A pipeline of diffusers without a family here: whole requests, steps seen from outside."""

import inspect
import threading

import numpy as np
import pytest

from nerite.diffusion import Aborted, Engine, InvalidParams, Painted, Params, Watch, open_pipeline

from . import tiny as models

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")

REQUEST = Params("a red house", seed=5, steps=3, guidance_scale=3.0, width=64, height=64)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """(diffusers' PixArt-alpha with random weights, our pipeline for it)"""
    folder = tmp_path_factory.mktemp("general") / "pixart"
    torch.set_num_threads(1)
    return models.make("pixart", folder), open_pipeline(folder, threads=1)


def expect(theirs, params):
    images = theirs(
        params.prompt,
        negative_prompt=params.negative_prompt,
        num_inference_steps=params.steps,
        guidance_scale=params.guidance_scale,
        height=params.height,
        width=params.width,
        generator=torch.Generator().manual_seed(params.seed),
        output_type="np",
        use_resolution_binning=False,
    ).images
    return (images * 255).round().astype(np.uint8)


def test_the_usual_is_the_pipelines_own(opened):
    usual = inspect.signature(type(opened[0]).__call__).parameters
    limits = opened[1].limits
    assert limits.steps == usual["num_inference_steps"].default
    assert limits.guidance_scale == usual["guidance_scale"].default != Params("").guidance_scale


def test_requests_of_equal_settings_share_a_round(opened):
    theirs, ours = opened
    engine, painted, told = Engine(ours), {}, []
    for seed in (5, 9):
        params = Params("a red house", seed=seed, steps=3, guidance_scale=3.0, width=64, height=64)
        engine.add(
            params,
            lambda event, params=params: painted.update({params: event}),
            watch=Watch(told.append) if seed == 5 else None,
        )
    turns = 0
    while engine.step():
        turns += 1
    assert turns <= 4
    for params, event in painted.items():
        assert isinstance(event, Painted), event
        difference = np.abs(event.images.astype(int) - expect(theirs, params).astype(int))
        assert difference.max() <= 2
    assert [progress.step for progress in told] == [1, 2, 3]


def test_aborting_ends_the_call_of_the_pipeline(opened):
    _, ours = opened
    engine, events = Engine(ours), []
    ticket = engine.add(Params("a", steps=50, width=64, height=64), events.append)
    engine.step()
    engine.abort(ticket)
    engine.step()
    assert [type(event) for event in events] == [Aborted]
    assert not any(thread.name == "diffusion-round" for thread in threading.enumerate())


def test_a_failing_call_is_the_requests_error(opened, monkeypatch):
    _, ours = opened

    def fail(*arguments, **options):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(ours._pipe.transformer, "forward", fail)
    engine, events = Engine(ours), []
    engine.add(REQUEST, events.append)
    while engine.step():
        pass
    assert str(events[0]) == "no such luck"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scheduler": "euler"}, "scheduler"),
        ({"clip_skip": 1}, "clip_skip"),
        ({"image": np.zeros((64, 64, 3), np.uint8)}, "image"),
        ({"width": 60}, "width"),
    ],
)
def test_what_the_pipeline_does_not_know_is_refused(opened, change, field):
    with pytest.raises(InvalidParams) as refusal:
        opened[1].check(Params("a", **{"width": 64, "height": 64, **change}))
    assert refusal.value.field == field


def test_a_pipeline_that_diffusers_does_not_have(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "MagicPipeline"}')
    with pytest.raises(ValueError, match="'MagicPipeline', which diffusers .* does not have"):
        open_pipeline(tmp_path)
