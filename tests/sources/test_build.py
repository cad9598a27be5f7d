"""`nerite build` fills what Triton's tutorial leaves empty; its backend's own tree is served."""

import os
import shutil

import pytest
from tests.diffusion import tiny
from tests.sources import hub

from nerite import painter
from nerite.diffusion import Params, find_model_folder
from nerite.sources.versions import source_of
from nerite.sources.weights import SourceError

PAINTER = painter.REPOSITORY / "painter" / "1"
CONFIG = """
backend: "diffusion"
max_batch_size: 1
dynamic_batching {{ max_queue_delay_microseconds: 100000 }}
input [
  {{ name: "prompt" data_type: TYPE_STRING dims: [1] }},
  {{ name: "negative_prompt" data_type: TYPE_STRING dims: [1] optional: true }}
]
output [ {{ name: "generated_image" data_type: TYPE_UINT8 dims: [ -1, -1, -1] }} ]
instance_group [ {{ count: 1 kind: KIND_GPU gpus: [0] }} ]
parameters [
  {{ key: "onnx_opset" value: {{ string_value: "18" }} }},
  {{ key: "image_height" value: {{ string_value: "64" }} }},
  {{ key: "image_width" value: {{ string_value: "64" }} }},
  {{ key: "steps" value: {{ string_value: "3" }} }},
  {{ key: "scheduler" value: {{ string_value: "LMSD" }} }},
  {{ key: "guidance_scale" value: {{ string_value: "7.5" }} }},
  {{ key: "seed" value: {{ string_value: "" }} }},
  {{ key: "version" value: {{ string_value: "{version}" }} }},
  {{ key: "force_engine_build" value: {{ string_value: "{force}" }} }}
]
"""


@pytest.fixture
def unfilled(tmp_path):
    """A model of the tutorial: its config, and an empty version folder."""

    def add(name, version, force=""):
        folder = tmp_path / "diffusion-models" / name
        (folder / "1").mkdir(parents=True, exist_ok=True)
        (folder / "config.pbtxt").write_text(CONFIG.format(version=version, force=force))
        return folder

    return add


def test_every_empty_model_is_filled(nerite, unfilled, tmp_path) -> None:
    shutil.copytree(PAINTER, tmp_path / "hub" / "acme" / "painter")
    folder = unfilled("one", "acme/painter")
    other = unfilled("two", str(PAINTER))
    with hub.serve(tmp_path / "hub") as server:
        home = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        done = nerite("build", env=os.environ | home)
        assert done.returncode == 0, done.stderr
        server.asked.clear()
        again = nerite("build", "--model", "one", env=os.environ | home)
        assert "holds its model" in again.stdout and not server.asked
        unfilled("one", "acme/painter", force="yes")
        forced = nerite("build", "--model", "one", env=os.environ | home)
        assert "fetching acme/painter" in forced.stdout and server.asked
    assert find_model_folder(folder / "1") == folder / "1" / "painter-pytorch_model"
    assert (find_model_folder(other / "1") / "unet" / "model.onnx").is_file()


def test_time_runs_out(nerite, unfilled, tmp_path) -> None:
    shutil.copytree(PAINTER, tmp_path / "hub" / "acme" / "painter")
    folder = unfilled("slow", "acme/painter")
    with hub.serve(tmp_path / "hub", stuck="vae/config.json") as server:
        home = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        done = nerite("build", "--timeout", "4", env=os.environ | home)
    assert done.returncode == 1
    assert "slow was not there after 4 s" in done.stderr
    assert list((folder / "1").iterdir()) == []


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("9.9", "version is '9.9': it must be one of 1.4, 1.5, xl-1.0"),
        ("", "the parameter version says what the model is"),
    ],
)
def test_a_version_that_says_nothing_is_refused(nerite, unfilled, version, said) -> None:
    unfilled("one", version)
    done = nerite("build")
    assert done.returncode == 1 and said in done.stderr


def test_check_names_the_command_that_fills_a_model(nerite, unfilled) -> None:
    unfilled("one", "1.5")
    said = nerite("check", "diffusion-models").stdout
    assert "nerite build --model one --model-repository diffusion-models" in said


def test_an_unknown_model_is_refused(nerite, unfilled) -> None:
    unfilled("one", "1.5")
    done = nerite("build", "--model", "two")
    assert (done.returncode, "has no model two; there are one" in done.stderr) == (1, True)


def test_versions_of_the_tutorial() -> None:
    assert source_of("1.5") == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert source_of("xl-1.0") == "stabilityai/stable-diffusion-xl-base-1.0"
    assert source_of(str(PAINTER)) == str(PAINTER)
    with pytest.raises(SourceError, match="OWNER/NAME"):
        source_of("xl")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_the_tree_of_tritons_own_backend_is_served(made, tmp_path, kind) -> None:
    """`nerite` reads the parts that it saved, and lets its graphs and engines lie."""
    version = "xl-1.0" if kind == "sdxl" else "1.5"
    folder = tmp_path / "1"
    saved = folder / f"{version}-pytorch_model" / version / "TXT2IMG"
    shutil.copytree(made(kind), saved)
    (saved / "model_index.json").unlink()
    (saved / "lmsdiscretescheduler").mkdir()
    (saved / "scheduler").rename(saved / "lmsdiscretescheduler" / "scheduler")
    for name in (f"{version}-onnx", f"{version}-engine-batch-size-1"):
        (folder / name).mkdir()
    assembled = find_model_folder(folder)
    params = Params("a red house", steps=2, width=64, height=64)
    painted = [tiny.paint(one, params) for one in (assembled, made(kind))]
    assert (painted[0] == painted[1]).all()
    shutil.rmtree(saved / "lmsdiscretescheduler")
    assert tiny.paint(find_model_folder(folder), params).shape == (1, 64, 64, 3)
