"""`tritonserver` and `fastdeployserver`: the same server as Triton's scripts expect it."""

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nerite import painter

from .conftest import ADD_SUB, ADD_SUB_CODE, add_model

ROOT = Path(__file__).parents[2]
PORTS = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
NAMES = ["tritonserver", "fastdeployserver"]


def start(name: str, *arguments: str) -> "subprocess.Popen[str]":
    """As the console script does."""
    code = f"import sys; from nerite.cli import {name}; sys.exit({name}())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_they_are_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {name: project["scripts"][name] for name in NAMES} == {
        name: f"nerite.cli:{name}" for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_tritons_own_address(name: str, tmp_path: Path) -> None:
    add_model(tmp_path, "add_sub", ADD_SUB, ADD_SUB_CODE)
    with start(
        name, "--model-repository", str(tmp_path), "--http-thread-count=4", *PORTS
    ) as server:
        assert server.stdout is not None
        said = ""
        for line in server.stdout:
            said += line
            if "Started Metrics Service at 0.0.0.0:" in line:
                break
        server.send_signal(signal.SIGTERM)
        said += server.stdout.read()
    assert server.returncode == 0, said
    assert "Started HTTPService at 0.0.0.0:" in said
    assert "Started GRPCInferenceService at 0.0.0.0:" in said
    assert said.count("without effect here: --http-thread-count (one event loop") == 1
    for row in (
        "server_id ",
        "model_repository_path[0] ",
        "model_control_mode ",
        "strict_readiness ",
    ):
        assert f"| {row}" in said
    assert "MODE_NONE" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "error: creating server: Invalid argument - --model-repository must be specified"),
        (["--nonsense"], "error: unknown argument '--nonsense'; --help lists what there is"),
        (
            ["--http-port=9", "--grpc-port=9"],
            "error: The server cannot listen to HTTP requests and GRPC requests at the same "
            "address and port 0.0.0.0:9",
        ),
    ],
)
def test_exit_codes(arguments: list[str], expected: str) -> None:
    with start("tritonserver", *arguments) as server:
        assert server.stdout is not None
        said = server.stdout.read()
    assert server.returncode == 1
    assert said.splitlines()[-1] == expected


@pytest.mark.parametrize(
    ("folder", "command", "served"),
    [
        ("models", "tritonserver --model-repository=/models", True),
        ("models", "tritonserver --model-repository=/models --model-control-mode=poll", True),
        (
            "diffusion-models",
            "tritonserver --model-repository diffusion-models --model-control-mode explicit "
            "--load-model stable_diffusion_1_5",
            True,
        ),
        (".", "fastdeployserver --model-repository=.", True),
        ("elsewhere", "tritonserver --model-repository=/models", False),
    ],
)
def test_commands_of_tutorials(tmp_path: Path, folder: str, command: str, served: bool) -> None:
    """As they stand there, but for `/models`, which a test cannot make."""
    model = tmp_path / folder / "stable_diffusion_1_5"
    shutil.copytree(painter.REPOSITORY / "painter", model)
    (model / "config.pbtxt").write_text('backend: "diffusion"')
    ports = {f"NERITE_{name}_PORT": "0" for name in ("HTTP", "GRPC", "METRICS")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        ["bash", "-c", f"exec {command.replace('/models', str(tmp_path / 'models'))}"],
        cwd=tmp_path,
        env={**os.environ, **ports, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        assert server.stdout is not None
        said = ""
        for line in server.stdout:
            said += line
            if "Started Metrics Service at 0.0.0.0:" in line:
                server.send_signal(signal.SIGINT)
    assert server.returncode == (0 if served else 1), said
    assert ("| stable_diffusion_1_5 | 1       | READY  |" in said) == served
    assert ("the nearest folder that does is" in said) != served
