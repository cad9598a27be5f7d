"""Start-up and stop of the real process: its tables, its sentences, its exit status."""

import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from .conftest import ADD_SUB, ADD_SUB_CODE, Serve, Serving, add_model, identity


def ask(serving: Serving, text: str) -> httpclient.InferResult:
    with httpclient.InferenceServerClient(serving.http, network_timeout=60) as client:
        entry = httpclient.InferInput("INPUT0", [1], "BYTES")
        entry.set_data_from_numpy(np.array([text.encode()], dtype=object))
        return client.infer("talks", [entry])


def test_tables_and_addresses(serve: Serve, models: Path) -> None:
    serving = serve(f"--model-repository={models}")
    serving.wait_for("--host 0.0.0.0 opens the server")
    assert "| add_sub         | 1       | READY  |" in serving.log
    assert "Started GRPCInferenceService at 127.0.0.1:" in serving.log
    assert "Started HTTPService at 127.0.0.1:" in serving.log
    assert "[talks_0] initialized talks 1" in serving.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains(serve: Serve, models: Path, number: signal.Signals) -> None:
    serving = serve(f"--model-repository={models}")
    address = serving.http
    answers: list[bytes] = []
    asking = threading.Thread(
        target=lambda: answers.append(ask(serving, "slow").as_numpy("OUTPUT0")[0])
    )
    asking.start()
    assert address
    serving_started = threading.Event()
    serving_started.wait(0.4)  # let the request reach the model
    serving.process.send_signal(number)
    asking.join()
    assert serving.wait() == 0
    assert answers == [b"slow"]
    assert "[talks_0] finalized" in serving.log


BEGUN = """
    import time

    class TritonPythonModel:
        def execute(self, requests):
            print("begun", flush=True)
            time.sleep(3)
            return [pb_utils.InferenceResponse(requests[0].inputs())]
"""


def test_a_server_that_drains_is_closed_to_grpc(serve: Serve, tmp_path: Path) -> None:
    same = 'name: "A" data_type: TYPE_INT32 dims: [ 1 ]'
    config = f'backend: "python" input [ {{ {same} }} ] output [ {{ {same} }} ]'
    add_model(tmp_path, "slow", config, BEGUN)
    serving = serve(f"--model-repository={tmp_path}")
    entry = grpcclient.InferInput("A", [1], "INT32")
    entry.set_data_from_numpy(np.array([7], np.int32))
    with (
        grpcclient.InferenceServerClient(serving.grpc) as client,
        grpcclient.InferenceServerClient(serving.grpc) as idle,
        grpcclient.InferenceServerClient(serving.grpc) as late,
        ThreadPoolExecutor(1) as pool,
    ):
        idle.start_stream(lambda result, error: None)
        asked = pool.submit(client.infer, "slow", [entry])
        serving.wait_for("begun")
        serving.process.send_signal(signal.SIGTERM)
        serving.wait_for("Timeout 30: Found 1 gRPC service connections and inference handlers")
        serving.wait_for("Model 'slow' (version 1) has 1 in-flight inferences")
        # What a client sends before it hears that the server leaves is still answered.
        with pytest.raises(InferenceServerException, match="Connection refused"):
            while asked.running():
                late.is_server_live()
        assert asked.result().as_numpy("A").tolist() == [7]
        # A stream in which nothing is asked holds nobody up.
        assert serving.process.wait(timeout=20) == 0


def test_a_taken_port(serve: Serve, models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for service, flag in (("HTTP", "http"), ("GRPC", "grpc"), ("Metrics", "metrics")):
            serving = serve(f"--model-repository={models}", f"--{flag}-port={port}")
            assert serving.wait() == 1
            assert serving.lines[-1] == (
                f"error: failed to start {service} service: Unavailable - Socket "
                f"'127.0.0.1:{port}' already in use"
            )


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nohost.invalid", ""),  # each system has its own words
        ("ü..host", "'ü..host' is no host name"),
        ("192.0.2.1", "Cannot assign requested address"),
    ],
)
@pytest.mark.parametrize("service", ["HTTP", "GRPC"])
def test_an_address_that_is_not_this_machines(
    serve: Serve, models: Path, service: str, address: str, reason: str
) -> None:
    flag = f"--{service.lower()}-address"
    serving = serve(f"--model-repository={models}", f"{flag}={address}")
    assert serving.wait() == 1
    said = serving.lines[-1]
    start = f"error: failed to start {service} service: cannot listen at '{address}:0': {reason}"
    assert said.startswith(start)
    assert f"{flag} (or --host) takes an address of this machine" in said
    assert "in use" not in said


def test_a_missing_repository(serve: Serve, tmp_path: Path) -> None:
    serving = serve("--model-repository", tmp_path / "models" / "none")
    assert serving.wait() == 1
    assert serving.lines == [
        f"error: model repository '{tmp_path}/models/none' does not exist; the nearest folder "
        f"that does is '{tmp_path}'"
    ]


def test_a_broken_config(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "broken", 'backend: "python"\nmax_batch: 8\n', ADD_SUB_CODE)
    serving = serve("--model-repository", tmp_path)
    assert serving.wait() == 1
    assert f"{tmp_path}/broken/config.pbtxt:2:1: " in serving.log
    assert 'has no field named "max_batch"' in serving.log
    assert serving.lines[-2:] == ["  max_batch: 8", "  ^"]


def test_folders_that_are_no_versions_are_named(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "add_sub", ADD_SUB, ADD_SUB_CODE)
    for name in ("003", "abc", "configs", "warmup"):
        (tmp_path / "add_sub" / name).mkdir()
    log = serve(f"--model-repository={tmp_path}").log
    text = "ignore version directory"
    assert f"{text} '003' which contains leading zeros in its directory name" in log
    assert f"{text} 'abc' which fails to convert to integral number" in log
    assert log.count(text) == 2


def test_a_model_without_a_config_where_none_is_completed(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "add_sub", ADD_SUB, ADD_SUB_CODE)
    (tmp_path / "bare" / "1").mkdir(parents=True)
    flags = ("--disable-auto-complete-config", "--exit-on-error=false")
    serving = serve(f"--model-repository={tmp_path}", *flags)
    file = tmp_path / "bare" / "config.pbtxt"
    text = f"failed to open text file for read {file}: No such file or directory"
    assert text in serving.log
    with httpclient.InferenceServerClient(serving.http) as client:
        assert client.is_server_ready()  # it is no model, and takes no other along
        with pytest.raises(InferenceServerException, match="unknown model: 'bare' is not found"):
            client.get_model_metadata("bare")


def test_a_missing_config_ends_the_start_where_errors_do(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "bare" / "1").mkdir(parents=True)
    serving = serve(f"--model-repository={tmp_path}", "--disable-auto-complete-config")
    assert serving.wait() == 1
    assert "failed to load all models\n  bare: failed to open text file for read" in serving.log


def test_a_model_that_does_not_load(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "good", ADD_SUB, ADD_SUB_CODE)
    add_model(tmp_path, "bad", identity("FP32"), "raise ImportError('no such thing')")
    serving = serve("--model-repository", tmp_path)
    assert serving.wait() == 1
    assert "error: creating server: Internal - failed to load all models" in serving.log
    assert "ImportError: no such thing" in serving.log
    serving = serve("--model-repository", tmp_path, "--exit-on-error=false")
    with grpcclient.InferenceServerClient(serving.grpc) as client:
        assert client.is_model_ready("good")
        assert not client.is_server_ready()
    assert serving.stop() == 0


def test_what_a_client_loads_meanwhile_does_not_end_the_start(tmp_path: Path) -> None:
    waits = """
        import os, time

        class TritonPythonModel:
            def initialize(self, args):
                print("waiting", flush=True)
                while not os.path.exists(args["model_repository"] + "/go"):
                    time.sleep(0.01)

            def execute(self, requests):
                raise NotImplementedError
    """
    add_model(tmp_path, "waits", identity("FP32"), waits)
    add_model(tmp_path, "bad", identity("FP32"), "raise ImportError('no such thing')")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ("--model-control-mode=explicit", "--load-model=waits", f"--http-port={port}")
    with Serving(f"--model-repository={tmp_path}", *flags, wait=False) as serving:
        serving.wait_for("[waits_0] waiting")
        with httpclient.InferenceServerClient(f"127.0.0.1:{port}") as client:
            with pytest.raises(InferenceServerException, match="no such thing"):
                client.load_model("bad")
            (tmp_path / "waits" / "go").touch()
            serving.wait_for("Started HTTPService")
            assert client.is_model_ready("waits")


def test_a_server_without_its_repository_may_stay(serve: Serve) -> None:
    """It answers, so that one can ask why, and is never live."""
    serving = serve("--model-repository=/nowhere/at/all", "--exit-on-error=false")
    with grpcclient.InferenceServerClient(serving.grpc) as client:
        assert not client.is_server_live()
        assert not client.is_server_ready()
        assert client.get_server_metadata().name == "triton"
    assert "model repository '/nowhere/at/all' does not exist" in serving.log
    assert serving.stop() == 0


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--htp-port=1", "unknown argument '--htp-port=1'; did you mean --http-port?"),
        ("--http-port=eight", "Invalid option value. Got eight"),
        ("--model-repository=", "Invalid option value. Got an empty one"),
        ("--trace-config=bar,file=x", "error: --trace-config: invalid value for trace mode option"),
        ("--host-policy=p,cpu-cores=x", "error: --host-policy: 'x' are no cores"),
        ("--host-policy=p,numa-node=x", "error: --host-policy: this machine has no NUMA node 'x'"),
        ("--strict-readiness=maybe", "maybe (neither true, on, 1 nor false, off, 0)"),
    ],
)
def test_a_bad_flag(serve: Serve, argument: str, expected: str) -> None:
    serving = serve(argument)
    assert serving.wait() == 1
    assert expected in serving.lines[-1]


def test_a_worker_that_dies(serve: Serve, models: Path) -> None:
    serving = serve(f"--model-repository={models}")
    with pytest.raises(InferenceServerException) as caught:
        ask(serving, "die")
    assert (
        "Stub process 'talks_0' is not healthy. Its worker process died" in caught.value.message()
    )
    assert "last words" in caught.value.message()
    serving.wait_for("died (exit status 3); restarting")
    with httpclient.InferenceServerClient(serving.http) as client:
        while not client.is_model_ready("talks"):
            assert client.is_model_ready("add_sub")
    assert ask(serving, "again").as_numpy("OUTPUT0")[0] == b"again"


def test_no_orphans_after_a_kill(serve: Serve, models: Path) -> None:
    serving = serve(f"--model-repository={models}")
    assert serving.http
    parent = str(serving.process.pid)
    workers = subprocess.run(["pgrep", "-P", parent], capture_output=True, text=True).stdout.split()
    assert workers
    serving.process.kill()
    serving.wait()  # the pipe that workers inherit nothing of is closed too
    for worker in workers:
        deadline = threading.Event()
        for _ in range(100):
            if not Path(f"/proc/{worker}").exists():
                break
            deadline.wait(0.1)
        else:
            pytest.fail(f"worker {worker} outlived its server")


def test_the_log_names_the_model(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "add_sub", ADD_SUB, ADD_SUB_CODE, version=3)
    serving = serve("--model-store", tmp_path)
    serving.wait_for("successfully loaded 'add_sub' version 3")


def test_a_signal_while_a_model_loads(tmp_path: Path) -> None:
    code = """
        import time

        class TritonPythonModel:
            def initialize(self, args):
                print("still loading", flush=True)
                time.sleep(60)

            def execute(self, requests):
                return []
    """
    add_model(tmp_path, "slow", identity("FP32"), code)
    with Serving("--model-repository", str(tmp_path), wait=False) as serving:
        serving.wait_for("[slow_0] still loading")
        assert serving.stop() == 0


def test_health_while_a_model_loads(tmp_path: Path) -> None:
    """Probes are answered from the first moment: live, and not ready before the models are."""
    gate = tmp_path / "gate"
    code = f"""
        import os, time

        class TritonPythonModel:
            def initialize(self, args):
                print("waiting", flush=True)
                while not os.path.exists({str(gate)!r}):
                    time.sleep(0.05)

            def execute(self, requests):
                return []
    """
    add_model(tmp_path / "models", "slow", identity("FP32"), code)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = (f"--http-port={port}", "--model-repository", str(tmp_path / "models"))
    with Serving(*arguments, wait=False) as serving:
        serving.wait_for("[slow_0] waiting")
        with httpclient.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert client.is_server_live()
            assert not client.is_server_ready()
            gate.touch()
            serving.wait_for("Started HTTPService")
            assert client.is_server_ready()


def test_what_the_front_process_does_without() -> None:
    heavy = ("torch", "onnxruntime", "fastapi", "PIL", "nerite.diffusion", "nerite.backends.python")
    code = f"import nerite.launch, sys; print(*(one for one in {heavy} if one in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
