"""The statistics extension through both doors: counts to the item, durations that add up."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from google.protobuf import json_format
from tritonclient.utils import InferenceServerException

from ..server.conftest import Serving
from .conftest import Serve, act, count_to

Start = Callable[..., Serving]
SPLIT = ("queue", "compute_input", "compute_infer", "compute_output")


def numbers(message: Any) -> Any:
    """A protobuf answer in the form of the JSON one: all fields, integers as numbers."""
    options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
    document = json_format.MessageToDict(message, **options)

    def plain(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: plain(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        is_text = key in ("name", "version", "type")
        return int(value) if isinstance(value, str) and not is_text else value

    return plain(document)


def test_requests_items_and_executions_are_counted_apart(start: Start) -> None:
    serving = start()
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        for rows in (3, 1, 3):
            act(client, 0.0, rows)
        (stats,) = client.get_inference_statistics("acts")["model_stats"]
    assert (stats["name"], stats["version"]) == ("acts", "1")
    assert (stats["inference_count"], stats["execution_count"]) == (7, 3)
    assert stats["inference_stats"]["success"]["count"] == 3
    assert {one["batch_size"]: one["compute_infer"]["count"] for one in stats["batch_stats"]} == {
        1: 1,
        3: 2,
    }
    assert stats["inference_stats"]["fail"] == {"count": 0, "ns": 0}
    assert stats["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
    assert stats["response_stats"] == {}
    assert stats["last_inference"] > 1_700_000_000_000


def test_durations_add_up_and_say_where_the_time_went(start: Start) -> None:
    serving = start()
    with (
        tritonclient.grpc.InferenceServerClient(serving.grpc) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        list(pool.map(lambda _: act(client, 0.2), range(2)))
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        (stats,) = client.get_inference_statistics("acts", "1")["model_stats"]
    told = stats["inference_stats"]
    assert {told[name]["count"] for name in (*SPLIT, "success")} == {2}
    assert told["success"]["ns"] == sum(told[name]["ns"] for name in SPLIT)
    assert 0.4e9 <= told["compute_infer"]["ns"] < 0.6e9
    # The second waited for the first.
    assert 0.15e9 <= told["queue"]["ns"] < 0.5e9
    assert told["compute_output"]["ns"] < 0.1e9


def test_a_failure_is_counted_once_and_as_nothing_else(start: Start) -> None:
    serving = start()
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        with pytest.raises(InferenceServerException, match="a bad day"):
            act(client, -1.0, 2)
        with pytest.raises(InferenceServerException, match="batch-size must be <= 8"):
            act(client, 0.0, 9)
        (stats,) = client.get_inference_statistics("acts")["model_stats"]
    assert stats["inference_stats"]["fail"]["count"] == 1
    assert stats["inference_stats"]["fail"]["ns"] > 0
    assert stats["inference_stats"]["success"] == {"count": 0, "ns": 0}
    # It was executed, but nothing was inferred.
    assert (stats["inference_count"], stats["execution_count"]) == (0, 1)
    assert stats["batch_stats"][0]["batch_size"] == 2


def test_responses_of_a_decoupled_model_are_counted_by_their_index(start: Start) -> None:
    serving = start()
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        assert count_to(client, 2) == [0, 1]
        assert count_to(client, 3) == [0, 1, 2]
        (stats,) = numbers(client.get_inference_statistics("counts"))["model_stats"]
    responses = stats["response_stats"]
    assert set(responses) == {"0", "1", "2", "3"}
    assert [responses[index]["success"]["count"] for index in "0123"] == [2, 2, 1, 0]
    # The empty end is the response that comes after the last.
    assert [responses[index]["empty_response"]["count"] for index in "0123"] == [0, 0, 1, 1]
    for index in "01":
        success, infer = responses[index]["success"], responses[index]["compute_infer"]
        assert 0.05e9 <= infer["ns"] <= success["ns"]
        assert success["ns"] == infer["ns"] + responses[index]["compute_output"]["ns"]
    assert stats["inference_stats"]["success"]["count"] == 2


def test_a_model_may_tell_computing_and_writing_apart(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "square" / "1").mkdir(parents=True)
    (tmp_path / "square" / "config.pbtxt").write_text("""
        backend: "square" model_transaction_policy { decoupled: true }
        input { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }
        output { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }
        parameters { key: "CUSTOM_INFER_DELAY_NS" value { string_value: "100000000" } }
        parameters { key: "CUSTOM_OUTPUT_DELAY_NS" value { string_value: "300000000" } }
    """)
    serving = serve(f"--model-repository={tmp_path}")
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        client.start_stream(lambda result, error: None)
        entry = tritonclient.grpc.InferInput("IN", [1], "INT32")
        entry.set_data_from_numpy(np.array([2], np.int32))
        client.async_stream_infer("square", [entry])
        client.stop_stream()
        (stats,) = numbers(client.get_inference_statistics("square"))["model_stats"]
    for index in "01":
        told = stats["response_stats"][index]
        assert 0.05e9 <= told["compute_infer"]["ns"] < told["compute_output"]["ns"]
        assert told["compute_output"]["ns"] >= 0.3e9


def test_a_response_that_nobody_waited_for_is_counted_as_cancelled(start: Start) -> None:
    serving = start()
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        seen: list[Any] = []
        client.start_stream(lambda result, error: seen.append(result))
        entry = tritonclient.grpc.InferInput("UPTO", [1], "INT32")
        entry.set_data_from_numpy(np.array([50], np.int32))
        client.async_stream_infer("counts", [entry])
        while not seen:
            time.sleep(0.01)
        client.stop_stream(cancel_requests=True)
        for _ in range(100):
            (stats,) = numbers(client.get_inference_statistics("counts"))["model_stats"]
            if stats["execution_count"]:
                break
            time.sleep(0.05)
    last = stats["response_stats"][str(len(stats["response_stats"]) - 1)]
    assert last["cancel"]["count"] + last["empty_response"]["count"] == 1
    assert len(stats["response_stats"]) < 50


def test_both_doors_tell_the_same(observed: Serving) -> None:
    with (
        tritonclient.http.InferenceServerClient(observed.http) as http,
        tritonclient.grpc.InferenceServerClient(observed.grpc) as grpc,
    ):
        act(http, 0.0)
        act(grpc, 0.0)
        count_to(grpc, 1)
        every = http.get_inference_statistics()
        told = numbers(grpc.get_inference_statistics())
    assert [one["name"] for one in every["model_stats"]] == ["acts", "add", "counts", "speaks"]
    for document in (every, told):
        for one in document["model_stats"]:
            assert one.pop("memory_usage")[0]["byte_size"] > 1_000_000
    assert told == every


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("models/nix/stats", "requested model 'nix' is not available"),
        (
            "models/acts/versions/7/stats",
            "requested model version is not available for model 'acts'",
        ),
    ],
)
def test_statistics_of_what_is_not_there(observed: Serving, path: str, text: str) -> None:
    with tritonclient.http.InferenceServerClient(observed.http) as client:
        answer = client._get(f"v2/{path}", headers=None, query_params=None)
        assert answer.status_code == 400
        assert text in answer.read().decode()


def test_a_model_called_stats_is_shadowed(observed: Serving) -> None:
    with tritonclient.http.InferenceServerClient(observed.http) as client:
        answer = client._get("v2/models/stats", headers=None, query_params=None)
        assert answer.status_code == 200
        assert b"model_stats" in answer.read()
