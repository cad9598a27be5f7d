"""The repository that `nerite export --pipeline` writes paints what the engine paints."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as httpclient
from tests.diffusion import tiny

from nerite.diffusion import Params

from .conftest import Serve

pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(the model's folder, the repository, what the command said)"""
    folder = tmp_path_factory.mktemp("bls")
    tiny.make("sd", folder / "sd")
    command = [sys.executable, "-m", "nerite", "export", "sd", "--pipeline", "repository"]
    done = subprocess.run(
        [*command, "--tensorrt"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder / "sd", folder / "repository", done.stdout


def asked(url: str, **values: Any) -> httpclient.InferResult:
    kinds = {"seed": np.int64, "steps": np.int32, "guidance_scale": np.float32}
    inputs = []
    for name, value in values.items():
        array = np.array([[value]], kinds.get(name, object))
        datatype = {np.int64: "INT64", np.int32: "INT32", np.float32: "FP32"}
        one = httpclient.InferInput(name, [1, 1], datatype.get(kinds.get(name), "BYTES"))
        one.set_data_from_numpy(array)
        inputs.append(one)
    with httpclient.InferenceServerClient(url, network_timeout=120) as client:
        return client.infer("pipeline", inputs)


def test_it_paints_what_the_engine_paints(serve: Serve, exported: tuple[Path, Path, str]) -> None:
    folder, repository, _ = exported
    serving = serve(f"--model-repository={repository}")
    prompt, avoided = b"a red house in the snow", b"a moon"
    answer = asked(
        serving.http, prompt=prompt, negative_prompt=avoided, seed=5, steps=4, guidance_scale=3.0
    )
    painted = answer.as_numpy("generated_image")
    assert (painted.shape, painted.dtype) == ((1, 64, 64, 3), np.float32)
    params = Params(
        prompt.decode(), avoided.decode(), seed=5, steps=4, guidance_scale=3.0, width=64, height=64
    )
    assert np.abs(painted - tiny.paint(folder, params)).max() <= 2
    other = asked(serving.http, prompt=prompt, steps=2).as_numpy("generated_image")
    assert (other != painted).any()


def test_the_models_have_the_tutorials_tensors(exported: tuple[Path, Path, str]) -> None:
    _, repository, said = exported
    text = (repository / "text_encoder" / "config.pbtxt").read_text()
    assert 'name: "input_ids" data_type: TYPE_INT32' in text
    assert "last_hidden_state" in text and "pooler_output" in text
    vae = (repository / "vae" / "config.pbtxt").read_text()
    assert 'platform: "onnxruntime_onnx"' in vae
    assert 'name: "latent_sample"' in vae and 'name: "sample"' in vae
    assert "vae stays in ONNX: TensorRT is not installed" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "has no model nothing"),
        (["sd", "--output", "."], ". is there already"),
        (["onnx", "--output", "again"], "cannot be exported"),
    ],
)
def test_what_cannot_be_exported(
    exported: tuple[Path, Path, str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "sd").symlink_to(exported[0])
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    command = [sys.executable, "-m", "nerite", "export", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("nerite export: ") and said in done.stderr
