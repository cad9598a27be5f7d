"""A ResNet-50 with random weights, made here: a real network's work without a download."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride
CLASSES = 1000
IMAGE = (3, 224, 224)


class _Graph:
    """Nodes and weights, one layer after the other."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        spread = np.sqrt(2 / max(1, int(np.prod(shape[1:]))))
        values = (self._random.standard_normal(shape) * spread).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, data: str, before: int, after: int, size: int, stride: int = 1) -> str:
        """A convolution with its bias, as batch normalization leaves it when it is folded in."""
        pads = [size // 2] * 4
        weights = self.weight(after, before, size, size), self.weight(after)
        return self.add("Conv", data, *weights, strides=[stride] * 2, pads=pads)


def save_resnet50(path: Path) -> None:
    """`image` [n, 3, 224, 224] to `scores` [n, 1000], both FP32."""
    graph = _Graph()
    data = graph.add("Relu", graph.conv("image", 3, 64, 7, 2))
    data = graph.add("MaxPool", data, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width, blocks, stride in _STAGES:
        for block in range(blocks):
            data = _bottleneck(graph, data, channels, width, stride if block == 0 else 1)
            channels = 4 * width
    data = graph.add("Flatten", graph.add("GlobalAveragePool", data))
    weights = graph.weight(CLASSES, channels), graph.weight(CLASSES)
    graph.nodes.append(helper.make_node("Gemm", [data, *weights], ["scores"], transB=1))
    made = helper.make_graph(
        graph.nodes,
        "resnet50",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *IMAGE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        graph.weights,
    )
    opset = helper.make_opsetid("", 17)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(made, opset_imports=[opset], ir_version=10), path)


def _bottleneck(graph: _Graph, data: str, before: int, width: int, stride: int) -> str:
    inner = graph.add("Relu", graph.conv(data, before, width, 1))
    inner = graph.add("Relu", graph.conv(inner, width, width, 3, stride))
    inner = graph.conv(inner, width, 4 * width, 1)
    if before != 4 * width or stride != 1:
        data = graph.conv(data, before, 4 * width, 1, stride)
    return graph.add("Relu", graph.add("Add", inner, data))
