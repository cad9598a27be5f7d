"""Metrics that models make themselves, on the metrics port, shared by instances."""

import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import tritonclient.grpc

from .conftest import Serve, add_model, identity

COUNTS = """
    class TritonPythonModel:
        def initialize(self, args):
            Family = pb_utils.MetricFamily
            self.family = Family("seen_items", "how many", Family.COUNTER)
            self.seen = self.family.Metric(labels={"kind": 'a "b"'})
            self.sizes_family = Family("sizes", "how large", Family.HISTOGRAM)
            self.sizes = self.sizes_family.Metric(buckets=[1, 10])

        def execute(self, requests):
            for request in requests:
                value = float(request.inputs()[0].as_numpy()[0])
                self.sizes.observe(value)
                try:
                    self.seen.increment(value)
                except pb_utils.TritonModelException as error:
                    self.last = str(error)
            said = np.array([self.seen.value()], np.float32)
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", said)])] * len(requests)
"""


def test_counters_and_histograms(serve: Serve, tmp_path: Path) -> None:
    two = "instance_group [ { count: 2 } ]"
    add_model(tmp_path, "counts", identity("FP32") + two, COUNTS)
    serving = serve(f"--model-repository={tmp_path}", "--model-control-mode=explicit",
                    "--load-model=counts")  # fmt: skip
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        for value, total in ((2, 2), (5, 7), (20, 27), (-1, 27)):
            tensor = tritonclient.grpc.InferInput("INPUT0", [1], "FP32")
            tensor.set_data_from_numpy(np.array([value], np.float32))
            assert client.infer("counts", [tensor]).as_numpy("OUTPUT0")[0] == total
        lines = metrics(serving.metrics)
        assert "# HELP seen_items how many" in lines
        assert 'seen_items{kind="a \\"b\\""} 27' in lines
        assert [line for line in lines if line.startswith("sizes")] == [
            "sizes_count 4", "sizes_sum 26", 'sizes_bucket{le="1"} 1', 'sizes_bucket{le="10"} 3',
            'sizes_bucket{le="+Inf"} 4',
        ]  # fmt: skip
        client.unload_model("counts")
        deadline = time.monotonic() + 20
        while any("seen_items" in line for line in metrics(serving.metrics)):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def metrics(address: str) -> list[str]:
    with urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return str(answer.read().decode()).splitlines()
