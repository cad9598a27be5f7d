"""Graphs on OpenVINO: the same pictures in float32, near ones in bfloat16, strict bytes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nerite.diffusion
from nerite.diffusion import Params, open_pipeline
from nerite.diffusion.runtimes import choice, openvino

from .tiny import paint_together as paint

pytest.importorskip("openvino")

pytestmark = pytest.mark.filterwarnings("ignore")

PAINTER = Path(nerite.diffusion.__file__).parents[1] / "painter" / "repository" / "painter" / "1"
REQUEST = Params("a red house in the snow", seed=5, steps=8, width=64, height=64)


def distance(one, other):
    return np.abs(one.astype(int) - other.astype(int))


def wait(pipeline):
    pipeline._family._unet._network._buckets.wait()


@pytest.mark.parametrize("steady", [False, True])
def test_float32_is_what_onnxruntime_paints(tiny, steady):
    rows = 4 if steady else None
    pipeline = open_pipeline(tiny[0], threads=1, runtime="openvino", fixed_rows=rows)
    others = [replace(REQUEST, seed=seed, steps=seed + 4) for seed in range(4)]
    requests = [REQUEST, *others, replace(REQUEST, width=72, height=104)]
    expected = paint(open_pipeline(tiny[0], threads=1), *requests)
    assert expected[0].std() > 5
    for turn in range(3):  # without variants for single shapes, then with more and more
        for one, other in zip(paint(pipeline, *requests), expected, strict=True):
            assert distance(one, other).max() <= 2, turn
        wait(pipeline)
    assert pipeline._family._unet._network._buckets._made


def test_strict_bytes_do_not_depend_on_neighbours_or_time(tiny):
    pipeline = open_pipeline(tiny[0], threads=1, runtime="openvino", fixed_rows=4)
    (first,) = paint(pipeline, REQUEST)
    neighbours = [replace(REQUEST, seed=seed, num_images=2) for seed in range(4)]
    for _ in range(3):
        assert paint(pipeline, REQUEST, *neighbours)[0].tobytes() == first.tobytes()


def test_bfloat16_is_near(tiny):
    (expected,) = paint(open_pipeline(tiny[0], threads=1), REQUEST)
    pipeline = open_pipeline(tiny[0], threads=1, dtype="bfloat16")
    network = pipeline._family._unet._network
    assert isinstance(network, openvino.OpenVinoNetwork)  # by default, where it is installed
    (painted,) = paint(pipeline, REQUEST)
    assert distance(painted, expected).mean() < 5


@pytest.mark.skipif(not any(PAINTER.glob("unet/model.onnx")), reason="no painter's weights")
def test_weights_outside_of_a_graphs_folder_are_found():
    request = Params("a red house in the snow", seed=7, steps=4, width=128, height=128)
    (expected,) = paint(open_pipeline(PAINTER), request)
    (painted,) = paint(open_pipeline(PAINTER, runtime="openvino"), request)
    assert distance(painted, expected).max() <= 2


def test_a_processor_without_bfloat16_computes_in_float32_and_says_so(tiny, monkeypatch, caplog):
    monkeypatch.setattr(openvino, "_has_bf16", lambda core: False)
    pipeline = open_pipeline(tiny[0], threads=1, runtime="openvino", dtype="bfloat16")
    assert "does not compute in bfloat16" in caplog.text
    (expected,) = paint(open_pipeline(tiny[0], threads=1), REQUEST)
    assert distance(paint(pipeline, REQUEST)[0], expected).max() <= 2


def test_a_broken_graph_is_named(tiny, tmp_path):
    folder = shutil.copytree(tiny[0], tmp_path / "broken")
    (folder / "unet" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match="unet/model.onnx cannot be loaded"):
        open_pipeline(folder, runtime="openvino")


def test_little_memory_leaves_no_room_for_variants(tiny, monkeypatch):
    monkeypatch.setattr(openvino, "memory_available", lambda: 1000)
    assert openvino._most(tiny[0] / "unet" / "model.onnx", steady=False) == 0
    assert openvino._most(tiny[0] / "unet" / "model.onnx", steady=True) > 0
    monkeypatch.setattr(openvino, "memory_available", lambda: 1 << 40)
    assert openvino._most(tiny[0] / "unet" / "model.onnx", steady=False) > 0


@pytest.mark.parametrize(
    ("graph", "weights", "device", "dtype", "installed", "expected"),
    [
        (True, True, "cpu", "auto", True, "onnxruntime"),
        (True, False, "cpu", "float32", True, "onnxruntime"),
        (True, True, "cpu", "bfloat16", True, "openvino"),
        (True, True, "cpu", "bfloat16", False, "torch"),
        (True, False, "cpu", "bfloat16", False, "onnxruntime"),
        (False, True, "cpu", "bfloat16", True, "torch"),
        (True, True, "cuda", "auto", True, "torch"),
        (True, False, "cuda", "auto", True, "onnxruntime"),
    ],
)
def test_the_default_is_what_measured_fastest(
    monkeypatch, graph, weights, device, dtype, installed, expected
):
    monkeypatch.setattr(openvino, "is_there", lambda: installed)
    assert choice._fastest(graph, weights, device, dtype, torch=True) == expected


def test_what_is_not_served_names_the_remedy(tiny, monkeypatch):
    with pytest.raises(ValueError, match="openvino serves 'cpu'"):
        open_pipeline(tiny[0], runtime="openvino", device="cuda")
    with pytest.raises(ValueError, match="dtype is 'half': it must be one of auto, float32"):
        open_pipeline(tiny[0], runtime="openvino", dtype="half")
    with pytest.raises(ValueError, match="pip install openvino"):
        open_pipeline(tiny[0], runtime="onnxruntime", dtype="bfloat16")
    monkeypatch.setattr(openvino, "is_there", lambda: False)
    with pytest.raises(ValueError, match="not here: pip install 'nerite"):
        open_pipeline(tiny[0], runtime="openvino")
