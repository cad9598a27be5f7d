"""A server of Triton's in-process Python API: its life, its models, its answers."""

import asyncio
import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tritonserver

from .conftest import Start


def test_a_server_that_was_not_started(models: Path) -> None:
    server = tritonserver.Server(model_repository=str(models))
    for ask in (server.ready, server.live, server.models, server.metadata, server.metrics):
        with pytest.raises(tritonserver.InvalidArgumentError, match="Server not started"):
            ask()
    with pytest.raises(tritonserver.InvalidArgumentError, match="Server not started"):
        server.model("echo")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"server_id": 1}, TypeError, "server_id must be a str, not 1"),
        ({"model_repository": 1}, TypeError, "model_repository must be a str or list"),
        (
            {"model_repository": None},
            tritonserver.InvalidArgumentError,
            "^Model repository must be",
        ),
        ({"model_repository": []}, tritonserver.InvalidArgumentError, "^Model repository must be"),
        ({"model_repository": "none"}, tritonserver.InternalError, "'none' does not exist"),
        ({"log_file": "/none/log"}, tritonserver.InvalidArgumentError, "cannot write the log"),
        ({"cache_config": {"x": {"y": 1}}}, tritonserver.InvalidArgumentError, "cache 'x'"),
        ({"host_policies": {"x": {"y": "1"}}}, tritonserver.InvalidArgumentError, "host_policies"),
        ({"host_policies": {"cpu": {"x": "1"}}}, tritonserver.InvalidArgumentError, "setting 'x'"),
    ],
)
def test_bad_options(
    models: Path, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        tritonserver.Server(**{"model_repository": str(models), **options}).start()


def test_what_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(tritonserver.InternalError, match=r"failed to load all models\n  empty: "):
        tritonserver.Server(model_repository=str(tmp_path)).start()
    server = tritonserver.Server(
        model_repository=str(tmp_path), exit_on_error=False, strict_readiness=True
    )
    with pytest.raises(tritonserver.UnavailableError, match="Timeout before ready"):
        server.start(wait_until_ready=True, timeout=0.05, polling_interval=0.01)
    server.stop()


def test_the_rate_limiter(tmp_path: Path, models: Path) -> None:
    needs = 'instance_group { rate_limiter { resources { name: "r" count: 2 } } }'
    shutil.copytree(models / "echo", tmp_path / "echo")
    with (tmp_path / "echo" / "config.pbtxt").open("a") as config:
        config.write(needs)
    options = {
        "model_repository": str(tmp_path),
        "rate_limiter_mode": tritonserver.RateLimitMode.EXEC_COUNT,
    }
    short = tritonserver.RateLimiterResource("r", 1, -1)
    with pytest.raises(tritonserver.InternalError, match='count for "r" is limited to 1'):
        tritonserver.Server(**options, rate_limiter_resources=[short]).start()
    running = tritonserver.Server(**options).start(wait_until_ready=True)
    assert running.ready()
    running.stop()


def test_options_that_models_see(tmp_path: Path, models: Path) -> None:
    shutil.copytree(models / "echo", tmp_path / "echo")
    options = tritonserver.Options(
        model_repository=str(tmp_path),
        rate_limiter_mode=tritonserver.RateLimitMode.EXEC_COUNT,
        rate_limiter_resources=[tritonserver.RateLimiterResource("R", 1, 0)],
        cache_config={"local": {"size": 1 << 20}},
        metrics_configuration={"": {"counter_latencies": "false", "summary_latencies": "true"}},
        backend_configuration={"python": {"stub-timeout-seconds": "60"}},
        strict_model_config=True,
    )
    server = tritonserver.Server(options).start()
    list(server.model("echo").infer(inputs={"text_in": ["a"]}))
    told = server.metrics()
    assert "nv_inference_request_summary_us" in told
    assert "nv_inference_request_duration_us" not in told
    server.stop()
    (tmp_path / "echo" / "config.pbtxt").unlink()
    with pytest.raises(tritonserver.InternalError, match="echo"):
        tritonserver.Server(options).start()


def test_what_a_server_tells(server: tritonserver.Server) -> None:
    assert server.live() and server.ready()
    assert server.metadata()["name"] == "triton"
    models = server.models()
    assert sorted(models) == [("broken", 1), ("count", 1), ("echo", 1)]
    assert models["echo", 1].state == "READY"
    assert models["echo"].version == -1
    with pytest.raises(KeyError, match="Unknown Model"):
        models["none"]
    with pytest.raises(tritonserver.InvalidArgumentError, match="already started"):
        server.start()
    text = server.metrics()
    assert 'nv_inference_request_success{model="echo",version="1"}' in text


def test_what_a_model_tells(server: tritonserver.Server) -> None:
    echo, count, broken = (server.model(name) for name in ("echo", "count", "broken"))
    assert echo.ready() and server.model("echo", 1).ready()
    assert echo.metadata()["inputs"][0] == {"name": "fp32_in", "datatype": "FP32", "shape": [-1]}
    assert echo.config()["backend"] == "python"
    assert broken.batch_properties() is tritonserver.ModelBatchFlag.FIRST_DIM
    assert echo.batch_properties() is tritonserver.ModelBatchFlag.UNKNOWN
    assert count.transaction_properties() is tritonserver.ModelTxnPropertyFlag.DECOUPLED
    assert echo.transaction_properties() is tritonserver.ModelTxnPropertyFlag.ONE_TO_ONE
    assert echo.statistics()["model_stats"][0]["name"] == "echo"
    for ask in (server.model("none").ready, server.model("none").config):
        with pytest.raises(tritonserver.NotFoundError, match="'none' is not found"):
            ask()


def test_every_kind_of_input(server: tritonserver.Server) -> None:
    halves = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    (answer,) = server.model("echo").infer(
        inputs={"fp32_in": np.ones(3, np.float32), "text_in": ["a", "bc"], "bf16_in": halves},
        parameters={"i": 1, "f": 0.5, "b": True, "s": "t"},
        request_id="7",
    )
    assert (answer.request_id, answer.final, answer.error) == ("7", True, None)
    assert (answer.model.name, answer.model.version) == ("echo", 1)
    assert np.from_dlpack(answer.outputs["fp32_out"]).tolist() == [1, 1, 1]
    assert answer.outputs["text_out"].to_string_array().tolist() == ["a", "bc"]
    assert answer.outputs["bf16_out"].to_array().tolist() == [1.5, -2.0]
    said = json.loads(answer.outputs["parameters"].to_string_array()[0])
    assert said == {"i": 1, "f": 0.5, "b": True, "s": "t"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"inputs": {"none": [1]}}, "input"),
        ({"inputs": {"fp32_in": [1]}}, "data-type is 'INT64'"),
        ({"inputs": {"fp32_in": object()}}, "must support __dlpack__"),
        ({"inputs": {"fp32_in": [[1], [2, 3]]}}, "Conversion from"),
        ({"parameters": {"a": None}}, "Can't convert .* to Request Parameter 'a'"),
        ({"request_id": 5}, "id is an int: it takes a str"),
        ({"timeout": "soon"}, "timeout_us is a str: it takes an int"),
        ({"output_memory_type": "moon"}, "Invalid memory type 'moon'"),
        ({"response_queue": asyncio.Queue}, "must be a queue.SimpleQueue"),
    ],
)
def test_bad_requests(server: tritonserver.Server, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(tritonserver.InvalidArgumentError, match=text):
        server.model("echo").infer(**arguments)


def test_errors_of_models(server: tritonserver.Server) -> None:
    asked = {"IN": np.ones((1, 1), np.int32)}
    with pytest.raises(tritonserver.InternalError, match="a bad day") as caught:
        list(server.model("broken").infer(inputs=asked))
    assert isinstance(caught.value.args[1], tritonserver.InferenceResponse)
    (answer,) = server.model("broken").infer(inputs=asked, raise_on_error=False)
    assert isinstance(answer.error, tritonserver.InternalError) and answer.final
    with pytest.raises(tritonserver.NotFoundError, match="version 7 is not found"):
        server.model("echo", 7).infer(inputs={})


def test_an_error_that_is_not_the_last_answer(server: tritonserver.Server) -> None:
    asked = {"IN": np.array([-1], np.int32)}
    error, answer, last = server.model("count").infer(inputs=asked, raise_on_error=False)
    assert isinstance(error.error, tritonserver.InternalError) and not error.final
    assert "not at once" in str(error.error)
    assert answer.error is None and np.from_dlpack(answer.outputs["OUT"]).tolist() == [0]
    assert last.final and not last.outputs
    responses = server.model("count").infer(inputs=asked)
    with pytest.raises(tritonserver.InternalError, match="not at once"):
        next(responses)
    assert [answer.final for answer in responses] == [False, True]


def test_many_answers(server: tritonserver.Server) -> None:
    request = server.model("count").create_request(inputs={"IN": np.array([3], np.int32)})
    answers = list(server.model("count").infer(request))
    assert [list(one.outputs) for one in answers] == [["OUT"]] * 3 + [[]]
    assert [one.final for one in answers] == [False, False, False, True]
    assert [int(one.outputs["OUT"].to_array()[0]) for one in answers[:3]] == [0, 1, 2]


def test_answers_do_not_change_later(server: tritonserver.Server) -> None:
    """Small ones and large ones: what a response shows is its own."""
    model = server.model("echo")
    answers = []
    for number in range(20):
        size = 10 if number % 2 else 300_000
        inputs = {"fp32_in": np.full(size, number, np.float32)}
        answers += list(model.infer(inputs=inputs))
    for number, answer in enumerate(answers):
        assert (np.from_dlpack(answer.outputs["fp32_out"]) == number).all()


def test_cancel(server: tritonserver.Server) -> None:
    responses = server.model("count").infer(inputs={"IN": np.array([1 << 30], np.int32)})
    assert int(next(responses).outputs["OUT"].to_array()[0]) == 0
    responses.cancel()
    assert [one for one in responses if one.final]


def test_a_queue_of_ones_own(server: tritonserver.Server) -> None:
    own: queue.SimpleQueue[tritonserver.InferenceResponse] = queue.SimpleQueue()
    model = server.model("count")
    both = [
        model.infer(inputs={"IN": np.array([2], np.int32)}, response_queue=own) for _ in range(2)
    ]
    said = [own.get(timeout=30) for _ in range(6)]
    assert sum(one.final for one in said) == 2
    assert [len(list(one)) for one in both] == [3, 3]
    assert own.empty()


async def test_on_a_loop(server: tritonserver.Server) -> None:
    own: asyncio.Queue[tritonserver.InferenceResponse] = asyncio.Queue()
    inputs = {"IN": np.array([2], np.int32)}
    responses = server.model("count").async_infer(inputs=inputs, response_queue=own)
    assert len([one async for one in responses]) == 3
    assert own.qsize() == 3
    with pytest.raises(tritonserver.InternalError, match="a bad day"):
        async for _ in server.model("broken").async_infer(inputs={"IN": np.ones((1, 1), np.int32)}):
            pass


def test_from_many_threads(server: tritonserver.Server) -> None:
    found: list[float] = []

    def ask(number: int) -> None:
        inputs = {"fp32_in": np.full(5, number, np.float32)}
        (answer,) = server.model("echo").infer(inputs=inputs)
        found.append(float(answer.outputs["fp32_out"].to_array()[0]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(16))


def test_explicit_control(start: Start) -> None:
    server = start(startup_models=["echo"])
    assert sorted(server.models()) == [("broken", -1), ("count", -1), ("echo", 1)]
    assert list(server.models(exclude_not_ready=True)) == [("echo", 1)]
    assert not server.model("count").ready()
    count = server.load("count")
    assert count.ready()
    server.unload(count, wait_until_unloaded=True)
    assert server.models()["count", 1].state == "UNAVAILABLE"
    assert server.models()["count", 1].reason == "unloaded"
    config = json.dumps({**server.model("echo").config(), "max_batch_size": 8})
    loaded = server.load("echo", {"config": config})
    assert loaded.batch_properties() is tritonserver.ModelBatchFlag.FIRST_DIM
    with pytest.raises(tritonserver.InternalError, match="failed to load 'none'"):
        server.load("none")
    with pytest.raises(tritonserver.InvalidArgumentError, match="load parameter 'x'"):
        server.load("echo", {"x": "y"})
    with pytest.raises(tritonserver.UnavailableError, match="polling is disabled"):
        server.poll_model_repository()


def test_a_model_whose_files_come_with_the_load(start: Start, models: Path) -> None:
    server = start()
    code = (models / "echo" / "1" / "model.py").read_bytes()
    config = (models / "echo" / "config.pbtxt").read_text()
    assert "fp32_in" in config
    tensors = {"fp32_in": "input", "parameters": "output", "fp32_out": "output"}
    said: dict[str, Any] = {"backend": "python", "input": [], "output": []}
    for name, side in tensors.items():
        kind = "TYPE_STRING" if name == "parameters" else "TYPE_FP32"
        said[side].append({"name": name, "data_type": kind, "dims": [-1]})
    model = server.load("sent", {"config": json.dumps(said), "file:1/model.py": code})
    (answer,) = model.infer(inputs={"fp32_in": np.ones(2, np.float32)})
    assert answer.outputs["fp32_out"].to_array().tolist() == [1, 1]


def test_polling_when_asked(tmp_path: Path, models: Path, start: Start) -> None:
    (tmp_path / "echo").symlink_to(models / "echo")
    server = start(
        model_repository=str(tmp_path), model_control_mode=tritonserver.ModelControlMode.POLL
    )
    (tmp_path / "count").symlink_to(models / "count")
    server.poll_model_repository()
    assert server.model("count").ready()
    (tmp_path / "echo").unlink()
    server.poll_model_repository()
    with pytest.raises(tritonserver.NotFoundError):
        server.model("echo").infer(inputs={})


def test_repositories_that_come_and_go(start: Start, models: Path, tmp_path: Path) -> None:
    server = start(model_repository=str(tmp_path))
    with pytest.raises(tritonserver.InvalidArgumentError, match="repository not found"):
        server.register_model_repository(str(tmp_path / "none"))
    server.register_model_repository(str(models), {"parrot": "echo"})
    assert sorted(server.models()) == [("broken", -1), ("count", -1), ("parrot", -1)]
    with pytest.raises(tritonserver.AlreadyExistsError, match="already been registered"):
        server.register_model_repository(str(models))
    parrot = server.load("parrot")
    (answer,) = parrot.infer(inputs={"text_in": ["hello"]})
    assert answer.outputs["text_out"].to_string_array().tolist() == ["hello"]
    server.unregister_model_repository(str(models))
    assert parrot.ready()
    assert not server.models()
    with pytest.raises(tritonserver.InvalidArgumentError, match="repository not found"):
        server.unregister_model_repository(str(models))


def test_repositories_need_explicit_control(server: tritonserver.Server) -> None:
    with pytest.raises(tritonserver.UnsupportedError, match="is not EXPLICIT"):
        server.register_model_repository("/tmp")


def test_the_log_goes_where_it_is_told(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "log"
    server = start(log_file=str(file), log_info=True)
    server.load("echo")
    assert "successfully loaded 'echo' version 1" in file.read_text()


def test_metrics_of_the_programs_own(server: tritonserver.Server) -> None:
    counters = tritonserver.MetricFamily(tritonserver.MetricKind.COUNTER, "own", "ours")
    counter = tritonserver.Metric(counters, {"a": 'b"'})
    counter.increment(2)
    counter.increment(0.5)
    assert (counter.value, counter.kind) == (2.5, tritonserver.MetricKind.COUNTER)
    assert '# HELP own ours\n# TYPE own counter\nown{a="b\\""} 2.5\n' in server.metrics()
    with pytest.raises(tritonserver.InvalidArgumentError, match="non-negative"):
        counter.increment(-1)
    with pytest.raises(tritonserver.UnsupportedError, match="does not support Set"):
        counter.set_value(3)
    gauges = tritonserver.MetricFamily(tritonserver.MetricKind.GAUGE, "level", "now")
    gauge = tritonserver.Metric(gauges)
    gauge.set_value(3)
    gauge.increment(-4)
    assert "level -1\n" in server.metrics()
    del gauge, gauges
    assert "level" not in server.metrics()


def test_metrics_that_are_off(start: Start) -> None:
    with pytest.raises(tritonserver.UnsupportedError, match="'metrics' is off"):
        start(metrics=False).metrics()


def test_a_program_that_never_stops_its_server(models: Path) -> None:
    code = (
        "import tritonserver\n"
        f"server = tritonserver.Server(model_repository={str(models)!r}).start()\n"
        "print(server.ready())"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert time.monotonic() - started < 50
