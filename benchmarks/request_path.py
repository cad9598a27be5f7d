"""How fast a request goes through the server and a Python model, beside a real Triton.

    python benchmarks/request_path.py [--triton COMMAND] [--perf-analyzer COMMAND] [--seconds N]

COMMAND starts Triton on {repository}, {http} and {grpc}, which are filled in, for instance
`tritonserver --model-repository={repository} --http-port={http} --grpc-port={grpc}`. Both servers
serve the same files and stand side by side; the load, from `wrk` (HTTP) and perf_analyzer (gRPC),
goes to them in turn, in several rounds, of which the one with the median rate is told: neighbours
on a shared host take time from either. Before it, one answer of each is compared byte for byte with
what is right.
CPU is of the server's processes, user and system, per request. At the end 200 000 requests of
mixed size tell whether the front process grows. Without --triton only nerite is measured.
"""

import argparse
import contextlib
import http.client
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from loads import SHARED, Load, large_load, loads, mixed_loads, shared_load, write_models
from serving import free_ports, serve

CLIENTS = (1, 8, 32, 64)
FEW = (1, 4)  # of large tensors


@dataclass(frozen=True)
class Peer:
    """A server under load."""

    name: str
    http: int
    grpc: int
    process: psutil.Process


@dataclass(frozen=True)
class Figure:
    """per_second: answers, count in all. p50, p99: milliseconds. cpu: microseconds per request."""

    per_second: float
    p50: float
    p99: float
    cpu: float
    count: int = 0


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


def script(loads: Sequence[Load], folder: Path) -> Path:
    """What has wrk send the loads in turn; they differ in body and headers only."""
    lines = ["local requests = {}", "local turn = 0"]
    for index, load in enumerate(loads):
        data = folder / f"load{index}.dat"
        data.write_bytes(load.body)
        headers = ", ".join(f'["{key}"] = "{value}"' for key, value in load.headers.items())
        path = f"/v2/models/{load.model}/infer"
        lines += [
            f'local f = io.open("{data}", "rb")',
            f'requests[{index + 1}] = {{"POST", "{path}", {{{headers}}}, f:read("*a")}}',
            "f:close()",
        ]
    lines += [
        "local texts = {}",
        "init = function() for i, r in ipairs(requests) do",
        "  texts[i] = wrk.format(r[1], r[2], r[3], r[4]) end end",
        "request = function() turn = turn % #texts + 1; return texts[turn] end",
    ]
    file = folder / "load.lua"
    file.write_text("\n".join(lines))
    return file


def wrk(peer: Peer, loads: Sequence[Load], clients: int, seconds: int, folder: Path) -> Figure:
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--latency", "--timeout", "30s"]
    command += ["-s", str(script(loads, folder)), f"http://127.0.0.1:{peer.http}"]
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
        count,
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
    # Of any stability: it measures three windows, and prints nothing where they differ more.
    arguments += ["--concurrency-range", str(clients), "-p", "1000", "-r", "3", "-s", "900"]
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
    parser.add_argument("--seconds", type=int, default=2, help="of each load (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="of each load (default: 3)")
    parser.add_argument("--only", default="", help="loads whose title has this in it")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: it is in Debian's packages and in Homebrew")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        repository = Path(folder) / "models"
        write_models(repository)
        ours = stack.enter_context(
            serve("--model-repository", str(repository), "--allow-client-shm=true")
        )
        peers = [Peer("nerite", ours.port, ours.grpc_port, ours.process)]
        if options.triton:
            peers.append(stack.enter_context(triton(options.triton, repository)))
        measure(peers, options, Path(folder))


Measure = Callable[[Peer], Figure]


def measure(peers: list[Peer], options: argparse.Namespace, folder: Path) -> None:
    for load in [*loads(), *mixed_loads(), large_load()]:
        for peer in peers:
            check(peer, load)

    def compare(title: str, one: Measure) -> None:
        if options.only in title:
            report(title, in_turn(peers, one, options.rounds))

    def over_http(load: Load, clients: int) -> None:
        def one(peer: Peer) -> Figure:
            return wrk(peer, [load], clients, options.seconds, folder)

        compare(_http(load.name, clients), one)

    def over_grpc(model: str, clients: int) -> Measure:
        return lambda peer: perf_analyzer(options.perf_analyzer, peer, model, clients)

    for load in loads():
        for clients in CLIENTS:
            over_http(load, clients)
    for clients in FEW:
        over_http(large_load(), clients)
    if any(options.only in _http(SHARED, clients) for clients in FEW):
        with shared_load([peer.http for peer in peers]) as shared:
            for clients in FEW:
                over_http(shared, clients)
    if options.perf_analyzer:
        for model in ("add_sub", "add_sub_dyn"):
            for clients in CLIENTS:
                compare(f"gRPC {model}, {clients} clients", over_grpc(model, clients))
    if options.only in "memory":
        memory(peers[0], folder)


def _http(name: str, clients: int) -> str:
    return f"HTTP {name}, {clients} clients"


def in_turn(peers: list[Peer], one: Measure, rounds: int) -> dict[str, Figure]:
    """Of each peer the round with the median rate."""
    figures: dict[str, list[Figure]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            figures[peer.name].append(one(peer))
    return {
        name: sorted(found, key=lambda figure: figure.per_second)[len(found) // 2]
        for name, found in figures.items()
    }


def memory(peer: Peer, folder: Path) -> None:
    """What the front process holds after 10 000 requests of mixed size, and after 200 000."""
    held = []
    asked = 0
    for goal in (10_000, 200_000):
        while asked < goal:
            asked += wrk(peer, mixed_loads(), 16, 2, folder).count
        held.append(peer.process.memory_info().rss / 1e6)
    print(f"front process: {held[0]:.1f} MB after 10 000 requests, {held[1]:.1f} after {asked}")


if __name__ == "__main__":
    main()
