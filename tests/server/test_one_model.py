"""`nerite serve --model`: a folder, a checkpoint or a hub's model, without a repository."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.conftest import run_server
from tests.diffusion import tiny
from tests.sources import checkpoints, hub

from nerite import painter

PAINTER = painter.REPOSITORY / "painter" / "1"


def paints(server: Any, name: str) -> bool:
    body = {
        "inputs": [
            {"name": "prompt", "shape": [1], "datatype": "BYTES", "data": ["a tree"]},
            {"name": "steps", "shape": [1], "datatype": "INT32", "data": [2]},
            {"name": "width", "shape": [1], "datatype": "INT32", "data": [64]},
            {"name": "height", "shape": [1], "datatype": "INT32", "data": [64]},
        ]
    }
    request = Request(f"{server.url}/v2/models/{name}/infer", json.dumps(body).encode())
    with urlopen(request, timeout=60) as answer:
        outputs = {one["name"]: one for one in json.load(answer)["outputs"]}
    return bool(outputs["generated_image"]["shape"] == [64, 64, 3])


def refusal(*arguments: str) -> str:
    command = [sys.executable, "-m", "nerite", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    return done.stderr


def test_a_folder_is_served_where_it_is(start_server: Any, tmp_path: Path) -> None:
    (tmp_path / "my painter").symlink_to(PAINTER)
    server = start_server("--model", str(tmp_path / "my painter"))
    assert paints(server, "my_painter")


def test_a_models_folder_of_triton_is_served_as_it_is(start_server: Any) -> None:
    assert paints(start_server("--model", str(PAINTER.parent)), "painter")


def test_a_hubs_model_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is stopped by an address that cannot be, after it has the model."""
    shutil.copytree(PAINTER, tmp_path / "hub" / "acme" / "painter")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    wanted = ("--model", "acme/painter", "--http-address", "no.such.invalid")
    wanted += ("--allow-grpc=false",)
    with hub.serve(tmp_path / "hub") as source:
        monkeypatch.setenv("HF_ENDPOINT", source.url)
        assert "no.such.invalid" in refusal(*wanted)
        assert source.asked
    assert "no.such.invalid" in refusal(*wanted)  # though there is no hub any more
    assert list((tmp_path / "cache" / "nerite" / "models").glob("painter-*/painter/1"))


@pytest.mark.filterwarnings("ignore")
def test_the_readmes_commands_serve_a_folder_of_sdxl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are written; the first installs packages, which a test does not."""
    pytest.importorskip("diffusers")
    tiny.make("sdxl", tmp_path / "my-sdxl")
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = [line for line in readme.splitlines() if "my-sdxl" in line or "[diffusion]'" in line]
    assert lines[1].startswith("pip install") and lines[2] == "nerite serve --model ./my-sdxl"
    monkeypatch.chdir(tmp_path)
    with run_server(tmp_path / "log", *lines[2].split()[2:]) as server:
        assert paints(server, "my-sdxl")
    command = [sys.executable, "-m", "nerite", "import", "./my-sdxl", "sdxl"]
    done = subprocess.run([*command, "--repository", "models"], capture_output=True, text=True)
    assert done.returncode == 0 and "StableDiffusionXLPipeline" in done.stdout
    assert (tmp_path / "models" / "sdxl" / "config.pbtxt").is_file()


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_is_converted_once(
    start_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    file = tmp_path / "dream v5.safetensors"
    checkpoints.write(checkpoints.make(tmp_path, xl=False), file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    text = refusal("--model", str(file))
    assert "--tokenizer DIR" in text and "Traceback" not in text
    command = [sys.executable, "-m", "nerite", "import", str(file), "dream"]
    subprocess.run([*command, "--tokenizer", "words"], cwd=tmp_path, check=True)
    server = start_server("--model", str(tmp_path / "models" / "dream"))
    assert paints(server, "dream")


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    assert "is no folder, no file and no id of a hub" in refusal("--model", "/no/such/folder")
    assert "holds no model_index.json" in refusal("--model", str(tmp_path))
    shutil.copytree(PAINTER, tmp_path / "cut")
    weights = tmp_path / "cut" / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(weights, 1000)
    assert "is not a safetensors file, or cut off" in refusal("--model", str(tmp_path / "cut"))
