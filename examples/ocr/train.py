"""Trains the two models on rendered words and writes them as ONNX: `python train.py`.

They were made so, in three quarters of an hour on two busy cores; `--seconds` trains on for a
while only, and the next call goes on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import onnx
import torch
from training import detection, recognition

_HERE = Path(__file__).parent
_STEPS = {"text_detection": 3300, "text_recognition": 3200}
_SHAPES = {
    "text_detection": ((1, 480, 640, 3), {0: "batch", 1: "height", 2: "width"}),
    "text_recognition": ((1, 1, 32, 100), {0: "batch"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--state", type=Path, default=_HERE / "training")
    parser.add_argument("model", nargs="*", default=["text_detection", "text_recognition"])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # the models are so small that two threads wait for each other
    for module in (detection, recognition):
        if module.NAME in arguments.model:
            loop = module.loop()
            loop.train(arguments.state, arguments.seconds, _STEPS[module.NAME])
            export(module, loop.model)


def export(module: ModuleType, model: torch.nn.Module) -> None:
    shape, free = _SHAPES[module.NAME]
    file = _HERE / "models" / module.NAME / "1" / "model.onnx"
    file.parent.mkdir(parents=True, exist_ok=True)
    names = [f"out_{index}" for index in range(len(module.OUTPUTS))]
    torch.onnx.export(
        model.eval(),
        (torch.zeros(shape),),
        str(file),
        input_names=["in"],
        output_names=names,
        dynamic_axes={name: free for name in ("in", *names)},
        opset_version=17,
        dynamo=False,
    )
    _rename(file, {"in": module.INPUT, **dict(zip(names, module.OUTPUTS, strict=True))})
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


def _rename(file: Path, names: dict[str, str]) -> None:
    """Give the tensors their own names, some of which torch's exporter refuses ("308")."""
    graph = onnx.load(file)
    for node in graph.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in (*graph.graph.input, *graph.graph.output):
        tensor.name = names.get(tensor.name, tensor.name)
    onnx.save(graph, file)


if __name__ == "__main__":
    main()
