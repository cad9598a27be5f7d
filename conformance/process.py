"""Our server as a suite starts it, and any other program with a time limit and a log."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

START = "import sys; from nerite.cli import tritonserver; sys.exit(tritonserver())"
COMMAND = (sys.executable, "-c", START)
STARTED_WITHIN = 120.0
STOPPED_WITHIN = 60.0


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What servers and tests see: no GPU, whatever the machine has; our interpreter as `python`."""
    folder = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")]),
        "CUDA_VISIBLE_DEVICES": "",
        "TRITON_SERVER_CPU_ONLY": "1",
        "TRITONSERVER_IPADDR": "localhost",
        "TEST_CUDA_SHARED_MEMORY": "0",
        **more,
    }


@contextlib.contextmanager
def serve(
    flags: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A server on Triton's own ports until the end of the block, however that ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, *flags],
            cwd=cwd,
            env=environment(env),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPPED_WITHIN)
        _kill(process)


def wait_until(process: subprocess.Popen[bytes], http: str, state: str) -> bool:
    """Whether the server at `http` is in `state` (Group.wait) before it ends or time is over."""
    deadline = time.monotonic() + STARTED_WITHIN
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if _is(state, http):
                return True
        except HTTPError:
            if state == "started":
                return True
            time.sleep(0.2)
        except OSError:
            time.sleep(0.05)
    return False


def _is(state: str, http: str) -> bool:
    what = "ready" if state == "ready" else "live"
    with urlopen(f"http://{http}/v2/health/{what}", timeout=5) as answer:
        if answer.status != 200:
            return False
    if state != "stable":
        return True
    with urlopen(f"http://{http}/v2/repository/index", data=b"", timeout=5) as answer:
        states = {model.get("state") for model in json.load(answer)}
    return not states & {"LOADING", "UNLOADING"}


def ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether a server ends of itself."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOPPED_WITHIN)
    return process.poll() is not None


def run(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path, seconds: float
) -> int | None:
    """The exit status, or None when the time was over."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(env),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the whole session of `process`: tests leave children behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
