"""Mixed load for minutes, while one model's worker is killed again and again.

    python benchmarks/soak.py [--minutes N] [--every SECONDS]

No request may go unanswered, and no model but the one whose worker is killed may answer with an
error: the exit status says so. Python models over HTTP (small, large, asking another by BLS), an
ensemble, and a decoupled model over a gRPC stream.
"""

import argparse
import collections
import os
import queue
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from loads import IDENTITY, IDENTITY_CODE
from serving import Running, serve
from tritonclient.utils import InferenceServerException

PATIENCE = 60.0  # seconds after which a request counts as unanswered
VICTIM = """
max_batch_size: 16
dynamic_batching { }
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] },
         { name: "PID" data_type: TYPE_INT64 dims: [ 1 ] } ]
"""
VICTIM_CODE = """
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.002)
        answers = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            process = np.full((len(given), 1), os.getpid(), dtype=np.int64)
            tensors = [pb_utils.Tensor("OUTPUT0", given), pb_utils.Tensor("PID", process)]
            answers.append(pb_utils.InferenceResponse(tensors))
        return answers
"""
ASKING_CODE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            asked = pb_utils.InferenceRequest(
                model_name="steady", requested_output_names=["OUTPUT0"], inputs=[given]
            )
            answers.append(asked.exec())
        return answers
"""
STEP = 'step [ { model_name: "steady" model_version: -1 %s } ]'
MAPS = 'input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" }'
SIZES = {"steady": 16, "large": 1 << 18, "asking": 16, "chain": 1000, "victim": 16}


@dataclass
class Told:
    """What became of the requests to one model. seconds: until each right answer."""

    right: int = 0
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: int = 0
    unanswered: int = 0
    seconds: list[float] = field(default_factory=list)

    def add(self, other: "Told") -> None:
        self.right += other.right
        self.wrong += other.wrong
        self.unanswered += other.unanswered
        self.errors += other.errors
        self.seconds += other.seconds


def write_models(repository: Path) -> None:
    def write(name: str, config: str, code: str = "") -> None:
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(config)
        if code:
            (repository / name / "1" / "model.py").write_text(code)

    python = 'backend: "python"\n'
    write("steady", python + IDENTITY, IDENTITY_CODE)
    write("large", python + IDENTITY, IDENTITY_CODE)
    write("asking", python + IDENTITY, ASKING_CODE)
    write("victim", python + VICTIM, VICTIM_CODE)
    group = IDENTITY.partition("instance_group")[0]
    write("chain", f'platform: "ensemble"\n{group}ensemble_scheduling {{ {STEP % MAPS} }}')
    write(
        "repeat",
        'backend: "repeat"\nmodel_transaction_policy { decoupled: true }\n'
        'input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] },'
        ' { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] },'
        ' { name: "WAIT" data_type: TYPE_UINT32 dims: [ 1 ] } ]\n'
        'output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },'
        ' { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] } ]\n',
    )


def ask_http(server: Running, name: str) -> Callable[[], bool]:
    """A function that asks once and says whether the answer was right."""
    client = tritonclient.http.InferenceServerClient(
        f"127.0.0.1:{server.port}", network_timeout=PATIENCE, connection_timeout=PATIENCE
    )
    values = np.random.default_rng(len(name)).random(SIZES[name], dtype=np.float32)
    tensor = values.reshape(1, -1) if name == "victim" else values
    given = tritonclient.http.InferInput("INPUT0", list(tensor.shape), "FP32")
    given.set_data_from_numpy(tensor)
    wanted = [tritonclient.http.InferRequestedOutput("OUTPUT0")]

    def ask() -> bool:
        found = client.infer(name, [given], outputs=wanted).as_numpy("OUTPUT0")
        return bool(np.array_equal(found, tensor))

    return ask


def ask_stream(server: Running) -> Callable[[], bool]:
    """The same of the decoupled model: five answers and an end, in order."""
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put(error or result))
    tensors = {
        "IN": np.arange(5, dtype=np.int32),
        "DELAY": np.zeros(5, np.uint32),
        "WAIT": np.zeros(1, np.uint32),
    }
    given = []
    for key, value in tensors.items():
        kind = "INT32" if value.dtype == np.int32 else "UINT32"
        given.append(tritonclient.grpc.InferInput(key, list(value.shape), kind))
        given[-1].set_data_from_numpy(value)

    def ask() -> bool:
        client.async_stream_infer("repeat", given, enable_empty_final_response=True)
        found: list[int] = []
        while True:
            answer = answers.get(timeout=PATIENCE)
            if isinstance(answer, InferenceServerException):
                raise answer
            if answer.get_response().parameters["triton_final_response"].bool_param:
                return found == [0, 1, 2, 3, 4]
            found.append(int(answer.as_numpy("OUT")[0]))

    return ask


def load(open_asker: Callable[[], Callable[[], bool]], told: Told, end: float) -> None:
    ask = open_asker()
    while time.monotonic() < end:
        began = time.monotonic()
        try:
            right = ask()
        except InferenceServerException as error:
            told.errors[str(error.message()).partition("\n")[0][:100]] += 1
            continue
        except (TimeoutError, queue.Empty, OSError):
            told.unanswered += 1
            ask = open_asker()
            continue
        told.right += right
        told.wrong += not right
        told.seconds.append(time.monotonic() - began)


def kill_again(server: Running, every: float, end: float) -> list[float]:
    """Kill the victim's worker now and then; the seconds until it served again, each time."""
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}")
    given = tritonclient.http.InferInput("INPUT0", [1, 1], "FP32")
    given.set_data_from_numpy(np.zeros((1, 1), np.float32))
    back = []
    while time.monotonic() + every < end:
        time.sleep(every)
        process = int(client.infer("victim", [given]).as_numpy("PID")[0, 0])
        os.kill(process, signal.SIGKILL)
        began = time.monotonic()
        while True:
            try:
                if int(client.infer("victim", [given]).as_numpy("PID")[0, 0]) != process:
                    break
            except InferenceServerException:
                time.sleep(0.01)
        back.append(time.monotonic() - began)
    return back


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--every", type=float, default=20, help="seconds between two kills")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        with serve("--model-repository", folder) as server:
            end = time.monotonic() + options.minutes * 60
            askers: list[tuple[str, Callable[[], Callable[[], bool]]]] = [
                (name, lambda name=name: ask_http(server, name))  # type: ignore[misc]
                for name in SIZES
                for _ in range(2)
            ]
            askers.append(("repeat", lambda: ask_stream(server)))
            told = [(name, Told()) for name, _ in askers]
            threads = [
                threading.Thread(target=load, args=(opener, one, end))
                for (_, opener), (_, one) in zip(askers, told, strict=True)
            ]
            for thread in threads:
                thread.start()
            back = kill_again(server, options.every, end)
            for thread in threads:
                thread.join()
            resident = server.process.memory_info().rss / 1e6
    report(told, back, resident)


def report(told: list[tuple[str, Told]], back: list[float], resident: float) -> None:
    good = True
    whole: dict[str, Told] = {}
    for name, one in told:
        whole.setdefault(name, Told()).add(one)
    for name, one in whole.items():
        p50, p99 = (np.percentile(one.seconds, part) * 1e3 for part in (50, 99))
        errors = sum(one.errors.values())
        print(
            f"{name:8} {one.right:8} right {one.wrong:4} wrong {errors:6} errors "
            f"{one.unanswered:4} unanswered  p50 {p50:8.2f} ms p99 {p99:8.2f}"
        )
        good = good and not one.wrong and not one.unanswered and (name == "victim" or not errors)
    for text, count in whole["victim"].errors.most_common(5):
        print(f"  victim: {count} x {text}")
    print(
        f"{len(back)} kills; serving again after {statistics.median(back):.2f} s (median), ", end=""
    )
    print(f"{max(back):.2f} (longest); front process {resident:.0f} MB at the end")
    sys.exit(0 if good else "a request went unanswered, or another model was disturbed")


if __name__ == "__main__":
    main()
