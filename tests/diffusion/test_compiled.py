"""torch.compile: pictures stay what they are, and the network serves while it compiles."""

import os
from dataclasses import replace

import numpy as np
import pytest

from nerite.diffusion import Engine, Params, open_pipeline
from nerite.diffusion.runtimes import compiled
from nerite.diffusion.settings import Settings
from nerite.diffusion.vae import Vae

from . import tiny as models
from .tiny import paint_together as paint

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")

REQUEST = Params("a red house in the snow", seed=5, steps=6, width=64, height=64)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """No user's cache: neither read nor written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "nerite"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "sd"
    models.make("sd", path)
    return path


def with_backend(monkeypatch, backend):
    make = compiled.compiler

    def compiler(forward, device, how):
        return make(forward, device, how, backend)

    monkeypatch.setattr(compiled, "compiler", compiler)


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_pictures_are_the_same_before_and_after(folder, monkeypatch, tmp_path, backend):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with_backend(monkeypatch, backend)
    (expected,) = paint(open_pipeline(folder, threads=1), REQUEST)
    pipeline = open_pipeline(folder, threads=1, compile="on")
    buckets = pipeline._family._unet._network.buckets
    for _ in range(2):
        (painted,) = paint(pipeline, REQUEST)
        assert np.abs(painted.astype(int) - expected.astype(int)).max() <= 2
        buckets.wait()
    assert [dict(shape)["sample"] for shape in buckets._made] == [(2, 4, 8, 8)]
    again = open_pipeline(folder, threads=1, compile="on")._family._unet._network.buckets
    again.wait()
    assert again._made.keys() == buckets._made.keys()  # before anybody asked
    if backend == "inductor":
        assert any(tmp_path.rglob("*"))  # which the next start finds


def test_strict_compiles_at_once(folder, monkeypatch):
    with_backend(monkeypatch, "eager")
    pipeline = open_pipeline(folder, threads=1, compile="on", fixed_rows=4)
    (first,) = paint(pipeline, REQUEST)
    assert paint(pipeline, REQUEST, replace(REQUEST, seed=6))[0].tobytes() == first.tobytes()
    shapes = [dict(shape) for shape in pipeline._family._unet._network.buckets._made]
    of_pictures = [one["sample"] for one in shapes if one["sample"][2:] == (8, 8)]
    assert of_pictures == [(4, 4, 8, 8)]  # beside those that the load tried


def test_shapes_are_remembered_and_a_broken_memory_is_an_empty_one(cache):
    cpu = torch.device("cpu")
    shapes = compiled.Shapes("a network", cpu)
    assert shapes.known() == []
    for rows in (2, 4, 2):
        shapes.add({"sample": torch.ones(rows, 3, dtype=torch.bfloat16), "ids": torch.arange(rows)})
    found = compiled.Shapes("a network", cpu).known()
    assert [tuple(feeds["sample"].shape) for feeds in found] == [(2, 3), (4, 3)]
    assert (found[0]["sample"].dtype, found[0]["ids"].dtype) == (torch.bfloat16, torch.int64)
    assert compiled.Shapes("another network", cpu).known() == []
    (file,) = (cache / "shapes").iterdir()
    for broken in ("{", "[1]", '[{"sample": [[2], "nothing"]}]'):
        file.write_text(broken)
        assert shapes.known() == []


def test_levels():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert compiled.level("auto", cpu) == "off"
    assert compiled.level("auto", cuda) == "on"
    assert compiled.level("max", cpu) == "max"
    with pytest.raises(ValueError, match="compile is 'fast': it must be one of auto, off, on, max"):
        compiled.level("fast", cpu)


def test_results_are_kept_in_the_users_cache_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    compiled.prepare()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "nerite" / "inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    compiled.prepare()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere"


def test_tiles_by_wish(folder):
    (expected,) = paint(open_pipeline(folder, threads=1), REQUEST)
    pipeline = open_pipeline(folder, threads=1, vae_tiling="on")
    assert pipeline._family.vae._decoder._module.use_tiling
    (painted,) = paint(pipeline, REQUEST)  # of four tiles, each with norms of its own
    assert painted.shape == expected.shape
    assert not np.array_equal(painted, expected)
    with pytest.raises(ValueError, match="vae_tiling is 'yes': it must be one of auto, on, off"):
        open_pipeline(folder, vae_tiling="yes")


@pytest.mark.parametrize("tiling", ["auto", "off"])
def test_tiles_once_memory_runs_out_over_one_picture(folder, monkeypatch, caplog, tiling):
    pipeline = open_pipeline(folder, threads=1, vae_tiling=tiling)
    module = pipeline._family.vae._decoder._module
    decode = module.decode

    def choke(*arguments, **options):
        if not module.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(*arguments, **options)

    module.decode = choke
    if tiling == "off":
        engine, events = Engine(pipeline), []
        engine.add(REQUEST, events.append)
        while engine.step():
            pass
        assert isinstance(events[0], torch.OutOfMemoryError)
        return
    two = [REQUEST, replace(REQUEST, seed=6)]
    assert [len(images) for images in paint(pipeline, *two)] == [1, 1]
    assert caplog.text.count("the VAE works in tiles now") == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_graphs_on_a_gpu_paint_the_same(folder):
    requests = [replace(REQUEST, seed=seed, steps=seed + 8) for seed in range(6)]
    settings = Settings(device="cuda", dtype="float32", compile="off")
    expected = paint(open_pipeline(folder, settings), *requests)
    pipeline = open_pipeline(folder, settings, compile="on")
    for _ in range(3):
        for one, other in zip(paint(pipeline, *requests), expected, strict=True):
            assert np.abs(one.astype(int) - other.astype(int)).max() <= 2
        pipeline._family._unet._network.buckets.wait()
    made = pipeline._family._unet._network.buckets._made
    assert any(run._graph is not None for run in made.values())
    assert isinstance(pipeline._family.vae, Vae)
