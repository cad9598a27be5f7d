"""The OCR example: what its models read, and the three ways to ask them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

OCR = Path(__file__).parents[2] / "examples" / "ocr"
SIGN = "harbour cafe open daily from 0900 until 1730 closed in winter"


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(OCR / script), *arguments]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_words_that_the_models_have_not_seen() -> None:
    said = run("evaluate.py", "--pictures", "25")
    match = re.fullmatch(r"(\d+) words: \d+ found, (\d+) right, .*", said)
    assert match, said
    total, right = int(match[1]), int(match[2])
    assert total > 150
    assert right / total >= 0.95, said


def test_the_models_are_small() -> None:
    sizes = [file.stat().st_size for file in OCR.glob("models/*/1/model.onnx")]
    assert len(sizes) == 2
    assert sum(sizes) < 2_000_000


def test_client_ensemble_and_pipeline(start_server: Any) -> None:
    pytest.importorskip("tritonclient.http")
    server = start_server("--model-repository", str(OCR / "models"))
    url = f"127.0.0.1:{server.http_port}"
    assert run("client.py", "--url", url) == SIGN
    assert run("one_request.py", "ocr", "--url", url) == SIGN
    assert run("one_request.py", "ocr_pipeline", "--url", url) == SIGN
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        for model in ("ocr", "ocr_pipeline"):
            tensor = triton.InferInput("PICTURE", [4], "UINT8")
            tensor.set_data_from_numpy(np.frombuffer(b"what", np.uint8))
            with pytest.raises(InferenceServerException, match="bytes of a picture file"):
                client.infer(model, [tensor])
