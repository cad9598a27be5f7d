"""The examples run: each model of the repository answers, each script says what it should."""

import queue
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype

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


def test_batched_cached_and_warm(start_server: Any) -> None:
    flags = ["--cache-config=local,size=1048576", "--rate-limit=execution_count"]
    server = start_server("--model-repository", str(EXAMPLES), *flags)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for number in range(8):
            asked = [tensor("NUMBER", np.array([[number]], np.float32))]
            client.async_infer("batched", asked, lambda result, error: answers.put(error or result))
        found = [answers.get(timeout=30) for _ in range(8)]
        squares = sorted(float(one.as_numpy("SQUARE")[0, 0]) for one in found)
        assert squares == [number**2 for number in range(8)]
        assert max(int(one.as_numpy("TOGETHER")[0, 0]) for one in found) > 1

        for _ in range(2):
            answer = client.infer("cached", [tensor("QUESTION", np.array([b"what"], object))])
            assert answer.as_numpy("ANSWER").tolist() == [b"tahw (execution 1)"]

        vectors = tensor("VECTOR", np.array([[3, 4, 0], [0, 0, 1]], np.float32))
        answer = client.infer("warm", [vectors])
        assert answer.as_numpy("LENGTH").tolist() == [[5], [1]]
        assert answer.as_numpy("EXECUTIONS").tolist() == [[3], [3]]


def test_counter_and_sum_of_squares(start_server: Any) -> None:
    server = start_server("--model-repository", str(EXAMPLES))
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        four = [tensor("TO", np.array([4], np.int32))]
        client.start_stream(lambda result, error: answers.put(error or result))
        client.async_stream_infer("counter", four)
        numbers = [int(answers.get(timeout=30).as_numpy("NUMBER")[0]) for _ in range(4)]
        client.stop_stream()
        assert numbers == [1, 2, 3, 4]
        assert client.infer("sum_of_squares", four).as_numpy("SUM").tolist() == [30]


def test_pipeline(start_server: Any) -> None:
    server = start_server("--model-repository", str(EXAMPLES))
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        client.start_stream(lambda result, error: answers.put(error or result))
        text = np.array([b"Snails are slow. They carry houses."], object)
        client.async_stream_infer("pipeline", [tensor("TEXT", text)])
        found = [answers.get(timeout=30) for _ in range(2)]
        client.stop_stream()
    loud = [(one.as_numpy("WORDS")[0], one.as_numpy("LOUD")[0]) for one in found]
    assert loud == [(3, b"SNAILS ARE SLOW!"), (3, b"THEY CARRY HOUSES!")]


def test_sequences(start_server: Any) -> None:
    server = start_server("--model-repository", str(EXAMPLES))
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        sums = []
        for value in (1, 2, 3):
            for id in (7, "a text"):
                asked = [tensor("VALUE", np.array([[value * len(str(id))]], np.float32))]
                flags = {"sequence_start": value == 1, "sequence_end": value == 3}
                answer = client.infer("sequence_sum", asked, sequence_id=id, **flags)
                sums.append(float(answer.as_numpy("SUM")[0, 0]))
        assert sums == [1, 6, 3, 18, 6, 36]

        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.start_stream(lambda result, error: answers.put(error or result))
        asked = [tensor("FROM", np.array([[3]], np.int32))]
        client.async_stream_infer("sequence_countdown", asked)
        counted = [answers.get(timeout=30).as_numpy("NUMBER").item() for _ in range(4)]
        assert counted == [3, 2, 1, 0]
        client.stop_stream()


def tensor(name: str, array: np.ndarray) -> triton.InferInput:
    asked = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    asked.set_data_from_numpy(array)
    return asked


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
