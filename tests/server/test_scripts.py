"""`tritonserver` and `fastdeployserver`: the same server as Triton's scripts expect it."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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
