"""Model warm-up: what instances are asked before the model is ready."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nerite
from nerite import Request, SyncServer

from .conftest import Serve, add_model

# Notes every execution in a file: the instance, and the inputs of each request.
NOTES = """
    import json, pathlib

    class TritonPythonModel:
        def initialize(self, args):
            self.file = pathlib.Path(args["model_repository"]) / "notes"
            self.name = args["model_instance_name"]

        def execute(self, requests):
            seen = [
                {one.name(): one.as_numpy().astype(str).tolist() for one in request.inputs()}
                for request in requests
            ]
            with self.file.open("a") as file:
                file.write(json.dumps([self.name, seen]) + chr(10))
            if any(one.as_numpy().dtype != object and (one.as_numpy() == 7).any()
                   for request in requests for one in request.inputs()):
                raise pb_utils.TritonModelException("An Error Occurred")
            tensor = pb_utils.Tensor("OUTPUT0", np.zeros((1, 1), np.float32))
            return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""
CONFIG = """
    backend: "python" max_batch_size: 8
    input { name: "TEXT" data_type: TYPE_STRING dims: [ -1 ] }
    input { name: "SIZE" data_type: TYPE_INT32 dims: [ 2 ] reshape { shape: [ 2, 1 ] } }
    output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1 ] }
    instance_group { count: 2 kind: KIND_CPU }
"""


def sample(text: str, size: str, more: str = "", dims: str = "[ 2 ]") -> str:
    return f"""
        model_warmup {{ name: "a sample" batch_size: 3 {more}
            inputs {{ key: "TEXT" value {{ data_type: TYPE_STRING dims: [ 1 ] {text} }} }}
            inputs {{ key: "SIZE" value {{ data_type: TYPE_INT32 dims: {dims} {size} }} }}
        }}
    """


def notes(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "m" / "notes").read_text().splitlines()]


def test_every_instance_runs_every_sample(tmp_path: Path) -> None:
    config = CONFIG + sample("zero_data: true", "zero_data: true", "count: 2")
    config += sample('input_data_file: "text"', 'input_data_file: "size"')
    config += 'model_warmup { name: "nothing" }'
    add_model(tmp_path, "m", config, NOTES)
    (tmp_path / "m" / "warmup").mkdir()
    (tmp_path / "m" / "warmup" / "text").write_bytes(b"\x03\x00\x00\x00233")
    (tmp_path / "m" / "warmup" / "size").write_bytes(np.array([1, 2, 3], np.int32).tobytes())
    with SyncServer(tmp_path) as server:
        assert server.ready
        seen = notes(tmp_path)
        (model,) = server.server.models
        assert (model.stats.counts.requests, model.stats.counts.executions) == (0, 0)
    zero = [{"TEXT": [[""]], "SIZE": [[["0"], ["0"]]]}] * 3
    file = [{"TEXT": [["233"]], "SIZE": [[["1"], ["2"]]]}] * 3
    for name in ("m_0_0", "m_0_1"):
        assert [batch for one, batch in seen if one == name] == [zero, zero, file]


def test_random_data(tmp_path: Path) -> None:
    config = CONFIG.replace("SIZE", "BYTE").replace("INT32 dims: [ 2 ]", "UINT8 dims: [ 2 ]")
    config += (
        sample("random_data: true", "random_data: true")
        .replace("SIZE", "BYTE")
        .replace("TYPE_INT32", "TYPE_UINT8")
    )
    add_model(tmp_path, "m", config, NOTES.replace("== 7", "== 255"))
    with SyncServer(tmp_path) as server:
        assert server.ready
        assert len(notes(tmp_path)) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            sample("zero_data: true", 'input_data_file: "sevens"'),
            "failed to run warmup sample 'a sample': ",
        ),
        (
            sample("zero_data: true", 'input_data_file: "short"'),
            "warmup setting expects 8 bytes, but the data provided from short only has 3 bytes",
        ),
        (sample("zero_data: true", 'input_data_file: "none"'), "warmup/none: No such file"),
        (
            sample("zero_data: true", 'input_data_file: "../config.pbtxt"'),
            "'../config.pbtxt' is not in the model's folder 'warmup'",
        ),
        (sample("zero_data: true", ""), "expects input 'SIZE' to have input_data_type set"),
        (
            sample("zero_data: true", "zero_data: true", dims="[ -1 ]"),
            "warmup setting expects all variable-size dimensions are specified for input 'SIZE'",
        ),
        (
            sample("zero_data: true", "zero_data: true", dims="[ 3 ]"),
            "warmup sample 'a sample': [request id: <id_unknown>] unexpected shape for input",
        ),
        (
            sample("zero_data: true", "zero_data: true").replace('"TEXT"', '"CONTROL"'),
            "missing required input(s) ['TEXT']",
        ),
    ],
)
def test_a_sample_that_fails_fails_the_load(tmp_path: Path, text: str, expected: str) -> None:
    add_model(tmp_path, "m", CONFIG + text, NOTES)
    (tmp_path / "m" / "warmup").mkdir()
    (tmp_path / "m" / "warmup" / "short").write_bytes(b"abc")
    (tmp_path / "m" / "warmup" / "sevens").write_bytes(np.array([7, 7], np.int32).tobytes())
    with SyncServer(tmp_path) as server:
        assert not server.ready
        (state,) = server.index()
        assert state.state == "UNAVAILABLE"
        assert expected in state.reason


# Takes half a second for each execution, and dies of a 9.
DIES = "time.sleep(0.5)\n            if seen[0]['SIZE'][0][0] == ['9']: os._exit(3)"
SLOW = NOTES.replace("import json, pathlib", "import json, os, pathlib, time")
SLOW = SLOW.replace("            with self", f"            {DIES}\n            with self")


def ask(server: SyncServer, size: int) -> Any:
    text, sizes = np.array([[b"a"]], object), np.full((1, 2), size, np.int32)
    return server.infer(Request("m", {"TEXT": text, "SIZE": sizes})).one()


def test_a_worker_that_is_back_is_warmed_up_before_it_is_ready(tmp_path: Path) -> None:
    config = CONFIG.replace("count: 2", "count: 1")
    add_model(tmp_path, "m", config + sample("zero_data: true", "zero_data: true"), SLOW)
    with SyncServer(tmp_path) as server:
        assert len(notes(tmp_path)) == 1
        with pytest.raises(nerite.InferenceError, match="is not healthy"):
            ask(server, 9)
        assert not server.ready
        ask(server, 5)  # waits until it is
        assert server.ready
        sizes = [[one["SIZE"] for one in batch] for _, batch in notes(tmp_path)[1:]]
        assert sizes == [[[[["0"], ["0"]]]] * 3, [[[["5"], ["5"]]]]]


def test_the_log_tells_of_it(tmp_path: Path, serve: Serve) -> None:
    config = CONFIG + sample("zero_data: true", "zero_data: true", "count: 2")
    add_model(tmp_path, "m", config, NOTES)
    server = serve(f"--model-repository={tmp_path}", "--log-verbose=1")
    assert "is running warmup sample 'a sample' for iteration 2" in server.log
