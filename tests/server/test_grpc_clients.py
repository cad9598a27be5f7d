"""What a real client makes of the gRPC port: statuses, many calls, pings; and other protocols."""

import http.client
import queue

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import KeepAliveOptions

from .conftest import Serving

SERVICE = "/inference.GRPCInferenceService/"


def same(data: bytes) -> bytes:
    return data


@pytest.fixture
def channel(serving: Serving):
    with grpc.insecure_channel(serving.grpc) as opened:
        yield opened


@pytest.mark.parametrize(
    ("path", "sent", "code"),
    [
        (f"{SERVICE}ServerLive", [b""], grpc.StatusCode.OK),
        (f"{SERVICE}Nothing", [b""], grpc.StatusCode.UNIMPLEMENTED),
        ("/another.Service/Method", [b""], grpc.StatusCode.UNIMPLEMENTED),
        ("/another.Service/Method", [], grpc.StatusCode.UNIMPLEMENTED),
        (f"{SERVICE}ServerLive", [], grpc.StatusCode.UNIMPLEMENTED),
        (f"{SERVICE}ServerLive", [b"", b""], grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_statuses(channel: grpc.Channel, path: str, sent: list[bytes], code: object) -> None:
    call = channel.stream_unary(path, same, same).future(iter(sent), timeout=20)
    assert call.code() is code


def test_metadata_that_are_too_long(channel: grpc.Channel) -> None:
    """They end their call, and none beside it."""
    ask = channel.unary_unary(f"{SERVICE}ServerLive", same, same)
    with pytest.raises(grpc.RpcError) as caught:
        ask(b"", metadata=[("k", "v" * 100_000)], timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ask(b"", metadata=[("k", "v" * 12_000), ("b-bin", b"\0\xff")], timeout=20)


def test_health(channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_many_at_once_and_pings_amid_them(serving: Serving) -> None:
    options = KeepAliveOptions(10, 5000, True, 0)
    tensor = tritonclient.grpc.InferInput("INPUT0", [200_000], "UINT8")
    content = np.arange(200_000).astype(np.uint8)
    tensor.set_data_from_numpy(content)
    answers: queue.Queue = queue.Queue()

    def keep(result, error) -> None:
        answers.put((result, error))

    with tritonclient.grpc.InferenceServerClient(serving.grpc, keepalive_options=options) as client:
        for packed in [None, "gzip", "deflate", None] * 32:
            client.async_infer("identity_uint8", [tensor], keep, compression_algorithm=packed)
        for _ in range(128):
            result, error = answers.get(timeout=30)
            assert error is None
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), content)


def test_another_protocol(serving: Serving) -> None:
    connection = http.client.HTTPConnection(serving.grpc, timeout=10)
    connection.request("GET", "/v2")
    answer = connection.getresponse()
    assert (answer.status, b"gRPC" in answer.read()) == (400, True)
    connection.close()
