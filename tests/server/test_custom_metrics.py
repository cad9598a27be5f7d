"""Metrics that models make themselves, on the metrics port, shared by instances."""

import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import tritonclient.grpc

from nerite.core.custom_metrics import OWN_NAMES

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


# Makes what it is asked for, and says what came of it.
MAKES = """
    Family = pb_utils.MetricFamily

    class TritonPythonModel:
        kept = []

        def execute(self, requests):
            words = requests[0].inputs()[0].as_numpy()
            name, text, kind, label, value = (one.decode("utf-8", "surrogatepass") for one in words)
            try:
                family = Family(name, text, getattr(Family, kind))
                buckets = [1.0] if kind == "HISTOGRAM" else None
                metric = family.Metric(labels={label: value} if label else {}, buckets=buckets)
                self.kept += [family, metric]
                said = "made"
            except pb_utils.TritonModelException as error:
                said = str(error)
            out = pb_utils.Tensor("OUTPUT0", np.array([said], np.object_))
            return [pb_utils.InferenceResponse([out])]
"""


def test_names_that_no_page_can_hold(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "makes", identity("STRING"), MAKES)
    serving = serve(f"--model-repository={tmp_path}")

    def make(
        name: str, text: str = "", kind: str = "GAUGE", label: str = "", value: str = ""
    ) -> str:
        words = [one.encode("utf-8", "surrogatepass") for one in (name, text, kind, label, value)]
        with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
            tensor = tritonclient.grpc.InferInput("INPUT0", [5], "BYTES")
            tensor.set_data_from_numpy(np.array(words, object))
            return str(client.infer("makes", [tensor]).as_numpy("OUTPUT0")[0].decode())

    family, metric = "Error when creating MetricFamily: ", "Error when creating Metric: "
    for name in ("bad name", "", "1st", "\u00e4", "sur\ud800"):
        assert make(name).startswith(f"{family}Invalid metric name '"), name
    assert "letters, digits, '_' and ':', and no digit first" in make("bad name")
    for label in ("bad-label", "a b", "1st", "\u00e4", "__own"):
        assert make("fine", label=label).startswith(f"{metric}Invalid label name '{label}'"), label
    assert make("hist", kind="HISTOGRAM", label="le").startswith(f"{metric}Invalid label name 'le'")
    for name in ("nv_inference_count", "nv_cpu_utilization", "nv_gpu_power_usage"):
        said = make(name)
        assert said.startswith(f"{family}Invalid metric name '{name}': those that begin with 'nv_")
        assert said.endswith("_' are the server's own")
    assert make("nv_ours", 'one\ntwo \\ "three" \ud800', "GAUGE", "of", 'a\n\\"\ud800') == "made"
    lines = metrics(serving.metrics)
    assert '# HELP nv_ours one\\ntwo \\\\ "three" \\\\ud800' in lines
    assert 'nv_ours{of="a\\n\\\\\\"\\\\ud800"} 0' in lines


def test_the_servers_own_names(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "makes", identity("STRING"), MAKES)
    cache = ("--cache-config=local,size=1000000", "--metrics-config=summary_latencies=true",
             "--metrics-config=histogram_latencies=true")  # fmt: skip
    serving = serve(f"--model-repository={tmp_path}", *cache)
    names = [line.split()[2] for line in metrics(serving.metrics) if line.startswith("# TYPE")]
    assert names and all(name.startswith(OWN_NAMES) for name in names)
