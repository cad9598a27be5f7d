"""Fixtures for every test folder: free ports, a real server, services that may be missing."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

REQUIRE = "NERITE_TEST_REQUIRE_SERVICES"
# What a test may ask for, and the command whose presence shows that it is there.
SERVICES = {"chromium": "chromium", "compiler": "g++", "redis": "redis-server"}

_missing: Counter[str] = Counter()

# A shell ignores it for what it starts in the background, and so would all that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class ServerProcess:
    """`nerite serve` as a user starts it; `log` is what it has printed."""

    process: subprocess.Popen[bytes]
    http_port: int
    grpc_port: int
    metrics_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def wait_until_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urlopen(f"{self.url}/v2/health/ready", timeout=5) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                time.sleep(0.05)
        pytest.fail(f"the server is not ready:\n{self.log.read_text()}")


@contextlib.contextmanager
def run_server(log: Path, *options: str) -> Iterator[ServerProcess]:
    """A server with `options` that is ready; it is stopped at the end, which must go well."""
    server = start_process(log, *options)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.process.terminate()
        status = server.process.wait(60)
    assert status == 0, log.read_text()


def start_process(log: Path, *options: str) -> ServerProcess:
    """The same, not ready yet, and for the caller to stop."""
    ports = _free_ports(3)
    command = [sys.executable, "-m", "nerite", "serve", *options]
    for name, port in zip(("http", "grpc", "metrics"), ports, strict=True):
        command += [f"--{name}-port", str(port)]
    # What servers keep for their user is not to outlive the test.
    environment = {**os.environ, "XDG_STATE_HOME": str(log.parent / "state")}
    with log.open("wb") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written, env=environment)
    return ServerProcess(process, ports[0], ports[1], ports[2], log)


@pytest.fixture(scope="session")
def painter_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The embedded painter, served by a real process that the whole session shares."""
    with run_server(tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """`start_server("--model-repository", folder)`: a server until the test's end."""
    with contextlib.ExitStack() as stack:
        yield lambda *options: stack.enter_context(run_server(tmp_path / "server.log", *options))


@pytest.fixture
def free_ports() -> tuple[int, int, int]:
    first, second, third = _free_ports(3)
    return first, second, third


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture(scope="session")
def service() -> Callable[[str], str]:
    """`service("redis")` is the path of its command; without it the test is skipped, loudly."""
    return _find_service


def _find_service(name: str) -> str:
    path = shutil.which(SERVICES[name])
    if path is not None:
        return path
    if os.environ.get(REQUIRE):
        pytest.fail(f"{name} is not installed and {REQUIRE} is set", pytrace=False)
    _missing[name] += 1
    pytest.skip(f"{name} is not installed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _missing:
        tests = ", ".join(f"{count} for {name}" for name, count in sorted(_missing.items()))
        terminalreporter.write_line(
            f"SERVICES MISSING: tests skipped, {tests}; `.ci/run` shows how to install them",
            red=True,
            bold=True,
        )
