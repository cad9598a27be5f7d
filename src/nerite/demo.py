"""`nerite demo`: from nothing to a picture, through a real server and its own HTTP port.

The server is a child process, `python -m nerite serve`: what the demo shows is what a user gets.
"""

import contextlib
import ctypes
import http.client
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nerite.client import Client, Picture
from nerite.commands.failing import CommandError, status_of
from nerite.commands.files import picture_path, save
from nerite.commands.terminal import Waiting

PROMPT = "a red house in the snow at night"
SEED = 7  # the same picture for everybody who follows the README
_START_SECONDS = 120.0
_STOP_SECONDS = 15.0
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl


@dataclass(frozen=True, slots=True)
class Wishes:
    prompt: str
    output: Path
    once: bool
    http_port: int | None


@dataclass(frozen=True, slots=True)
class _Ports:
    http: int
    grpc: int
    metrics: int


def run(wishes: Wishes) -> int:
    """Serve, paint, tell; the exit status."""
    with _signals_as_interrupt(), tempfile.TemporaryFile() as log:
        return status_of("demo", lambda: _run(wishes, log))


def _run(wishes: Wishes, log: IO[bytes]) -> int:
    file = picture_path(wishes.output, wishes.prompt, ".png")
    ports = _ports(wishes.http_port)
    url = f"http://127.0.0.1:{ports.http}"
    began = time.perf_counter()
    with _server(ports, log) as server:
        with Waiting("starting the server"):
            _wait_until_ready(server, ports.http, log)
        started = time.perf_counter() - began
        print(f"The server was ready in {started:.1f} s, at {url}")
        with Waiting("painting"):
            began = time.perf_counter()
            with Client(url) as client:
                picture = client.pictures(wishes.prompt, seed=SEED)[0]
            seconds = time.perf_counter() - began
        save(picture, file, picture.settings)
        _tell(picture, seconds, file)
        if not wishes.once:
            print(_next_things(ports), flush=True)
            return _serve_on(server, log)
    return 0


def _tell(picture: Picture, seconds: float, path: Path) -> None:
    width, height = picture.image.size
    prompt = picture.settings["prompt"]
    print(f'Painted "{prompt}" ({width}x{height}) in {seconds:.2f} s:')
    print(f"  {path.resolve()}", flush=True)


def _serve_on(server: subprocess.Popen[bytes], log: IO[bytes]) -> int:
    try:
        server.wait()
    except KeyboardInterrupt:
        return 0
    raise CommandError(f"the server has stopped.{_tail(log)}")


def _next_things(ports: _Ports) -> str:
    address = f"127.0.0.1:{ports.http}"
    url = "" if ports.http == 8000 else f" --url {address}"
    return f"""
It goes on serving until Ctrl-C. Open http://{address} in a browser to paint more,
or try in another terminal:

  {_command()} generate "a yellow balloon over a meadow at dawn"{url}

  # Python
  from nerite import Client
  Client("{address}").paint("a blue sailboat at sunset").save("sailboat.png")

  # Programs written for OpenAI's images, after changing the base URL
  client = openai.OpenAI(base_url="http://{address}/v1", api_key="none")
  client.images.generate(prompt="a white lighthouse by the sea").data[0].b64_json

  # curl
  curl -s {address}/v1/images/generations -H "Content-Type: application/json" \\
    -d '{{"prompt": "a green tree in the desert"}}' -o answer.json

  # Any Triton client
  prompt = tritonclient.grpc.InferInput("prompt", [1], "BYTES")
  prompt.set_data_from_numpy(numpy.array([b"a white lighthouse by the sea"], dtype=object))
  client = tritonclient.grpc.InferenceServerClient("127.0.0.1:{ports.grpc}")
  answer = client.infer("painter", [prompt])
  answer.as_numpy("generated_image")  # uint8, [128, 128, 3]

  http://{address}/docs describes the API,
  http://127.0.0.1:{ports.metrics}/metrics counts what the server does.
"""


def _command() -> str:
    """How to call nerite from here; its script is seldom on the path."""
    script = Path(sys.executable).with_name("nerite")
    if not script.exists():
        return f"{sys.executable} -m nerite"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


def _end_with_us() -> None:
    """In the process that will be the server: it does not outlive a demo that is killed."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)


@contextlib.contextmanager
def _server(ports: _Ports, log: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "nerite", "serve"]
    for name in ("http", "grpc", "metrics"):
        command += [f"--{name}-port", str(getattr(ports, name))]
    # In its own session, so that Ctrl-C reaches only us and we stop the server in order.
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_end_with_us if sys.platform == "linux" else None,
    )
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(_STOP_SECONDS)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            server.kill()
            server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise CommandError(f"the server did not start.{_tail(log)}")
        if _ready(port):
            return
        time.sleep(0.05)
    raise CommandError(f"the server was not ready after {_START_SECONDS:.0f} s.{_tail(log)}")


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: IO[bytes]) -> str:
    """What the server said last: its error where it has one, which ends what it says."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith("error:")]
    last = lines[errors[-1] :] if errors else lines[-12:]
    return "".join(f"\n  {line}" for line in (["It said:", *last] if last else []))


def _ports(http_port: int | None) -> _Ports:
    """Triton's ports, or free ones where something listens there already."""
    taken = {http_port}
    ports = []
    for preferred in (8000, 8001, 8002):
        port = preferred if preferred not in taken and _free(preferred) else _any_free()
        ports.append(port)
        taken.add(port)
    return _Ports(http_port or ports[0], ports[1], ports[2])


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # Without it a port whose last user has just left counts as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any_free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: the server is stopped, the status is 0."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
