"""Whatever comes through gRPC is answered: random bytes, and messages that are nearly right."""

from typing import Any

import grpc
import hypothesis
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from ..conftest import ServerProcess
from .conftest import KINDS, MODELS, SECONDS, cases, judge

_WORDS = st.sampled_from(["", *MODELS, "none", "1", "x", "..", "TIMESTAMPS"]) | st.text(max_size=4)
_RPCS = sorted(
    method.name
    for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    if method.name != "ModelStreamInfer"
)


def _parameter() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(lambda value: pb.InferParameter(bool_param=value), st.booleans()),
        st.builds(lambda value: pb.InferParameter(int64_param=value), st.integers(-2, 2**62)),
        st.builds(lambda value: pb.InferParameter(string_param=value), st.text(max_size=4)),
        st.builds(lambda value: pb.InferParameter(double_param=value), st.floats()),
        st.builds(lambda value: pb.InferParameter(uint64_param=value), st.integers(0, 2**64 - 1)),
        st.just(pb.InferParameter()),
    )


_PARAMETERS = st.dictionaries(
    st.sampled_from(
        ["sequence_id", "priority", "timeout", "triton_x", "classification", "a",
         "triton_enable_empty_final_response", "shared_memory_region", "shared_memory_byte_size"]
    ),
    _parameter(),
    max_size=2,
)  # fmt: skip
_CONTENTS = st.one_of(
    st.builds(lambda v: pb.InferTensorContents(fp32_contents=v), st.lists(st.just(1.0))),
    st.builds(lambda v: pb.InferTensorContents(int_contents=v), st.lists(st.integers(-9, 300))),
    st.builds(lambda v: pb.InferTensorContents(bytes_contents=v), st.lists(st.binary(max_size=4))),
    st.builds(lambda v: pb.InferTensorContents(bool_contents=v), st.lists(st.booleans())),
)
_TENSORS = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["IN", *(f"IN_{kind}" for kind in KINDS), "x"]),
    datatype=st.sampled_from([*KINDS[:-1], "BYTES", "", "x"]),
    shape=st.lists(st.integers(0, 4) | st.sampled_from([-1, 2**31, 2**62]), max_size=3),
    parameters=_PARAMETERS,
    contents=st.none() | _CONTENTS,
)
_OUTPUTS = st.builds(
    pb.ModelInferRequest.InferRequestedOutputTensor,
    name=st.sampled_from(["OUT", "OUT_FP32", "OUT_STRING", "x"]),
    parameters=_PARAMETERS,
)
REQUESTS = st.builds(
    pb.ModelInferRequest,
    model_name=st.sampled_from([*MODELS, *MODELS, "none", ""]),
    model_version=st.sampled_from(["", "", "", "1", "2", "x", "-1"]),
    id=st.text(max_size=3),
    parameters=_PARAMETERS,
    inputs=st.lists(_TENSORS, max_size=3),
    outputs=st.lists(_OUTPUTS, max_size=2),
    raw_input_contents=st.lists(st.binary(max_size=20), max_size=3),
)
RIGHT = pb.ModelInferRequest(
    model_name="batch",
    inputs=[
        pb.ModelInferRequest.InferInputTensor(name="IN", datatype="FP32", shape=[1, 2]),
    ],
    raw_input_contents=[bytes(8)],
)


@st.composite
def messages(draw: st.DrawFn, name: str) -> bytes:
    """A message of an RPC with its fields made up, or any bytes."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return draw(st.binary(max_size=60))
    if name == "ModelInfer":
        message = draw(REQUESTS | st.just(RIGHT))
    else:
        message = getattr(pb, f"{name}Request", pb.ModelReadyRequest)()
        for field in message.DESCRIPTOR.fields:
            if field.type == field.TYPE_STRING and not field.is_repeated:
                setattr(message, field.name, draw(_WORDS))
            elif field.type in (field.TYPE_UINT64, field.TYPE_INT64) and not field.is_repeated:
                setattr(message, field.name, draw(st.integers(0, 2**62)))
            elif field.type == field.TYPE_BYTES and not field.is_repeated:
                setattr(message, field.name, draw(st.binary(max_size=70)))
    data = bytearray(message.SerializeToString())
    if kind == 1:
        for _ in range(draw(st.integers(1, 3))):
            at = draw(st.integers(0, len(data)))
            data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


_CALLS = st.sampled_from([*_RPCS, *["ModelInfer"] * len(_RPCS)]).flatmap(
    lambda name: st.tuples(st.just(name), messages(name))
)
_METADATA = st.lists(
    st.tuples(
        st.sampled_from(["triton_grpc_error", "a", "grpc-encoding-x", "traceparent"]),
        st.sampled_from(["true", "x", ""]),
    ),
    max_size=2,
)
_SERVICE = "/inference.GRPCInferenceService/"


def _same(data: bytes) -> bytes:
    return data


def _code(error: grpc.RpcError) -> tuple[str, str]:
    code, text = error.code(), error.details() or ""
    assert code not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN), text
    return code.name, text


@cases(0.2)
@hypothesis.given(call=_CALLS, metadata=_METADATA)
def test_calls(fuzzed: ServerProcess, call: tuple[str, bytes], metadata: Any) -> None:
    name, data = call
    # What a worker cannot do without must stay loaded.
    hypothesis.assume(name != "RepositoryModelUnload" or b"count" in data)
    ask = _channel(fuzzed).unary_unary(_SERVICE + name, _same, _same)
    try:
        ask(data, timeout=SECONDS, metadata=metadata)
        code, text = "OK", ""
    except grpc.RpcError as error:
        code, text = _code(error)
    judge("gRPC", code, text)


@cases(0.07)
@hypothesis.given(sent=st.lists(messages("ModelInfer"), max_size=4), metadata=_METADATA)
def test_streams(fuzzed: ServerProcess, sent: list[bytes], metadata: Any) -> None:
    ask = _channel(fuzzed).stream_stream(
        f"{_SERVICE}ModelStreamInfer", _same, pb.ModelStreamInferResponse.FromString
    )
    try:
        for answer in ask(iter(sent), timeout=SECONDS, metadata=metadata):
            judge("stream", "error" if answer.error_message else "OK", answer.error_message)
    except grpc.RpcError as error:
        judge("stream", *_code(error))


_channels: dict[int, grpc.Channel] = {}


def _channel(server: ServerProcess) -> grpc.Channel:
    if server.grpc_port not in _channels:
        _channels[server.grpc_port] = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
    return _channels[server.grpc_port]
