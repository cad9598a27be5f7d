"""One server for all that is thrown at it, and what every answer is held to."""

import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest
import tritonclient.grpc as triton

from ..conftest import ServerProcess, run_server

# How many cases a run has; more are looked for at random, so few are always the same.
CASES = int(os.environ.get("NERITE_FUZZ_CASES", "0"))
_USUALLY = 1500
SECONDS = 20  # an answer that takes longer is none

answered: Counter[str] = Counter()

ECHO = """
    import triton_python_backend_utils as pb_utils

    def echo(tensor):
        name = tensor.name().replace("IN", "OUT", 1)
        if name.endswith("BF16"):  # which numpy does not know
            return pb_utils.Tensor.from_dlpack(name, tensor.to_dlpack())
        return pb_utils.Tensor(name, tensor.as_numpy())

    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse([echo(tensor) for tensor in request.inputs()])
                for request in requests
            ]
"""
COUNT = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                value = request.inputs()[0].as_numpy()
                for _ in range(min(3, len(value))):
                    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)]))
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
KINDS = ["BOOL", "UINT8", "UINT64", "INT16", "INT64", "FP16", "FP32", "FP64", "BF16", "STRING"]


def _tensors(side: str) -> str:
    """One tensor of each kind; a model need not be given all of them."""
    name, more = ("IN", "optional: true") if side == "input" else ("OUT", "")
    return "\n".join(
        f'{side} {{ name: "{name}_{kind}" data_type: TYPE_{kind} dims: [ -1 ] {more} }}'
        for kind in KINDS
    )


MODELS = {
    "echo": (f"max_batch_size: 0\n{_tensors('input')}\n{_tensors('output')}", ECHO),
    "batch": (
        """max_batch_size: 4
        dynamic_batching { }
        input { name: "IN" data_type: TYPE_FP32 dims: [ 2 ] }
        output { name: "OUT" data_type: TYPE_FP32 dims: [ 2 ] }""",
        ECHO,
    ),
    "count": (
        """max_batch_size: 0
        model_transaction_policy { decoupled: true }
        input { name: "IN" data_type: TYPE_STRING dims: [ -1 ] }
        output { name: "OUT" data_type: TYPE_STRING dims: [ -1 ] }""",
        COUNT,
    ),
}


def cases(share: float) -> hypothesis.settings:
    """`share` of all cases; a run as large as somebody asked for is another one each time."""
    return hypothesis.settings(
        max_examples=max(1, int((CASES or _USUALLY) * share)),
        deadline=None,
        database=None,
        derandomize=not CASES,
        print_blob=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with all of its doors open. At the end it must answer as it did at the start,
    its workers must be the ones that it started with, and nothing may have surprised it."""
    folder = tmp_path_factory.mktemp("fuzz")
    for name, (config, code) in MODELS.items():
        (folder / "models" / name / "1").mkdir(parents=True)
        (folder / "models" / name / "config.pbtxt").write_text(f'backend: "python"\n{config}')
        (folder / "models" / name / "1" / "model.py").write_text(textwrap.dedent(code))
    options = [
        f"--model-repository={folder / 'models'}",
        "--model-control-mode=explicit",
        "--load-model=*",
        "--allow-client-shm=true",
        "--http-max-input-size=65536",
        "--http-request-timeout=10",
    ]
    with run_server(folder / "log", *options) as server:
        _serves(server)
        yield server
        _serves(server)
    log = (folder / "log").read_text()
    assert "Traceback" not in log, log[-5000:]
    assert not re.search("worker of '.*' died", log), log[-5000:]


def _serves(server: ServerProcess) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        assert client.is_server_live()
        for name in MODELS:
            client.load_model(name)
        tensor = triton.InferInput("IN", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.array([[3, 4]], np.float32))
        answer = client.infer("batch", [tensor], client_timeout=SECONDS)
        assert answer.as_numpy("OUT").tolist() == [[3, 4]]


# What Triton answers with INTERNAL, and we with it: JSON that is none or of other types than
# expected, loads of what is not there, shared memory that cannot be opened, and Python's gRPC
# library where bytes are no message.
_INTERNAL = re.compile(
    r"failed to parse the .* JSON buffer|Unable to parse|Failed to parse 'data' field"
    r"|attempt to access|Unable to open shared memory region|failed to load '"
    r"|unexpected error on creating Triton parameter"
    r"|generate expects model to produce exactly 1 response"
)


def judge(door: str, status: str, text: str) -> None:
    """Count an answer; fail where it tells of a fault of the server's."""
    answered[f"{door} {status}"] += 1
    if status in ("500", "INTERNAL"):
        assert _INTERNAL.search(text), f"{door} {status}: {text}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CASES and answered:
        told = ", ".join(f"{what}: {count}" for what, count in sorted(answered.items()))
        terminalreporter.write_line(f"fuzz: {answered.total()} answers; {told}")
