"""The onnxruntime backend on graphs made here."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import ml_dtypes
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

from nerite import SyncServer  # noqa: E402
from nerite.backends.base import ModelSpec  # noqa: E402
from nerite.backends.onnx.backend import OnnxBackend  # noqa: E402
from nerite.core.call import Answer, Call  # noqa: E402
from nerite.core.errors import InferenceError, Status  # noqa: E402
from nerite.core.request import Request, Response  # noqa: E402
from nerite.placing import Placing  # noqa: E402
from nerite.server import Policy  # noqa: E402

Tensors = dict[str, tuple[int, list[Any]]]


def save(
    folder: Path, op: str, inputs: Tensors, outputs: Tensors, *, initial: Sequence[Any] = ()
) -> ModelSpec:
    """A one-node graph in version 1 of a model's folder."""
    node = helper.make_node(op, list(inputs), list(outputs))
    graph = helper.make_graph([node], "g", _infos(inputs), _infos(outputs), list(initial))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    (folder / "1").mkdir(parents=True)
    onnx.save(model, folder / "1" / "model.onnx")
    return spec(folder)


def _infos(tensors: Tensors) -> list[Any]:
    return [helper.make_tensor_value_info(name, *about) for name, about in tensors.items()]


def simple(folder: Path, op: str, kind: int, shape: list[Any]) -> ModelSpec:
    """a, b -> c, or a -> c for Identity."""
    names = ["a"] if op == "Identity" else ["a", "b"]
    return save(folder, op, {name: (kind, shape) for name in names}, {"c": (kind, shape)})


def spec(folder: Path, **config: Any) -> ModelSpec:
    return ModelSpec("m", 1, folder, "m_0", "cpu", 0, {"name": "m", **config})


def parameters(folder: Path, **values: str) -> ModelSpec:
    named = {name.replace("__", "."): {"string_value": text} for name, text in values.items()}
    return spec(folder, parameters=named)


def tensor(name: str, dims: list[int], data_type: str = "TYPE_FP32") -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": dims}


def loaded(found: ModelSpec) -> OnnxBackend:
    backend = OnnxBackend()
    backend.load(found)
    return backend


def run(backend: OnnxBackend, *requests: dict[str, np.ndarray]) -> list[Answer]:
    answers: dict[int, Answer] = {}
    calls = [
        Call(Request("m", inputs), lambda call, answer: answers.update({id(call): answer}))
        for inputs in requests
    ]
    backend.execute(calls)
    return [answers[id(call)] for call in calls]


def outputs(answer: Answer) -> dict[str, np.ndarray]:
    assert isinstance(answer, Response), answer
    return dict(answer.outputs)


def test_a_fixed_graph(tmp_path: Path) -> None:
    backend = OnnxBackend()
    config = backend.load(simple(tmp_path, "Add", TensorProto.FLOAT, [4]))
    assert config["input"] == [tensor("a", [4]), tensor("b", [4])]
    assert not config.get("max_batch_size")
    assert "dynamic_batching" not in config
    ones = np.ones(4, np.float32)
    (answer,) = run(backend, {"a": ones, "b": ones})
    np.testing.assert_array_equal(outputs(answer)["c"], ones * 2)
    backend.unload()


def test_a_free_first_dimension_is_the_batch(tmp_path: Path) -> None:
    backend = OnnxBackend()
    config = backend.load(simple(tmp_path, "Sub", TensorProto.INT32, ["n", 2]))
    assert (config["max_batch_size"], config["dynamic_batching"]) == (4, {})
    assert config["output"] == [tensor("c", [2], "TYPE_INT32")]
    three = np.full((3, 2), 3, np.int32)
    (answer,) = run(backend, {"a": three, "b": three})
    assert outputs(answer)["c"].tolist() == [[0, 0]] * 3


def test_half_a_config_is_completed(tmp_path: Path) -> None:
    simple(tmp_path, "Identity", TensorProto.FLOAT, ["n", 2])
    given = spec(tmp_path, max_batch_size=1, input=[tensor("a", [2])])
    config = OnnxBackend().load(given)
    assert config["output"] == [tensor("c", [2])]
    assert config["max_batch_size"] == 1
    assert "dynamic_batching" not in config  # nothing to batch


@pytest.mark.parametrize("described", [True, False])
def test_max_batch_size_over_a_fixed_graph_says_what_to_set(
    tmp_path: Path, described: bool
) -> None:
    simple(tmp_path, "Identity", TensorProto.FLOAT, [1, 1, 32, 100])
    given: dict[str, Any] = {"max_batch_size": 8}
    if described:
        given |= {"input": [tensor("a", [1, 32, 100])], "output": [tensor("c", [1, 32, 100])]}
    with pytest.raises(InferenceError, match="batching.*Set max_batch_size: 0"):
        OnnxBackend().load(spec(tmp_path, **given))


def test_requests_of_a_batch_get_their_own_rows(tmp_path: Path) -> None:
    backend = loaded(simple(tmp_path, "Sub", TensorProto.INT32, ["n", 2]))
    one, two = np.full((1, 2), 1, np.int32), np.full((2, 2), 2, np.int32)
    first, second = run(backend, {"a": one, "b": one}, {"a": two, "b": two - 1})
    assert outputs(first)["c"].tolist() == [[0, 0]]
    assert outputs(second)["c"].tolist() == [[1, 1], [1, 1]]


def test_one_bad_request_fails_alone(tmp_path: Path) -> None:
    data = helper.make_tensor("data", TensorProto.FLOAT, [3], [5.0, 6.0, 7.0])
    inputs = {"data": (TensorProto.FLOAT, [3]), "index": (TensorProto.INT64, ["n", 1])}
    found = save(tmp_path, "Gather", inputs, {"c": (TensorProto.FLOAT, ["n", 1])}, initial=[data])
    backend = loaded(found)
    good, bad = np.array([[2]]), np.array([[9]])
    first, second, third = run(backend, {"index": good}, {"index": bad}, {"index": good - 1})
    assert (outputs(first)["c"].item(), outputs(third)["c"].item()) == (7.0, 6.0)
    assert isinstance(second, InferenceError)
    assert second.message.startswith("onnx runtime error 2: ")


def test_an_initial_value_can_be_left_out(tmp_path: Path) -> None:
    ten = helper.make_tensor("b", TensorProto.FLOAT, [2], [10.0, 10.0])
    kind = (TensorProto.FLOAT, [2])
    save(tmp_path, "Add", {"a": kind, "b": kind}, {"c": kind}, initial=[ten])
    described = [tensor("a", [2]), {**tensor("b", [2]), "optional": True}]
    backend = loaded(spec(tmp_path, input=described, output=[tensor("c", [2])]))
    ones = np.ones(2, np.float32)
    without, given = run(backend, {"a": ones})[0], run(backend, {"a": ones, "b": ones})[0]
    assert outputs(without)["c"].tolist() == [11.0, 11.0]
    assert outputs(given)["c"].tolist() == [2.0, 2.0]


def test_strings(tmp_path: Path) -> None:
    backend = loaded(simple(tmp_path, "Identity", TensorProto.STRING, ["n", 1]))
    good = {"a": np.array([["snow ❄".encode()]], dtype=object)}
    bad = {"a": np.array([[b"\xff\xfe"]], dtype=object)}
    answer, refused = run(backend, good, bad)
    assert outputs(answer)["c"].tolist() == [["snow ❄"]]
    assert isinstance(refused, InferenceError)
    assert refused.status is Status.INVALID_ARG
    assert "input 'a' must be UTF-8 text" in refused.message


def test_bf16(tmp_path: Path) -> None:
    backend = OnnxBackend()
    config = backend.load(simple(tmp_path, "Identity", TensorProto.BFLOAT16, ["n", 3]))
    assert config["input"] == [tensor("a", [3], "TYPE_BF16")]
    rows = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    (answer,) = run(backend, {"a": rows})
    found = outputs(answer)["c"]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found, rows)
    (empty,) = run(backend, {"a": rows[:0]})
    assert outputs(empty)["c"].shape == (0, 3)


def test_scalars_are_sent_as_one_element(tmp_path: Path) -> None:
    backend = OnnxBackend()
    config = backend.load(simple(tmp_path, "Add", TensorProto.FLOAT, []))
    assert (config["input"][0], config["output"][0]) == (tensor("a", [1]), tensor("c", [1]))
    two = np.array([2.0], np.float32)
    (answer,) = run(backend, {"a": two, "b": two})
    assert outputs(answer)["c"].tolist() == [4.0]


def test_a_sequence_output_is_refused_with_the_remedy(tmp_path: Path) -> None:
    node = helper.make_node("SequenceConstruct", ["a"], ["list"])
    copy = helper.make_node("Identity", ["a"], ["c"])
    kind = (TensorProto.FLOAT, [2])
    listed = helper.make_tensor_sequence_value_info("list", *kind)
    graph = helper.make_graph(
        [node, copy], "g", _infos({"a": kind}), [listed, *_infos({"c": kind})]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    (tmp_path / "1").mkdir()
    onnx.save(model, tmp_path / "1" / "model.onnx")
    with pytest.raises(InferenceError, match=r"'list' is a seq\(tensor\(float\)\).*zipmap"):
        OnnxBackend().load(spec(tmp_path))
    backend = loaded(spec(tmp_path, input=[tensor("a", [2])], output=[tensor("c", [2])]))
    assert outputs(run(backend, {"a": np.ones(2, np.float32)})[0])["c"].tolist() == [1.0, 1.0]


def test_a_folder_with_external_data(tmp_path: Path) -> None:
    weights = onnx.numpy_helper.from_array(np.arange(512, dtype=np.float32), "b")
    kind = (TensorProto.FLOAT, [512])
    node = helper.make_node("Add", ["a", "b"], ["c"])
    infos = _infos({"a": kind}), _infos({"c": kind})
    model = helper.make_model(
        helper.make_graph([node], "g", *infos, [weights]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    file = tmp_path / "1" / "model.onnx" / "model.onnx"
    file.parent.mkdir(parents=True)
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (file.parent / "weights.bin").stat().st_size >= 2048
    answer = run(loaded(spec(tmp_path)), {"a": np.zeros(512, np.float32)})[0]
    assert outputs(answer)["c"][-1] == 511.0


def test_what_the_config_says_must_fit_the_graph(tmp_path: Path) -> None:
    simple(tmp_path, "Add", TensorProto.FLOAT, [4])
    two = [tensor("a", [4]), tensor("b", [4])]
    sequence = {"control_input": [{"name": "b", "control": []}]}
    for given, text in (
        ({"input": two[:1]}, "configuration expects 1 inputs, model provides 2. .*lacks b"),
        ({"input": [two[0], tensor("x", [4])]}, "'x', allowed inputs are: a, b"),
        ({"output": [tensor("x", [4])]}, "'x', allowed outputs are: c"),
        ({"input": [two[0], tensor("b", [4], "TYPE_INT8")]}, "TYPE_INT8 for input 'b', model"),
        ({"input": [two[0], tensor("b", [5])]}, r"model expects 1 dimensions \(shape \[4\]\)"),
        ({"output": [tensor("c", [-1])]}, "model 'm', tensor 'c': the model expects 1 dim"),
        ({"input": two[:1], "sequence_batching": sequence}, r"dims \[4\] but dims \[1\] is"),
    ):
        complete = {"input": two, "output": [tensor("c", [4])], **given}
        with pytest.raises(InferenceError, match=text):
            OnnxBackend().load(spec(tmp_path, **complete))


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match=r"unable to find '.*model.onnx' for model"):
        OnnxBackend().load(spec(tmp_path))
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(InferenceError, match="onnx runtime error 7: "):
        OnnxBackend().load(spec(tmp_path))


def test_session_options(tmp_path: Path) -> None:
    simple(tmp_path, "Add", TensorProto.FLOAT, [4])
    found = parameters(
        tmp_path,
        intra_op_thread_count="1",
        inter_op_thread_count="1",
        execution_mode="1",
        enable_mem_arena="0",
        enable_mem_pattern="false",
        session__use_device_allocator_for_initializers="1",
        memory__enable_memory_arena_shrinkage="cpu:0",
    )
    options = loaded(found)._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    entry = "session.use_device_allocator_for_initializers"
    assert options.get_session_config_entry(entry) == "1"


def test_the_instances_of_a_model_share_the_cores(tmp_path: Path) -> None:
    simple(tmp_path, "Add", TensorProto.FLOAT, [4])
    two = loaded(spec(tmp_path, instance_group=[{"count": 2}]))._session.get_session_options()
    assert two.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_options_that_are_wrong_are_named(tmp_path: Path) -> None:
    simple(tmp_path, "Add", TensorProto.FLOAT, [4])
    for values, text in (
        ({"intra_op_thread_count": "many"}, "intra_op_thread_count is 'many'"),
        ({"execution_mode": "2"}, "execution_mode are 0 or 1 but got 2"),
        ({"enable_mem_arena": "maybe"}, "enable_mem_arena is 'maybe'"),
    ):
        with pytest.raises(InferenceError, match=text):
            OnnxBackend().load(parameters(tmp_path, **values))


def test_accelerators(tmp_path: Path) -> None:
    simple(tmp_path, "Add", TensorProto.FLOAT, [4])

    def asking(kind: str, name: str) -> ModelSpec:
        accelerators = {f"{kind}_execution_accelerator": [{"name": name}]}
        return spec(tmp_path, optimization={"execution_accelerators": accelerators})

    with pytest.raises(InferenceError, match="unknown Execution Accelerator 'warp'"):
        OnnxBackend().load(asking("cpu", "warp"))
    with pytest.raises(InferenceError, match="install onnxruntime-openvino, or remove it"):
        OnnxBackend().load(asking("cpu", "openvino"))
    assert loaded(asking("gpu", "tensorrt"))  # this instance runs on the CPU


def test_the_servers_settings_of_the_backend(tmp_path: Path, start_server: Any) -> None:
    simple(tmp_path / "m", "Identity", TensorProto.FLOAT, ["n", 2])
    options = ("--model-repository", str(tmp_path), "--backend-config")
    batch = start_server(*options, "onnxruntime,default-max-batch-size=7")
    with urlopen(f"{batch.url}/v2/models/m/config") as answer:
        assert json.load(answer)["max_batch_size"] == 7
    refusing = [*options, "onnxruntime,default-max-batch-size=many", "--exit-on-error=false"]
    server = start_server(*refusing, "--strict-readiness=false")
    assert "default-max-batch-size is 'many'" in server.log.read_text()


def test_nothing_is_completed_where_that_is_off(tmp_path: Path) -> None:
    given = replace(simple(tmp_path, "Identity", TensorProto.FLOAT, ["n", 2]), complete=False)
    with pytest.raises(InferenceError, match="configuration expects 0 inputs, model provides 1"):
        OnnxBackend().load(given)


def test_a_full_config_is_checked_before_its_file(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    text = 'backend: "onnxruntime" max_batch_size: -1'
    (tmp_path / "m" / "config.pbtxt").write_text(text)
    policy = Policy(placing=Placing(complete=False))
    with SyncServer(tmp_path, policy=policy) as server:
        (state,) = server.index()
    assert "max_batch_size" in state.reason


def test_threads_of_a_pool_for_all(tmp_path: Path) -> None:
    simple(tmp_path, "Add", TensorProto.FLOAT, [4])
    settings = {"enable-global-threadpool": "1", "intra_op_thread_count": "3"}
    given = replace(parameters(tmp_path, intra_op_thread_count="1"), settings=settings)
    assert loaded(given)._session.get_session_options().intra_op_num_threads == 3
