"""Prometheus metrics by Triton's names, labels and rules, scraped from a real server."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse

import psutil
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from nerite.frontends.metrics import MetricsConfig

from ..server.conftest import Serving
from .conftest import act, count_to

Start = Callable[..., Serving]
LATENCIES = {
    f"nv_inference_{name}_duration_us"
    for name in ("request", "queue", "compute_input", "compute_infer", "compute_output")
}
SUMMARIES = {name.replace("duration", "summary") for name in LATENCIES}
FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"
LINE = re.compile(r'([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (-?[0-9.]+|NaN)')
ACTS = '{_team="snails",model="acts",version="1"}'


def get(
    address: str, path: str, method: str = "GET", body: str | None = None
) -> tuple[HTTPResponse, str]:
    connection = HTTPConnection(address)
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def scrape(serving: Serving) -> dict[str, float]:
    """Every sample by its name and labels; fails for a line that is not Prometheus' format."""
    answer, body = get(serving.metrics, "/metrics")
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "text/plain; charset=utf-8"
    samples = {}
    for line in body.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+", line), line
            continue
        match = LINE.fullmatch(line)
        assert match is not None, line
        samples[match[1] + (match[2] or "")] = float(match[4])
    return samples


def names(samples: dict[str, float]) -> set[str]:
    return {key.split("{")[0] for key in samples}


def test_requests_are_counted_under_the_names_and_labels_of_triton(start: Start) -> None:
    serving = start()
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        act(client, 0.0, 3)
        act(client, 0.05, 1)
        with pytest.raises(InferenceServerException, match="a bad day"):
            act(client, -1.0)
    found = scrape(serving)
    assert found["nv_inference_request_success" + ACTS] == 2
    assert found["nv_inference_count" + ACTS] == 4
    assert found["nv_inference_exec_count" + ACTS] == 3
    assert found["nv_inference_pending_request_count" + ACTS] == 0
    assert 0 < found["nv_model_load_duration_secs" + ACTS] < 60
    failures = {
        reason: found[
            f'nv_inference_request_failure{{_team="snails",model="acts",reason="{reason}",'
            'version="1"}'
        ]
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert failures == {"REJECTED": 0, "CANCELED": 0, "BACKEND": 1, "OTHER": 0}
    split = sum(found[name + ACTS] for name in LATENCIES if "request" not in name)
    assert found["nv_inference_request_duration_us" + ACTS] == pytest.approx(split, abs=5)
    assert found["nv_inference_compute_infer_duration_us" + ACTS] >= 50_000
    assert names(found) >= LATENCIES
    assert not names(found) & SUMMARIES
    assert not any(name.startswith((FIRST_RESPONSE, "nv_cache")) for name in names(found))


def test_the_pending_gauge_counts_requests_that_wait(start: Start) -> None:
    serving = start()
    pending = "nv_inference_pending_request_count" + ACTS
    with (
        tritonclient.grpc.InferenceServerClient(serving.grpc) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        answers = [pool.submit(act, client, 0.6) for _ in range(3)]
        time.sleep(0.3)
        assert scrape(serving)[pending] == 2
        for answer in answers:
            answer.result()
    assert scrape(serving)[pending] == 0


def test_a_request_whose_client_left_is_a_cancelled_one(start: Start) -> None:
    serving = start()
    labels = ACTS.replace("version", 'reason="CANCELED",version')
    key = f"nv_inference_request_failure{labels}"
    with (
        tritonclient.grpc.InferenceServerClient(serving.grpc) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        working = pool.submit(act, client, 0.6)
        time.sleep(0.2)
        with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
            act(client, 0.0, client_timeout=0.1)  # still in the queue
        working.result()
    for _ in range(40):
        found = scrape(serving)
        if found[key] == 1:
            return
        time.sleep(0.05)
    pytest.fail(f"no request counts as cancelled: {found}")


def test_the_first_response_histogram_with_a_models_own_buckets(start: Start) -> None:
    serving = start("--metrics-config", "histogram_latencies=true")
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        count_to(client, 3)
        act(client, 0.15)
    found = scrape(serving)
    acts = '{_team="snails",model="acts",version="1"'
    buckets = [found[f'{FIRST_RESPONSE}_bucket{acts},le="{le}"}}'] for le in (100, 500, 2000, 5000)]
    assert buckets == [0, 1, 1, 1]
    assert found[f'{FIRST_RESPONSE}_bucket{acts},le="+Inf"}}'] == 1
    assert found[f"{FIRST_RESPONSE}_count{acts}}}"] == 1
    assert 150 <= found[f"{FIRST_RESPONSE}_sum{acts}}}"] < 500
    counts = '{model="counts",version="1"'
    # Fifty milliseconds to the first of three responses, in the buckets of its config.
    told = {key: value for key, value in found.items() if key.startswith(f"{FIRST_RESPONSE}_b")}
    told = {key[len(f"{FIRST_RESPONSE}_bucket{counts},") :]: value for key, value in told.items()
            if '"counts"' in key}  # fmt: skip
    assert told == {'le="2.5"}': 0, 'le="10000"}': 1, 'le="+Inf"}': 1}
    assert 50 <= found[f"{FIRST_RESPONSE}_sum{counts}}}"] < 130


def test_summaries_in_place_of_counters(start: Start) -> None:
    serving = start(
        *("--metrics-config", "summary_latencies=true"),
        *("--metrics-config", "counter_latencies=false"),
        *("--metrics-config", "summary_quantiles=0.1:0.01,0.75:0.01"),
    )
    before = scrape(serving)
    assert str(before[f'nv_inference_request_summary_us{ACTS[:-1]},quantile="0.1"}}']) == "nan"
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        for seconds in (0.0, 0.05, 0.1):
            act(client, seconds)
    found = scrape(serving)
    assert names(found) >= SUMMARIES
    assert not names(found) & LATENCIES
    infer = "nv_inference_compute_infer_summary_us"
    assert found[f"{infer}_count{ACTS}"] == 3
    assert 150_000 <= found[f"{infer}_sum{ACTS}"] < 400_000
    assert found[f'{infer}{ACTS[:-1]},quantile="0.1"}}'] < 40_000
    assert 100_000 <= found[f'{infer}{ACTS[:-1]},quantile="0.75"}}'] < 300_000
    assert not any('quantile="0.5"' in key for key in found)


def test_the_machine(start: Start) -> None:
    serving = start("--metrics-interval-ms=200")
    first = scrape(serving)
    assert 0 <= first["nv_cpu_utilization"] <= 1
    assert first["nv_cpu_memory_total_bytes"] == psutil.virtual_memory().total
    assert 0 < first["nv_cpu_memory_used_bytes"] < first["nv_cpu_memory_total_bytes"]
    # Memory too: a machine that is busy throughout has the same utilization each time.
    measured = set()
    for _ in range(5):
        time.sleep(0.25)
        found = scrape(serving)
        measured.add((found["nv_cpu_utilization"], found["nv_cpu_memory_used_bytes"]))
    assert len(measured) > 1


def test_the_machine_left_out(start: Start) -> None:
    serving = start("--allow-cpu-metrics=false", "--allow-gpu-metrics=false")
    found = names(scrape(serving))
    assert not any(name.startswith(("nv_cpu", "nv_gpu", "nv_energy")) for name in found)


def test_what_else_the_metrics_port_is_asked(observed: Serving) -> None:
    answer, body = get(observed.metrics, "/")
    assert (answer.status, body) == (200, "")
    answer, _ = get(observed.metrics, "/metrics", "POST")
    assert answer.status == 405
    answer, body = get(observed.metrics, "/metrics", "HEAD")
    assert (answer.status, body) == (200, "")
    assert int(answer.getheader("Content-Length") or 0) > 1000


def test_many_scrapes_at_once_measure_once(start: Start) -> None:
    serving = start("--metrics-interval-ms=60000")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: scrape(serving)["nv_cpu_utilization"], range(16)))
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("text", "quantiles"),
    [
        ("0.5:0.05,0.9:0.01", (0.5, 0.9)),
        ("0.1:0.0.1,0.7:0.01", (0.1, 0.7)),
        ("half:0.1,0.5", MetricsConfig.quantiles),
        ("2:0.1,0.5:0.1", (0.5,)),
        ("", MetricsConfig.quantiles),
    ],
)
def test_quantiles_that_cannot_be_read_are_left_out(
    text: str, quantiles: tuple[float, ...]
) -> None:
    assert MetricsConfig.of([("summary_quantiles", text)]).quantiles == quantiles
