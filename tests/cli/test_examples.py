"""The examples run: each model of the repository answers, each script says what it should."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "models"
IN_PROCESS = ROOT / "docs" / "in-process.md"


def test_add_sub(start_server: Any) -> None:
    server = start_server("--model-repository", str(EXAMPLES))
    vectors = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
    inputs = [triton.InferInput(f"INPUT{number}", [1, 4], "FP32") for number in (0, 1)]
    for tensor, vector in zip(inputs, vectors, strict=True):
        tensor.set_data_from_numpy(vector)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        answer = client.infer("add_sub", inputs)
    assert np.array_equal(answer.as_numpy("OUTPUT0"), vectors[0] + vectors[1])
    assert np.array_equal(answer.as_numpy("OUTPUT1"), vectors[0] - vectors[1])


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("on_a_loop", "[1.0, 1.0, 1.0, 1.0]"),
        ("on_a_loop", "INVALID_ARG [request id: <id_unknown>] expected 2 inputs but got 1"),
        ("in_threads", "[[6.0, 6.0, 6.0, 6.0]]"),
        ("triton_api", "[[2. 2. 2. 2.]]"),
        ("triton_api", "('add_sub', 1): {'name': 'add_sub', 'version': 1, 'state': 'UNAVAILABLE'}"),
    ],
)
def test_scripts_in_process(script: str, said: str) -> None:
    assert said in run(str(ROOT / "examples" / "in_process" / f"{script}.py"))


@pytest.mark.parametrize(
    "code", re.findall(r"^```python\n(.*?)^```$", IN_PROCESS.read_text(), re.MULTILINE | re.DOTALL)
)
def test_what_the_page_shows(code: str) -> None:
    assert re.search(r"\[\[[20]\. ", run("-c", code))


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
