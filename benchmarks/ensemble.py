"""What a step costs: ensembles and BLS of 1, 2 and 4 steps, beside a real Triton.

    python benchmarks/ensemble.py [--triton COMMAND] [--rounds N]

COMMAND is as in request_path.py. One client asks over one connection; the servers are asked in
turn. A step is the difference that one more makes, execution included; `model` is the same model
asked by the client. What a server does not load, or answers wrongly, is left out.
"""

import argparse
import contextlib
import http.client
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from loads import Load, binary
from request_path import Peer, triton
from serving import serve

STEPS = (1, 2, 4)
ASKS = 200  # in a row, of one server
TENSORS = """
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
CPU = "instance_group [ { kind: KIND_CPU count: 1 } ]"
PLUS = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(
                        "OUT", pb_utils.get_input_tensor_by_name(request, "IN").as_numpy() + 1
                    )
                ]
            )
            for request in requests
        ]
"""
BLS = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "IN")
            for _ in range(STEPS):
                asked = pb_utils.InferenceRequest(
                    model_name="plus", requested_output_names=["OUT"], inputs=[tensor]
                )
                answer = pb_utils.get_output_tensor_by_name(asked.exec(), "OUT")
                tensor = pb_utils.Tensor("IN", answer.as_numpy())
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("OUT", tensor.as_numpy())])
            )
        return responses
"""


def write_models(repository: Path) -> None:
    write(repository, "plus", f'backend: "python" {CPU}', PLUS)
    for count in STEPS:
        code = BLS.replace("STEPS", str(count))
        write(repository, f"bls_{count}", f'backend: "python" {CPU}', code)
        names = ["IN", *(f"t{index}" for index in range(1, count)), "OUT"]
        steps = ", ".join(
            f'{{ model_name: "plus" model_version: -1 input_map {{ key: "IN" value: "{read}" }} '
            f'output_map {{ key: "OUT" value: "{written}" }} }}'
            for read, written in zip(names, names[1:], strict=False)
        )
        config = f'platform: "ensemble" ensemble_scheduling {{ step [ {steps} ] }}'
        write(repository, f"ensemble_{count}", config, None)


def write(repository: Path, name: str, config: str, code: str | None) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(f'name: "{name}" {config} {TENSORS}')
    if code is not None:
        (folder / "model.py").write_text(code)


def loads() -> list[Load]:
    values = np.arange(4, dtype=np.float32)
    counts = {"plus": 1} | {f"{kind}_{count}": count for kind in ("ensemble", "bls")
                            for count in STEPS}  # fmt: skip
    return [
        binary(name, name, {"IN": values}, (values + count).tobytes())
        for name, count in counts.items()
    ]


class Client:
    """One connection to one server."""

    def __init__(self, peer: Peer) -> None:
        self.name = peer.name
        self._connection = http.client.HTTPConnection("127.0.0.1", peer.http, timeout=60)

    def ask(self, load: Load) -> bool:
        """Whether the answer is right."""
        path = f"/v2/models/{load.model}/infer"
        self._connection.request("POST", path, load.body, load.headers)
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status == 200 and content.endswith(load.expected)

    def times(self, load: Load) -> list[float]:
        """Microseconds of each of some answers."""
        found = []
        for _ in range(ASKS):
            began = time.perf_counter()
            self.ask(load)
            found.append((time.perf_counter() - began) * 1e6)
        return found


def measure(clients: list[Client], rounds: int) -> dict[tuple[str, str], float]:
    """The median of each server and model, in microseconds."""
    pairs = [(client, load) for load in loads() for client in clients if client.ask(load)]
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for client, load in pairs:
            times.setdefault((client.name, load.name), []).extend(client.times(load))
    return {key: statistics.median(found) for key, found in times.items()}


def report(clients: list[Client], medians: dict[tuple[str, str], float]) -> None:
    for client in clients:
        print(f"{client.name}: model {medians[client.name, 'plus']:.0f} us")
        for kind in ("ensemble", "bls"):
            found = [medians.get((client.name, f"{kind}_{count}")) for count in STEPS]
            known = [median for median in found if median is not None]
            if len(known) < len(STEPS):
                print(f"  {kind:8}: not served")
                continue
            step = (known[-1] - known[0]) / (STEPS[-1] - STEPS[0])
            shown = "  ".join(
                f"{count}: {median:.0f}" for count, median in zip(STEPS, known, strict=True)
            )
            print(f"  {kind:8}: {step:.0f} us a step (steps: us  {shown})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--triton", metavar="COMMAND", help="starts Triton beside nerite")
    parser.add_argument("--rounds", type=int, default=10, help=f"of {ASKS} asks (default: 10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        repository = Path(folder)
        write_models(repository)
        ours = stack.enter_context(serve("--model-repository", folder))
        peers = [Peer("nerite", ours.port, ours.grpc_port, ours.process)]
        if options.triton:
            peers.append(stack.enter_context(triton(options.triton, repository)))
        clients = [Client(peer) for peer in peers]
        report(clients, measure(clients, options.rounds))


if __name__ == "__main__":
    main()
