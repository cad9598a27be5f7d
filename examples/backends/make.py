"""Writes the model files of these examples: `python make.py`. Needs onnx, torch, paddlepaddle."""

from __future__ import annotations

import os
from pathlib import Path

_HERE = Path(__file__).parent


def onnx() -> None:
    """Pixels from 0 to 255 as a network trained on ImageNet wants them."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    mean = numpy_helper.from_array(np.array([123.675, 116.28, 103.53], np.float32), "mean")
    spread = numpy_helper.from_array(np.array([58.395, 57.12, 57.375], np.float32), "spread")
    nodes = [
        helper.make_node("Cast", ["PIXELS"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["numbers", "mean"], ["around_zero"]),
        helper.make_node("Div", ["around_zero", "spread"], ["NORMAL"]),
    ]
    given = helper.make_tensor_value_info("PIXELS", TensorProto.UINT8, ["batch", "h", "w", 3])
    found = helper.make_tensor_value_info("NORMAL", TensorProto.FLOAT, ["batch", "h", "w", 3])
    graph = helper.make_graph(nodes, "normalize", [given], [found], [mean, spread])
    opset = [helper.make_opsetid("", 17)]
    for model in ("onnx/normalize", "fastdeploy/normalize"):
        save(
            helper.make_model(graph, opset_imports=opset, ir_version=10),
            _file(model, "onnx"),
        )


def pytorch() -> None:
    """A program of TorchScript, and one of torch.export."""
    import torch

    class Mix(torch.nn.Module):
        def forward(self, first: torch.Tensor, second: torch.Tensor, share: torch.Tensor):
            return first * share + second * (1 - share)

    class Moments(torch.nn.Module):
        def forward(self, rows: torch.Tensor):
            return {"mean": rows.mean(1, keepdim=True), "spread": rows.std(1, keepdim=True)}

    torch.jit.script(Mix()).save(str(_file("pytorch/mix", "pt")))
    any_number = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", min=2)}
    program = torch.export.export(Moments(), (torch.ones(2, 5),), dynamic_shapes=(any_number,))
    torch.export.save(program, str(_file("pytorch/moments", "pt2")))


def paddle() -> None:
    """Degrees Celsius in Fahrenheit."""
    os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112  writes model.pdmodel
    import paddle

    paddle.enable_static()
    program, start = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, start):
        celsius = paddle.static.data("CELSIUS", [-1, 1], "float32")
        slope = paddle.static.create_parameter(
            [1], "float32", default_initializer=paddle.nn.initializer.Constant(1.8)
        )
        fahrenheit = celsius * slope + 32.0
        run = paddle.static.Executor(paddle.CPUPlace())
        run.run(start)
        file = _file("paddle/fahrenheit", "pdmodel")
        paddle.static.save_inference_model(
            str(file.with_suffix("")), [celsius], [fahrenheit], run, program=program
        )
    print("the output is", fahrenheit.name)


def _file(model: str, suffix: str) -> Path:
    file = _HERE / model / "1" / f"model.{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


if __name__ == "__main__":
    onnx()
    pytorch()
    paddle()
