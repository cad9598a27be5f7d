"""The paddle and fastdeploy backends on a program that PaddlePaddle writes in a process of its
own, which leaves this one as it is."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import nerite
from nerite.backends.base import ModelSpec
from nerite.backends.fastdeploy import FastDeployBackend
from nerite.backends.paddle import PaddleBackend

WRITE = """
import os, sys
os.environ["FLAGS_enable_pir_api"] = "0"  # .pdmodel, as FastDeploy's repositories have it
import paddle
paddle.enable_static()
program, start = paddle.static.Program(), paddle.static.Program()
with paddle.static.program_guard(program, start):
    x = paddle.static.data("x", [-1, 3], "float32")
    y = paddle.static.data("y", [-1, 3], "float32")
    scale = paddle.static.create_parameter(
        [3], "float32", default_initializer=paddle.nn.initializer.Constant(2.0)
    )
    out = x * scale + y
    run = paddle.static.Executor(paddle.CPUPlace())
    run.run(start)
    paddle.static.save_inference_model(sys.argv[1], [x, y], [out], run, program=program)
    print(out.name)
"""
CONFIG = """
    name: "NAME" backend: "BACKEND" max_batch_size: 8
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 3 ] },
            { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
    output { name: "OUT" data_type: TYPE_FP32 dims: [ 3 ] }
    dynamic_batching {}
    instance_group { kind: KIND_CPU }
"""
ENGINE = """
    optimization { execution_accelerators { cpu_execution_accelerator {
        name: "ENGINE" parameters { key: "cpu_threads" value: "1" } } } }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with model.pdmodel and model.pdiparams for x * 2 + y, and its output's name."""
    if find_spec("paddle") is None:
        pytest.skip("paddlepaddle is not installed")
    folder = tmp_path_factory.mktemp("program")
    command = [sys.executable, "-W", "ignore", "-c", WRITE, str(folder / "model")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return folder, done.stdout.split()[-1]


def write(folder: Path, name: str, backend: str, program: tuple[Path, str], more: str = "") -> None:
    shutil.copytree(program[0], folder / name / "1")
    config = CONFIG.replace("NAME", name).replace("BACKEND", backend).replace("OUT", program[1])
    (folder / name / "config.pbtxt").write_text(config + more)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, program: tuple[Path, str]
) -> Iterator[nerite.SyncServer]:
    folder = tmp_path_factory.mktemp("models")
    write(folder, "paddle", "paddle", program, ENGINE.replace("ENGINE", "mkldnn"))
    write(folder, "deploy", "fastdeploy", program, ENGINE.replace("ENGINE", "openvino"))
    write(folder, "unknown", "paddle", program, ENGINE.replace("ENGINE", "warp"))
    write(folder, "broken", "paddle", program)
    (folder / "broken" / "1" / "model.pdmodel").write_bytes(b"not a program")
    (folder / "misnamed").mkdir()
    write(folder / "misnamed", "m", "paddle", program)
    shutil.move(folder / "misnamed" / "m" / "1", folder / "misnamed" / "1")
    text = (folder / "misnamed" / "m" / "config.pbtxt").read_text()
    text = text.replace('"m"', '"misnamed"').replace('"x"', '"z"')
    (folder / "misnamed" / "config.pbtxt").write_text(text)
    with nerite.SyncServer(folder) as server:
        yield server


@pytest.mark.parametrize("model", ["paddle", "deploy"])
def test_a_program_answers(
    server: nerite.SyncServer, program: tuple[Path, str], model: str
) -> None:
    three = np.full((2, 3), 3, np.float32)
    answer = server.infer(nerite.Request(model, {"x": three, "y": three})).one()
    assert answer.outputs[program[1]].tolist() == [[9.0] * 3] * 2


def test_what_does_not_load_is_told(server: nerite.SyncServer) -> None:
    reasons = {state.name: state.reason for state in server.index()}
    assert "unknown cpu_execution_accelerator name 'warp'" in reasons["unknown"]
    assert re.search(r"died( \(SIG\w+\))? while loading the model", reasons["broken"])
    assert "unexpected inference input 'z', allowed inputs are: x, y" in reasons["misnamed"]
    assert not reasons["paddle"]


def test_files_and_names_that_are_missing(tmp_path: Path) -> None:
    found = ModelSpec("m", 1, tmp_path, "m_0", "cpu", 0, {"name": "m"})
    with pytest.raises(nerite.InferenceError, match="unable to find .*model.pdmodel"):
        PaddleBackend().load(found)
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.pdmodel").touch()
    with pytest.raises(nerite.InferenceError, match="at least one input .* config.pbtxt must"):
        PaddleBackend().load(found)


def test_fastdeploy_with_onnx(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    info = [onnx.helper.make_tensor_value_info(name, 1, ["n", 2]) for name in ("a", "b")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["a"], ["b"])], "g", info[:1], info[1:]
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    (tmp_path / "1").mkdir()
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    onnx.save(model, tmp_path / "1" / "model.onnx")
    engine = {"name": "openvino", "parameters": {"cpu_threads": "1"}}
    config = {
        "name": "m",
        "optimization": {"execution_accelerators": {"cpu_execution_accelerator": [engine]}},
    }
    backend = FastDeployBackend()
    completed = backend.load(ModelSpec("m", 1, tmp_path, "m_0", "cpu", 0, config))
    assert completed["optimization"] == config["optimization"]
    assert completed["input"][0]["dims"] == [2]
    assert "'openvino' is left out: onnxruntime runs this model" in capfd.readouterr().err
