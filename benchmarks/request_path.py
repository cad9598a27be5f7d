"""How fast a request goes through the server and a Python model, beside a real Triton.

    python benchmarks/request_path.py [--triton COMMAND] [--perf-analyzer COMMAND] [--seconds N]

COMMAND starts Triton on {repository}, {http} and {grpc}, which are filled in, for instance
`tritonserver --model-repository={repository} --http-port={http} --grpc-port={grpc}`. Both servers
serve the same files and stand side by side; the load, from `wrk` (HTTP) and perf_analyzer (gRPC),
goes to them in turn. Before it, one answer of each is compared byte for byte with what is right.
CPU is of the server's processes, user and system, per request. Without --triton only nerite is
measured.
"""

import argparse
import contextlib
import http.client
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from serving import free_ports, serve

CLIENTS = (1, 8, 32, 64)
ADD_SUB = """
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
        { name: "INPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
         { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
ADD_SUB_CODE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            outputs = [pb_utils.Tensor("OUTPUT0", a + b), pb_utils.Tensor("OUTPUT1", a - b)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
"""
IDENTITY = """
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU count: 1 } ]
"""
IDENTITY_CODE = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(
                        "OUTPUT0", pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
                    )
                ]
            )
            for request in requests
        ]
"""
MODELS = {
    "add_sub": (ADD_SUB, ADD_SUB_CODE),
    "add_sub_dyn": (ADD_SUB + "max_batch_size: 64 dynamic_batching { }", ADD_SUB_CODE),
    "identity_fp32": (IDENTITY, IDENTITY_CODE),
}


@dataclass(frozen=True)
class Load:
    """A request to repeat. headers: of HTTP; expected: the bytes its answer must end with."""

    name: str
    model: str
    body: bytes
    headers: dict[str, str]
    expected: bytes


@dataclass(frozen=True)
class Peer:
    """A server under load."""

    name: str
    http: int
    grpc: int
    process: psutil.Process


@dataclass(frozen=True)
class Figure:
    """per_second: answers. p50, p99: milliseconds. cpu: microseconds per request."""

    per_second: float
    p50: float
    p99: float
    cpu: float


def write_models(repository: Path) -> None:
    for name, (config, code) in MODELS.items():
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        (folder.parent / "config.pbtxt").write_text(f'name: "{name}"\nbackend: "python"\n{config}')
        (folder / "model.py").write_text(code)


def binary(name: str, model: str, tensors: dict[str, np.ndarray], expected: bytes) -> Load:
    inputs = [
        {
            "name": key,
            "shape": list(value.shape),
            "datatype": "FP32",
            "parameters": {"binary_data_size": value.nbytes},
        }
        for key, value in tensors.items()
    ]
    document = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    head = json.dumps(document, separators=(",", ":")).encode()
    headers = {
        "Inference-Header-Content-Length": str(len(head)),
        "Content-Type": "application/octet-stream",
    }
    body = head + b"".join(value.tobytes() for value in tensors.values())
    return Load(name, model, body, headers, expected)


def loads() -> list[Load]:
    a, b = np.arange(4, dtype=np.float32), np.ones(4, np.float32)
    right = (a + b).tobytes() + (a - b).tobytes()
    pair = {"INPUT0": a, "INPUT1": b}
    rows = {key: value.reshape(1, 4) for key, value in pair.items()}
    document = {
        "inputs": [
            {"name": key, "shape": [4], "datatype": "FP32", "data": value.tolist()}
            for key, value in pair.items()
        ]
    }
    body = json.dumps(document, separators=(",", ":")).encode()
    return [
        binary("add_sub, binary", "add_sub", pair, right),
        Load("add_sub, JSON", "add_sub", body, {"Content-Type": "application/json"}, b"}]}"),
        binary("add_sub_dyn, binary", "add_sub_dyn", rows, right),
    ]


def large_load() -> Load:
    values = np.random.default_rng(0).random(1 << 22, dtype=np.float32)
    return binary("identity 16 MiB", "identity_fp32", {"INPUT0": values}, values.tobytes())


def check(peer: Peer, load: Load) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", peer.http, timeout=60)
    connection.request("POST", f"/v2/models/{load.model}/infer", load.body, load.headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200 or not content.endswith(load.expected):
        sys.exit(f"{peer.name} answers {load.name} wrongly: {answer.status} {content[:200]!r}")


def cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        times = one.cpu_times()
        total += times.user + times.system
    return total


def wrk(peer: Peer, load: Load, clients: int, seconds: int, folder: Path) -> Figure:
    script, data = folder / "load.lua", folder / "load.dat"
    data.write_bytes(load.body)
    lines = ['wrk.method = "POST"', f'local f = io.open("{data}", "rb")']
    lines += ['wrk.body = f:read("*a")', "f:close()"]
    lines += [f'wrk.headers["{key}"] = "{value}"' for key, value in load.headers.items()]
    script.write_text("\n".join(lines))
    url = f"http://127.0.0.1:{peer.http}/v2/models/{load.model}/infer"
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    before = cpu_seconds(peer.process)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(peer.process) - before
    if "Non-2xx" in said or "Socket errors" in said:
        print(f"  {peer.name}: not every answer was right: {said.splitlines()[-4:]}")
    count = int(_find(r"(\d+) requests in", said))
    return Figure(
        float(_find(r"Requests/sec:\s+([\d.]+)", said)),
        _milliseconds(_find(r"\n\s+50%\s+(\S+)", said)),
        _milliseconds(_find(r"\n\s+99%\s+(\S+)", said)),
        spent / max(count, 1) * 1e6,
    )


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        sys.exit(f"nothing like {pattern} in:\n{text}")
    return match[1]


def _milliseconds(text: str) -> float:
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    match = re.fullmatch(r"([\d.]+)(us|ms|s)", text)
    assert match is not None, text
    return float(match[1]) * unit[match[2]]


def perf_analyzer(command: str, peer: Peer, model: str, clients: int) -> Figure:
    arguments = ["-m", model, "-i", "grpc", "-u", f"127.0.0.1:{peer.grpc}", "--async"]
    arguments += ["--concurrency-range", str(clients), "-p", "1500", "-r", "4", "-s", "40"]
    before = cpu_seconds(peer.process)
    began = time.monotonic()
    run = subprocess.run([*shlex.split(command), *arguments], capture_output=True, text=True)
    spent, took = cpu_seconds(peer.process) - before, time.monotonic() - began
    said = run.stdout
    rate = float(_find(r"Throughput: ([\d.]+) infer/sec", said))
    return Figure(
        rate,
        float(_find(r"p50 latency: (\d+) usec", said)) / 1e3,
        float(_find(r"p99 latency: (\d+) usec", said)) / 1e3,
        spent / max(rate * took, 1) * 1e6,
    )


@contextlib.contextmanager
def triton(command: str, repository: Path) -> Iterator[Peer]:
    http_port, grpc_port = free_ports(2)
    filled = command.format(repository=repository, http=http_port, grpc=grpc_port)
    server = subprocess.Popen(
        shlex.split(filled), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", http_port, timeout=5)
                connection.request("GET", "/v2/health/ready")
                if connection.getresponse().status == 200:
                    break
            time.sleep(0.1)
        else:
            sys.exit(f"Triton did not become ready: {filled}")
        yield Peer("triton", http_port, grpc_port, psutil.Process(server.pid))
    finally:
        server.terminate()
        server.wait()


def report(title: str, figures: dict[str, Figure]) -> None:
    line = f"{title:34}"
    for name, figure in figures.items():
        line += (
            f" {name} {figure.per_second:8.0f}/s p50 {figure.p50:7.3f} p99 {figure.p99:7.2f} ms "
            f"cpu {figure.cpu:6.0f} us "
        )
    if len(figures) == 2:
        ours, theirs = figures["nerite"], figures["triton"]
        line += f" ratio {ours.per_second / theirs.per_second:5.2f}"
        line += f" p50 {ours.p50 / theirs.p50:5.2f}"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--triton", metavar="COMMAND", help="starts Triton beside nerite")
    parser.add_argument("--perf-analyzer", metavar="COMMAND", help="measures gRPC")
    parser.add_argument("--seconds", type=int, default=4, help="of each load (default: 4)")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: it is in Debian's packages and in Homebrew")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        repository = Path(folder) / "models"
        write_models(repository)
        ours = stack.enter_context(serve("--model-repository", str(repository)))
        peers = [Peer("nerite", ours.port, ours.grpc_port, ours.process)]
        if options.triton:
            peers.append(stack.enter_context(triton(options.triton, repository)))
        measure(peers, options, Path(folder))


def measure(peers: list[Peer], options: argparse.Namespace, folder: Path) -> None:
    for load in [*loads(), large_load()]:
        for peer in peers:
            check(peer, load)
    for load in loads():
        for clients in CLIENTS:
            figures = {
                peer.name: wrk(peer, load, clients, options.seconds, folder) for peer in peers
            }
            report(f"HTTP {load.name}, {clients} clients", figures)
    for clients in (1, 4):
        large = large_load()
        figures = {peer.name: wrk(peer, large, clients, options.seconds, folder) for peer in peers}
        report(f"HTTP {large.name}, {clients} clients", figures)
    if options.perf_analyzer:
        for model in ("add_sub", "add_sub_dyn"):
            for clients in CLIENTS:
                figures = {
                    peer.name: perf_analyzer(options.perf_analyzer, peer, model, clients)
                    for peer in peers
                }
                report(f"gRPC {model}, {clients} clients", figures)


if __name__ == "__main__":
    main()
