"""A folder that `nerite export` writes paints what its source paints, on onnxruntime."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from nerite.diffusion import Params, SafetyChecker, export

from . import checkers
from . import tiny as models

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")

REQUEST = Params("a red house in the snow", seed=5, steps=3, width=64, height=64, num_images=2)
IMAGE = np.random.default_rng(0).integers(0, 256, (96, 80, 3), np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """made(kind) -> (the folder, its export)"""
    folders = {}

    def get(kind):
        if kind not in folders:
            torch.set_num_threads(1)
            folder = tmp_path_factory.mktemp("export") / kind.replace(" ", "_")
            models.make(kind, folder)
            target = folder.with_name(f"{folder.name}-onnx")
            export.export_folder(folder, target, told=lambda part: None)
            folders[kind] = folder, target
        return folders[kind]

    return get


@pytest.mark.parametrize("kind", ["sd", "sd inpaint", "lcm", "sdxl", "sd3 without t5"])
def test_it_paints_what_torch_paints(made, kind):
    folder, target = made(kind)
    picture = {"image": IMAGE, "strength": 0.7, "steps": 5, "width": 80, "height": 96}
    changes = [picture, {}]
    if "inpaint" in kind:
        changes = [{**picture, "mask": np.full((96, 80), 255, np.uint8)}]
    for change in changes:
        params = replace(REQUEST, **change)
        painted = models.paint(target, params, "onnxruntime").astype(int)
        assert np.abs(painted - models.paint(folder, params)).max() <= 2


def test_text_encoders_give_what_the_tutorial_asks_for(made):
    graph = onnx.load(str(made("sd")[1] / "text_encoder" / "model.onnx")).graph
    assert [one.name for one in graph.input] == ["input_ids"]
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT32
    assert [one.name for one in graph.output][:2] == ["last_hidden_state", "pooler_output"]


def test_diffusers_own_onnx_pipeline_reads_it(made):
    from diffusers import OnnxStableDiffusionPipeline

    cpu = "CPUExecutionProvider"
    pipe = OnnxStableDiffusionPipeline.from_pretrained(made("sd")[1], provider=cpu)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a red house", num_inference_steps=2, height=64, width=64, output_type="np")
    assert picture.images.shape == (1, 64, 64, 3)


def test_the_safety_checker_is_written_too(made, tmp_path):
    from diffusers import OnnxStableDiffusionPipeline

    folder = checkers.write(tmp_path / "checked", flags="all")
    shutil.copytree(made("sd")[0], folder, dirs_exist_ok=True)
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    target = tmp_path / "onnx"
    export.export_folder(folder, target, told=lambda part: None)
    assert SafetyChecker(target).flag(IMAGE[None]).tolist() == [True]
    pipe = OnnxStableDiffusionPipeline.from_pretrained(target, provider="CPUExecutionProvider")
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a red house", num_inference_steps=1, height=64, width=64, output_type="np")
    assert picture.nsfw_content_detected == [True]


def test_large_weights_lie_beside_the_graph(made, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_ONE_FILE", 0)
    folder, _ = made("sd")
    target = tmp_path / "large"
    export.export_folder(folder, target, told=lambda part: None)
    names = sorted(file.name for file in (target / "unet").iterdir())
    assert names == ["config.json", "model.onnx", "model.onnx_data"]
    painted = models.paint(target, REQUEST, "onnxruntime").astype(int)
    assert np.abs(painted - models.paint(folder, REQUEST)).max() <= 2


def test_what_cannot_be_exported_is_said(tmp_path):
    models.make("pixart", tmp_path / "pixart")
    with pytest.raises(ValueError, match="PixArtAlphaPipeline cannot be exported"):
        export.export_folder(tmp_path / "pixart", tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
