"""The onnxruntime backend on graphs made here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

from nerite.backends.base import ModelSpec  # noqa: E402
from nerite.backends.onnx import OnnxBackend  # noqa: E402
from nerite.core.call import Answer, Call  # noqa: E402
from nerite.core.errors import InferenceError  # noqa: E402
from nerite.core.request import Request, Response  # noqa: E402


def save(
    folder: Path, op: str, kind: int, shape: list[Any], *, external: bool = False
) -> ModelSpec:
    """A one-node graph of a, b -> c in version 1 of a model's folder."""
    names = ["a", "b"] if op in ("Add", "Sub") else ["a"]
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name in names]
    output = helper.make_tensor_value_info("c", kind, shape)
    graph = helper.make_graph([helper.make_node(op, names, ["c"])], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    target = folder / "1" / "model.onnx"
    if external:
        target = target / "model.onnx"
    target.parent.mkdir(parents=True)
    onnx.save(model, target)
    return spec(folder)


def spec(folder: Path, **config: Any) -> ModelSpec:
    return ModelSpec("m", 1, folder, "m_0", "cpu", 0, {"name": "m", **config})


def run(backend: OnnxBackend, **inputs: np.ndarray) -> Answer:
    answers: list[Answer] = []
    backend.execute([Call(Request("m", inputs), lambda call, answer: answers.append(answer))])
    (answer,) = answers
    return answer


def outputs(answer: Answer) -> dict[str, np.ndarray]:
    assert isinstance(answer, Response), answer
    return dict(answer.outputs)


def test_a_fixed_graph(tmp_path: Path) -> None:
    backend = OnnxBackend()
    config = backend.load(save(tmp_path, "Add", TensorProto.FLOAT, [4]))
    assert config["input"] == [
        {"name": "a", "data_type": "TYPE_FP32", "dims": [4]},
        {"name": "b", "data_type": "TYPE_FP32", "dims": [4]},
    ]
    assert not config.get("max_batch_size")
    ones = np.ones(4, np.float32)
    np.testing.assert_array_equal(outputs(run(backend, a=ones, b=ones))["c"], ones * 2)
    backend.unload()


def test_a_free_first_dimension_is_the_batch(tmp_path: Path) -> None:
    backend = OnnxBackend()
    config = backend.load(save(tmp_path, "Sub", TensorProto.INT32, ["n", 2]))
    assert (config["max_batch_size"], config["dynamic_batching"]) == (4, {})
    assert config["output"] == [{"name": "c", "data_type": "TYPE_INT32", "dims": [2]}]
    three = np.full((3, 2), 3, np.int32)
    assert outputs(run(backend, a=three, b=three))["c"].tolist() == [[0, 0]] * 3


def test_strings_and_a_folder_as_model(tmp_path: Path) -> None:
    backend = OnnxBackend()
    backend.load(save(tmp_path, "Identity", TensorProto.STRING, [2], external=True))
    texts = np.array(["snow ❄".encode(), b""], dtype=object)
    assert outputs(run(backend, a=texts))["c"].tolist() == ["snow ❄", ""]


def test_what_the_config_says_must_fit_the_graph(tmp_path: Path) -> None:
    save(tmp_path, "Add", TensorProto.FLOAT, [4])
    tensor = {"name": "x", "data_type": "TYPE_FP32", "dims": [4]}
    with pytest.raises(InferenceError, match="'x', allowed inputs are: a, b"):
        OnnxBackend().load(spec(tmp_path, input=[tensor]))
    wrong = {**tensor, "name": "a", "data_type": "TYPE_INT8"}
    with pytest.raises(InferenceError, match="expects datatype TYPE_INT8 for input 'a'"):
        OnnxBackend().load(spec(tmp_path, input=[wrong]))


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match=r"unable to find '.*model.onnx' for model 'm'"):
        OnnxBackend().load(spec(tmp_path))
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(InferenceError, match="onnx runtime error"):
        OnnxBackend().load(spec(tmp_path))


def test_a_failed_run_is_an_error_of_its_request(tmp_path: Path) -> None:
    backend = OnnxBackend()
    backend.load(save(tmp_path, "Add", TensorProto.FLOAT, [4]))
    answer = run(backend, a=np.ones(3, np.float32), b=np.ones(3, np.float32))
    assert isinstance(answer, InferenceError)
    assert "onnx runtime error" in answer.message
    ones = np.ones(4, np.float32)
    assert "c" in outputs(run(backend, a=ones, b=ones))
