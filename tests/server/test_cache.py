"""The response cache as clients and the statistics see it."""

import asyncio
import re
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as http

from nerite import Request, Server
from nerite.cache.local import LocalCache

from .conftest import IDENTITY_CODE, Serve, Serving, add_model, identity

# Every answer is another one: it counts its executions.
COUNTS = """
    class TritonPythonModel:
        count = 0

        def execute(self, requests):
            responses = []
            for request in requests:
                self.count += 1
                if request.inputs()[0].as_numpy()[0] < 0:
                    responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("no")))
                    continue
                tensor = pb_utils.Tensor("OUTPUT0", np.array([self.count], np.float32))
                responses.append(pb_utils.InferenceResponse([tensor]))
            return responses
"""
CACHED = "response_cache { enable: true }" + identity("FP32", "1")


def ask(server: Serving, number: float, **more: Any) -> float:
    tensor = http.InferInput("INPUT0", [1], "FP32")
    tensor.set_data_from_numpy(np.array([number], np.float32))
    with http.InferenceServerClient(server.http) as client:
        return float(client.infer("counts", [tensor], **more).as_numpy("OUTPUT0")[0])


def statistics(server: Serving) -> dict[str, Any]:
    with http.InferenceServerClient(server.http) as client:
        return dict(client.get_inference_statistics("counts")["model_stats"][0])


def test_summaries_of_hits_and_misses(tmp_path: Path, serve: Serve) -> None:
    add_model(tmp_path, "counts", CACHED, COUNTS)
    flags = ["--cache-config", "local,size=100000", "--metrics-config=summary_latencies=true"]
    with serve(f"--model-repository={tmp_path}", *flags) as server:
        assert [ask(server, 1), ask(server, 2), ask(server, 1)] == [1, 2, 1]
        with urllib.request.urlopen(f"http://{server.metrics}/metrics") as answer:
            text = answer.read().decode()
    labels = '{model="counts",version="1"}'
    assert f"nv_cache_hit_summary_per_model_count{labels} 1\n" in text
    assert f"nv_cache_miss_summary_per_model_count{labels} 2\n" in text
    assert re.search(r'nv_cache_miss_summary_per_model{.*quantile="0.5"} \d+\n', text)
    # As in Triton, where a request's time would mix answers of both kinds.
    assert "nv_inference_request_summary_us" not in text
    assert "nv_inference_queue_summary_us" in text


def test_hits_and_misses(tmp_path: Path, serve: Serve) -> None:
    add_model(tmp_path, "counts", CACHED, COUNTS)
    add_model(tmp_path, "plain", identity("FP32", "1"), IDENTITY_CODE)
    flags = ["--cache-config", "local,size=100000", "--model-control-mode=explicit"]
    with serve(f"--model-repository={tmp_path}", *flags, "--load-model=*") as server:
        assert [ask(server, 1), ask(server, 2), ask(server, 1), ask(server, 1)] == [1, 2, 1, 1]
        assert ask(server, 1, parameters={"seed": 5}) == 3
        assert ask(server, 1, request_id="another") == 1
        told = statistics(server)
        assert (told["inference_count"], told["execution_count"]) == (3, 3)
        counts = {name: entry["count"] for name, entry in told["inference_stats"].items()}
        assert counts == {
            **{"success": 6, "fail": 0, "queue": 6, "cache_hit": 3, "cache_miss": 3},
            **{"compute_input": 3, "compute_infer": 3, "compute_output": 3},
        }
        assert told["inference_stats"]["cache_hit"]["ns"] > 0
        metrics = urllib.request.urlopen(f"http://{server.metrics}/metrics").read().decode()
        found = re.findall(
            r'nv_cache_num_(\w+)_per_model{model="(\w+)",version="1"} (\d+)', metrics
        )
        assert found == [("hits", "counts", "3"), ("misses", "counts", "3")]
        assert 'nv_inference_request_success{model="counts",version="1"} 6' in metrics
        assert 'nv_inference_count{model="counts",version="1"} 3' in metrics

        model = tmp_path / "counts" / "1" / "model.py"
        model.write_text(model.read_text().replace("count = 0", "count = 100"))
        with http.InferenceServerClient(server.http) as client:
            client.load_model("counts")
        assert [ask(server, 1), ask(server, 1)] == [101, 101]


def test_errors_are_not_kept(tmp_path: Path, serve: Serve) -> None:
    add_model(tmp_path, "counts", CACHED, COUNTS)
    with serve(f"--model-repository={tmp_path}", "--response-cache-byte-size=100000") as server:
        for _ in range(2):
            try:
                ask(server, -1)
            except http.InferenceServerException as error:
                assert "no" in str(error)
        told = statistics(server)["inference_stats"]
        assert told["fail"]["count"] == 2
        assert (told["cache_hit"]["count"], ask(server, 1)) == (0, 3)


def test_what_does_not_fit_is_told_once(tmp_path: Path, serve: Serve) -> None:
    add_model(tmp_path, "counts", CACHED, COUNTS)
    with serve(f"--model-repository={tmp_path}", "--cache-config=local,size=100") as server:
        assert [ask(server, 1), ask(server, 1)] == [1, 2]
        assert statistics(server)["inference_stats"]["cache_miss"]["count"] == 2
        server.wait_for("Failed to insert key")
        assert server.log.count("Failed to insert key") == 1


def test_decoupled_models_are_refused(tmp_path: Path, serve: Serve) -> None:
    policy = "model_transaction_policy { decoupled: true }"
    add_model(tmp_path, "counts", CACHED + policy, COUNTS)
    server = serve(f"--model-repository={tmp_path}", "--cache-config=local,size=1000")
    assert server.wait() == 1
    said = "Response Cache does not currently support model counts with 'decoupled' transaction"
    assert said in server.log


def test_a_cache_that_cannot_start(tmp_path: Path, serve: Serve) -> None:
    add_model(tmp_path, "counts", CACHED, COUNTS)
    flags = ["--cache-config=redis,host=127.0.0.1", "--cache-config=redis,port=none"]
    server = serve(f"--model-repository={tmp_path}", *flags)
    assert server.wait() == 1
    assert "failed to connect to Redis (127.0.0.1:0)" in server.log
    server = serve(f"--model-repository={tmp_path}", "--cache-config=local,size=none")
    assert server.wait() == 1
    assert "the local cache's size is 'none'" in server.log


ENSEMBLE = """
    platform: "ensemble" response_cache { enable: true }
    input { name: "IN" data_type: TYPE_FP32 dims: [ 1 ] }
    output { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }
    ensemble_scheduling { step {
        model_name: "counts" model_version: -1
        input_map { key: "INPUT0" value: "IN" } output_map { key: "OUTPUT0" value: "OUT" }
    } }
"""


def test_an_ensemble_is_cached_as_a_whole(tmp_path: Path) -> None:
    add_model(tmp_path, "counts", identity("FP32", "1"), COUNTS)
    add_model(tmp_path, "both", ENSEMBLE, "")

    async def ask_twice() -> tuple[list[float], list[int]]:
        async with Server(tmp_path, cache=LocalCache(10_000)) as server:
            request = Request("both", {"IN": np.ones(1, np.float32)})
            asked = [await server.infer(request).one() for _ in range(2)]
            counts = [model.stats.counts for model in server.models]
            return (
                [float(one.outputs["OUT"][0]) for one in asked],
                [one.executions for one in counts],
            )

    assert asyncio.run(ask_twice()) == ([1, 1], [1, 1])


def test_an_ensemble_with_a_decoupled_step_is_not_cached(tmp_path: Path) -> None:
    policy = "model_transaction_policy { decoupled: true }"
    add_model(tmp_path, "counts", identity("FP32", "1") + policy, COUNTS)
    add_model(tmp_path, "both", ENSEMBLE, "")

    async def reason() -> str:
        async with Server(tmp_path) as server:
            (state,) = [one for one in server.states() if one.name == "both"]
            return state.reason

    assert "does not currently support model both with 'decoupled'" in asyncio.run(reason())
