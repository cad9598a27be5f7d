"""Load, ask and unload a model of 200 MB again and again: what stays behind?

    python benchmarks/unload.py [--times N] [--placement process|thread] [--onnx]

Prints what the server's processes hold after each unload; the last is held against the second.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import tritonclient.http
from serving import serve

CONFIG = """
name: "big"
backend: "python"
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
parameters { key: "PLACEMENT" value: { string_value: "%s" } }
"""
CODE = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.weights = np.ones(50_000_000, dtype=np.float32)

    def execute(self, requests):
        total = np.array([self.weights[:10].sum()], dtype=np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", total)]) for _ in requests]
"""
ONNX = """
name: "big"
backend: "onnxruntime"
instance_group [ { kind: KIND_CPU count: 1 } ]
"""


def write_onnx(file: Path) -> None:
    """y = x + sum of the first of 50 million weights."""
    import onnx
    from onnx import helper, numpy_helper

    weights = numpy_helper.from_array(np.ones(50_000_000, dtype=np.float32), "weights")
    shape = {"IN": [1], "OUT": [1]}
    values = {
        name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name, dims in shape.items()
    }
    nodes = [
        helper.make_node("ReduceMax", ["weights"], ["most"], keepdims=0),
        helper.make_node("Add", ["IN", "most"], ["OUT"]),
    ]
    graph = helper.make_graph(nodes, "big", [values["IN"]], [values["OUT"]], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(file))


def held(process: psutil.Process) -> float:
    """MB of the server and all of its workers."""
    processes = [process, *process.children(recursive=True)]
    return float(sum(one.memory_info().rss for one in processes)) / 1e6


def rest(process: psutil.Process) -> None:
    """Wait until a server has imported what it imports after its start: libraries of some MB."""
    before = -1.0
    while (now := sum(process.cpu_times()[:2])) != before:
        before = now
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--placement", choices=("process", "thread"), default="process")
    parser.add_argument("--onnx", action="store_true", help="an ONNX model, not a Python one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "big" / "1"
        model.mkdir(parents=True)
        if options.onnx:
            (model.parent / "config.pbtxt").write_text(ONNX)
            write_onnx(model / "model.onnx")
        else:
            (model.parent / "config.pbtxt").write_text(CONFIG % options.placement)
            (model / "model.py").write_text(CODE)
        arguments = ("--model-repository", folder, "--model-control-mode=explicit")
        with serve(*arguments) as server:
            rest(server.process)
            client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.port}")
            given = tritonclient.http.InferInput("IN", [1], "FP32")
            given.set_data_from_numpy(np.zeros(1, np.float32))
            after: list[float] = []
            most = 0.0
            for _ in range(options.times):
                client.load_model("big")
                client.infer("big", [given])
                most = max(most, held(server.process))
                client.unload_model("big")
                while client.get_model_repository_index()[0].get("reason") != "unloaded":
                    time.sleep(0.01)
                after.append(held(server.process))
    change = after[-1] / after[1] - 1
    print(f"{most:.0f} MB with the model; unloaded: {after[1]:.1f} MB after the second time,")
    print(f"{after[-1]:.1f} after time {options.times} ({change:+.1%}; goal within 5 %)")
    if abs(change) > 0.05:
        sys.exit("the server grows")


if __name__ == "__main__":
    main()
