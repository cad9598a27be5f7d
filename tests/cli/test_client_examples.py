"""The clients of examples/clients, each as its user runs it, against a real server."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import np_to_triton_dtype

CLIENTS = Path(__file__).parents[2] / "examples" / "clients"
NO_NETWORK = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pictures(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for file in folder.glob("*.png"):
        with Image.open(file) as image:
            found[file.name] = image.size
    return found


def test_openai(painter_server: Any, tmp_path: Path) -> None:
    script = str(CLIENTS / "openai_images.py")
    said = run(tmp_path, sys.executable, script, f"{painter_server.url}/v1")
    assert "house.png, seed 7" in said
    assert said.count("preview") == 2
    assert "size: size is 100x100" in said
    names = ("house.png", "balloon.png", "blue.png")
    assert pictures(tmp_path) == {name: (128, 128) for name in names}


def test_tritonclient_over_http(painter_server: Any, tmp_path: Path) -> None:
    address = f"127.0.0.1:{painter_server.http_port}"
    said = run(tmp_path, sys.executable, str(CLIENTS / "triton_http.py"), address)
    assert said == "lighthouse.png (128, 128, 3) seed 7\n"
    assert pictures(tmp_path) == {"lighthouse.png": (128, 128)}


def test_tritonclient_on_a_stream(painter_server: Any, tmp_path: Path) -> None:
    address = f"127.0.0.1:{painter_server.grpc_port}"
    said = run(tmp_path, sys.executable, str(CLIENTS / "triton_stream.py"), address)
    steps = re.findall(r"^step (\d) of 8 ?(.*)$", said, re.MULTILINE)
    assert [int(step) for step, _ in steps] == list(range(1, 9))
    assert sum(bool(preview) for _, preview in steps) == 3
    assert pictures(tmp_path) == {"sailboat.png": (128, 128)}


def test_tritonclient_as_a_tutorial_asks(start_server: Any, models: Path, tmp_path: Path) -> None:
    """Batches of prompts, [-1, 1], of a model that was given its name by NVIDIA's tutorial."""
    server = start_server("--model-repository", str(models))
    prompts = np.array([b"butterfly in new york, 4k, realistic"], object).reshape((-1, 1))
    asked = triton.InferInput("prompt", list(prompts.shape), np_to_triton_dtype(prompts.dtype))
    asked.set_data_from_numpy(prompts)
    wanted = triton.InferRequestedOutput("generated_image")
    with triton.InferenceServerClient(f"127.0.0.1:{server.http_port}") as client:
        answer = client.infer("stable_diffusion_1_5", [asked], outputs=[wanted])
    pixels = np.squeeze(answer.as_numpy("generated_image").astype(np.uint8))
    Image.fromarray(pixels).save(tmp_path / "client_0_generated_image_0.jpg")
    assert pixels.shape == (128, 128, 3)


def test_our_own(painter_server: Any, tmp_path: Path) -> None:
    address = f"127.0.0.1:{painter_server.http_port}"
    said = run(tmp_path, sys.executable, str(CLIENTS / "nerite_client.py"), address)
    assert "preview 0" in said and "preview 1" in said
    assert "job succeeded" in said
    assert "size: size is 100x100" in said
    names = ("house.png", "tree-3.png", "tree-4.png", "blue.png")
    assert pictures(tmp_path) == {name: (128, 128) for name in names}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(painter_server: Any, tmp_path: Path) -> None:
    said = run(tmp_path, "sh", str(CLIENTS / "curl.sh"), painter_server.url)
    assert pictures(tmp_path) == {"kitten.png": (128, 128)}
    assert "event: image_generation.progress" in said
    assert "event: image_generation.completed" in said
    assert (tmp_path / "edited.json").stat().st_size > 1000


@pytest.fixture
def page(painter_server: Any, tmp_path: Path, free_ports: tuple[int, int, int]) -> Iterator[str]:
    """The address of the Gradio page."""
    url = f"http://127.0.0.1:{free_ports[0]}"
    command = [sys.executable, str(CLIENTS / "gradio_page.py"), "--port", str(free_ports[0])]
    command += ["--triton_url", f"127.0.0.1:{painter_server.grpc_port}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=log, stderr=log, env=os.environ | NO_NETWORK
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urlopen(url, timeout=30):
                    break
            except OSError:
                alive = process.poll() is None and time.monotonic() < deadline
                assert alive, (tmp_path / "log").read_text()
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_gradio(page: str, tmp_path: Path) -> None:
    """Its own client asks as the page does: previews come first, then the picture."""
    code = (
        "import sys; from gradio_client import Client;"
        "job = Client(sys.argv[1], verbose=False).submit('a red house', 8, api_name='/generate');"
        "print(job.result()); print(len(job.outputs()))"
    )
    path, count = run(tmp_path, sys.executable, "-c", code, page).split()
    with Image.open(path) as image:
        assert image.size == (128, 128)
    assert int(count) == 4
