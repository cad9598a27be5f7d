"""Worker processes: that hang or die, in interpreters of the user's, and with large tensors."""

import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tests.conftest import REQUIRE
from tritonclient.utils import InferenceServerException

from .conftest import ADD_SUB, ADD_SUB_CODE, IDENTITY_CODE, Serve, Serving, add_model, identity

SLEEPS = """
    import time


    class TritonPythonModel:
        def execute(self, requests):
            seconds = float(requests[0].inputs()[0].as_numpy()[0])
            time.sleep(seconds)
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", one.inputs()[0].as_numpy())])
                for one in requests
            ]
"""
PREFIX = """
    import sys


    class TritonPythonModel:
        def execute(self, requests):
            told = np.array([sys.prefix], np.object_)
            answer = pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", told)])
            return [answer] * len(requests)
"""


def ask(url: str, model: str, values: np.ndarray, kind: str) -> Any:
    with tritonclient.http.InferenceServerClient(url, network_timeout=60) as client:
        tensor = tritonclient.http.InferInput("INPUT0", list(values.shape), kind)
        return client.infer(model, [tensor.set_data_from_numpy(values)]).as_numpy("OUTPUT0")


def test_a_worker_that_hangs_is_replaced(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "sleeps", identity("FP32"), SLEEPS)
    add_model(tmp_path, "add_sub", ADD_SUB, ADD_SUB_CODE)
    serving = serve(f"--model-repository={tmp_path}", "--worker-timeout=0.5")
    with pytest.raises(InferenceServerException) as caught:
        ask(serving.http, "sleeps", np.array([60], np.float32), "FP32")
    assert "worked longer than 0.5 s (--worker-timeout), and was killed" in caught.value.message()
    serving.wait_for("worker of 'sleeps_0' is back")
    for _ in range(3):  # each has its own half second
        assert list(ask(serving.http, "sleeps", np.array([0.3], np.float32), "FP32")) == [0.3]


@pytest.mark.parametrize("packed", [False, True])
def test_another_interpreter(serve: Serve, tmp_path: Path, packed: bool) -> None:
    environment = tmp_path / "models" / "prefix" / "environment"
    venv.create(environment, system_site_packages=True, symlinks=True)
    # What it would have by `pip install numpy`.
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "ours.pth").write_text(str(Path(np.__file__).parents[1]))
    name = "$$TRITON_MODEL_DIRECTORY/environment"
    if packed:
        with tarfile.open(f"{environment}.tar.gz", "w:gz") as archive:
            archive.add(environment, ".")
        name += ".tar.gz"
    parameter = f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{name}" }} }}'
    add_model(tmp_path / "models", "prefix", identity("STRING") + parameter, PREFIX)
    serving = serve(f"--model-repository={tmp_path / 'models'}")
    (prefix,) = ask(serving.http, "prefix", np.array(["x"], object), "BYTES")
    assert prefix.decode() != sys.prefix
    assert (prefix.decode() == str(environment)) is not packed
    if packed:
        assert "nerite-env-" in prefix.decode()
        serving.stop()
        assert not Path(prefix.decode()).exists()


def test_an_interpreter_that_is_not_there(serve: Serve, tmp_path: Path) -> None:
    parameter = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/nowhere" } }'
    add_model(tmp_path, "lost", ADD_SUB + parameter, ADD_SUB_CODE)
    serving = serve(f"--model-repository={tmp_path}")
    serving.wait()
    assert "EXECUTION_ENV_PATH of model 'lost': '/nowhere' does not exist. It names the" in (
        serving.log
    )


def test_a_path_of_an_interpreter_itself(serve: Serve, tmp_path: Path) -> None:
    python = Path(sys.executable)
    parameter = f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{python}" }} }}'
    add_model(tmp_path, "lost", ADD_SUB + parameter, ADD_SUB_CODE)
    serving = serve(f"--model-repository={tmp_path}")
    serving.wait()
    said = f"'{python}' is an interpreter: say '{python.parents[1]}'. It names the folder of a"
    assert said in serving.log


# An interpreter of that version, as far as it says.
OLD = """#!/bin/sh
shift
exec PYTHON -c 'import sys; sys.version_info = (3, 7, 16); exec(sys.argv.pop(1))' "$@"
"""


@pytest.mark.parametrize(
    ("old", "said"),
    [(True, "has Python 3.7:"), (False, "has no numpy (No module named 'numpy'):")],
)
def test_an_interpreter_that_cannot_be_a_worker(
    serve: Serve, tmp_path: Path, old: bool, said: str
) -> None:
    environment = tmp_path / "environment"
    if old:
        (environment / "bin").mkdir(parents=True)
        (environment / "bin" / "python").write_text(OLD.replace("PYTHON", sys.executable))
        (environment / "bin" / "python").chmod(0o755)
    else:
        venv.create(environment, symlinks=True)
    value = f'value {{ string_value: "{environment}" }}'
    parameter = f'parameters {{ key: "EXECUTION_ENV_PATH" {value} }}'
    add_model(tmp_path / "models", "poor", ADD_SUB + parameter, ADD_SUB_CODE)
    serving = serve(f"--model-repository={tmp_path / 'models'}")
    serving.wait()
    assert f"The environment that EXECUTION_ENV_PATH names {said} a worker needs Python" in (
        serving.log
    )
    assert "3.8 or newer, with numpy (" in serving.log and "Traceback" not in serving.log


def test_large_tensors(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "echo", identity("FP32"), IDENTITY_CODE)
    serving = serve(f"--model-repository={tmp_path}")
    for count in (100, 70_000, 1_000_000, 8_000_000, 1_000_000, 100):
        values = np.random.default_rng(count).random(count, np.float32)
        for _ in range(3):
            np.testing.assert_array_equal(ask(serving.http, "echo", values, "FP32"), values)


DIES = """
    import os, signal

    class TritonPythonModel:
        def execute(self, requests):
            print("last words", flush=True)
            how = int(requests[0].inputs()[0].as_numpy()[0])
            os._exit(how) if how > 0 else os.kill(os.getpid(), -how)
"""


def test_how_a_worker_died_is_told(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "dies", identity("FP32"), DIES)
    serving = serve(f"--model-repository={tmp_path}")
    for how, said in (
        (3, "exit status 3"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (-signal.SIGKILL, "SIGKILL, perhaps for lack of memory"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            ask(serving.http, "dies", np.array([how], np.float32), "FP32")
        message = caught.value.message()
        assert f"Its worker process died ({said}). Its last lines:" in message
        assert message.endswith("last words")


def test_a_worker_comes_back_once_the_system_has_room_again(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "dies", identity("FP32"), DIES)
    serving = serve(f"--model-repository={tmp_path}")
    limits = resource.prlimit(serving.process.pid, resource.RLIMIT_NOFILE)
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        client.is_server_live()  # it is connected
        tensor = tritonclient.http.InferInput("INPUT0", [1], "FP32")
        tensor.set_data_from_numpy(np.array([3], np.float32))
        resource.prlimit(serving.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        with pytest.raises(InferenceServerException, match="is not healthy"):
            client.infer("dies", [tensor])
    serving.wait_for("worker of 'dies_0' does not come back: ")
    assert "Too many open files" in serving.log
    resource.prlimit(serving.process.pid, resource.RLIMIT_NOFILE, limits)
    serving.wait_for("worker of 'dies_0' is back")


# A fork of it holds what it holds, and lives on.
FORKS = """
    import os, time

    class TritonPythonModel:
        def execute(self, requests):
            if requests[0].inputs()[0].as_numpy()[0] < 0:
                if os.fork() == 0:
                    time.sleep(15)
                    os._exit(0)
                os._exit(3)
            return [
                pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", one.inputs()[0].as_numpy())])
                for one in requests
            ]
"""


def test_a_worker_that_dies_before_its_forks(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "forks", identity("FP32"), FORKS)
    serving = serve(f"--model-repository={tmp_path}")
    began = time.monotonic()
    with pytest.raises(InferenceServerException, match="exit status 3"):
        ask(serving.http, "forks", np.array([-1], np.float32), "FP32")
    assert list(ask(serving.http, "forks", np.array([1], np.float32), "FP32")) == [1]
    assert time.monotonic() - began < 10


def command_with_shm(options: str) -> list[str]:
    """What runs a command where /dev/shm is a file system of its own, mounted with `options`."""
    mount = f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        text = "/dev/shm cannot be mounted anew: unshare --mount needs root (CAP_SYS_ADMIN)"
        (pytest.fail if os.environ.get(REQUIRE) else pytest.skip)(text)
    return command


@pytest.mark.parametrize("options", ["size=1m", "ro"])
def test_tensors_larger_than_dev_shm(tmp_path: Path, options: str) -> None:
    within = command_with_shm(options)
    add_model(tmp_path, "echo", identity("FP32"), IDENTITY_CODE)
    values = np.arange(10_000_000, dtype=np.float32)  # 40 MB
    with Serving(f"--model-repository={tmp_path}", within=within) as serving:
        np.testing.assert_array_equal(ask(serving.http, "echo", values, "FP32"), values)
        with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
            tensor = tritonclient.grpc.InferInput("INPUT0", list(values.shape), "FP32")
            answer = client.infer("echo", [tensor.set_data_from_numpy(values)])
            np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), values)


def test_a_worker_that_dies_with_large_tensors(serve: Serve, tmp_path: Path) -> None:
    code = IDENTITY_CODE.replace(
        "return [", "if requests[0].inputs()[0].as_numpy()[0] < 0: __import__('os')._exit(3)\n"
        "            return ["
    )  # fmt: skip
    add_model(tmp_path, "echo", identity("FP32"), code)
    serving = serve(f"--model-repository={tmp_path}")
    values = np.ones(1_000_000, np.float32)
    for _ in range(3):
        ask(serving.http, "echo", values, "FP32")
        with pytest.raises(InferenceServerException, match="is not healthy"):
            ask(serving.http, "echo", -values, "FP32")
        deadline = time.monotonic() + 20
        while True:
            try:
                np.testing.assert_array_equal(ask(serving.http, "echo", values, "FP32"), values)
                break
            except InferenceServerException:
                assert time.monotonic() < deadline
                time.sleep(0.05)
