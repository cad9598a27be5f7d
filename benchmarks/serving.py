"""A real server for the benchmarks: the command a user types, on free ports."""

import contextlib
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_SOURCE = Path(__file__).parents[1] / "src"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready, and how long that took from the start of its process."""

    port: int
    grpc_port: int
    ready_seconds: float
    process: psutil.Process


@contextlib.contextmanager
def serve(*options: str) -> Iterator[Running]:
    """What stands beside the benchmarks is measured, whichever nerite is installed."""
    paths = [str(_SOURCE), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    ports = free_ports(3)
    command = [sys.executable, "-m", "nerite", "serve", *options]
    for name, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        command += [f"--{name}-port", str(port)]
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            while not _ready(ports[0]):
                if server.poll() is not None:
                    log.seek(0)
                    said = log.read().decode(errors="replace").splitlines()[-3:]
                    sys.exit("\n".join(["the server did not start:", *said]))
                time.sleep(0.005)
            seconds = time.perf_counter() - began
            yield Running(ports[0], ports[1], seconds, psutil.Process(server.pid))
        finally:
            server.terminate()
            server.wait()


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def line(what: str, samples: Sequence[float], unit: str, goal: float | None = None) -> None:
    """One row: the median, the best, the goal it is held against."""
    median, best = statistics.median(samples), min(samples)
    verdict = ""
    if goal is not None:
        verdict = f"goal <= {goal:g} {unit}: {'met' if median <= goal else 'MISSED'}"
    print(f"{what:<52}{median:8.2f} {unit:<4} (best {best:.2f})  {verdict}".rstrip())
