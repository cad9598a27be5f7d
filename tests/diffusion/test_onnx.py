"""Graphs of other types than float32 get what they take and give float32."""

import numpy as np
import pytest

from nerite.diffusion.runtimes.onnx import OnnxNetwork, OnnxRuntime
from nerite.diffusion.settings import Settings

onnx = pytest.importorskip("onnx")


@pytest.fixture
def write_graph(tmp_path):
    def write(output=onnx.TensorProto.FLOAT, **types):
        """A graph that adds its inputs up, all of them [batch], into the type ``output``."""
        make_value, make_node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
        inputs = [make_value(name, kind, ["b"]) for name, kind in types.items()]
        cast = [
            make_node("Cast", [name], [f"{name}_cast"], to=onnx.TensorProto.FLOAT) for name in types
        ]
        add = make_node("Sum", [f"{name}_cast" for name in types], ["sum"])
        end = make_node("Cast", ["sum"], ["total"], to=output)
        nodes, total = [*cast, add, end], make_value("total", output, ["b"])
        graph = onnx.helper.make_graph(nodes, "sum", inputs, [total])
        opset = onnx.helper.make_opsetid("", 17)
        path = tmp_path / "part" / "model.onnx"
        path.parent.mkdir(exist_ok=True)
        onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
        return OnnxRuntime(tmp_path, Settings(threads=1)).load("part")

    return write


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE"])
def test_inputs_are_cast_and_the_output_is_float32(write_graph, kind):
    kind = getattr(onnx.TensorProto, kind)
    network = write_graph(output=kind, a=kind, b=onnx.TensorProto.INT32)
    assert network.inputs["a"].shape == ("b",)
    assert network.inputs["b"].dtype == np.int32
    (output,) = network.run({"a": np.array([0.5, 1.5]), "b": np.array([1, 2], np.int64)})
    assert output.dtype == np.float32
    assert output.tolist() == [1.5, 3.5]


def test_a_whole_input_gets_the_nearest_of_a_fraction(write_graph):
    network = write_graph(a=onnx.TensorProto.INT64)
    assert network.run({"a": np.array([946.4, 946.6])})[0].tolist() == [946, 947]


def test_a_type_that_cannot_be_served_is_named(write_graph):
    with pytest.raises(ValueError, match="input 'a' has type tensor\\(uint8\\)"):
        write_graph(a=onnx.TensorProto.UINT8)


def test_batches_of_changing_size_run_one_after_the_other(write_graph):
    network = write_graph(a=onnx.TensorProto.FLOAT)
    for size in (1, 5, 2, 9, 1):
        assert network.run({"a": np.ones(size)})[0].shape == (size,)


def test_a_missing_graph_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.onnx is missing"):
        OnnxNetwork(tmp_path / "model.onnx", [("CPUExecutionProvider", {})], 1)
