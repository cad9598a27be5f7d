"""ModelInfer's messages as bytes: the same as through protobuf, the first time and later."""

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from nerite.core.errors import InferenceError, Status
from nerite.core.layout import Packed, tight
from nerite.core.request import Response
from nerite.frontends import v2_proto
from nerite.frontends.regions import Regions
from nerite.frontends.v2_packed import Messages
from nerite.frontends.v2_response import Target

REGIONS = Regions(allowed=False)


def message(name: str = "", size: int = 2, outputs: tuple[str, ...] = ()) -> Any:
    made = pb.ModelInferRequest(model_name="model", model_version="3", id=name)
    for index, dtype in enumerate((np.float32, np.int64)):
        tensor = np.arange(size, dtype=dtype) + index
        datatype = "FP32" if dtype is np.float32 else "INT64"
        made.inputs.add(name=f"INPUT{index}", datatype=datatype, shape=[1, size])
        made.raw_input_contents.append(tensor.tobytes())
    for output in outputs:
        made.outputs.add(name=output)
    made.parameters["priority"].int64_param = 4
    made.parameters["own"].string_param = "text"
    return made


@pytest.mark.parametrize("name", ["", "one", "ü" * 300])
@pytest.mark.parametrize("size", [1, 2, 50, 20_000])
def test_requests_are_read_as_protobuf_reads_them(name: str, size: int) -> None:
    messages = Messages(REGIONS)
    for again in (message("other", size), message(name, size), message(name, size, ("out",))):
        found, form = messages.decode(again.SerializeToString(deterministic=True))
        expected, _ = v2_proto.decode(again, REGIONS)
        assert found._replace(inputs={}) == expected._replace(inputs={})
        assert list(found.inputs) == list(expected.inputs)
        for key, tensor in expected.inputs.items():
            assert found.inputs[key].dtype == tensor.dtype
            np.testing.assert_array_equal(found.inputs[key], tensor)
        assert form.is_binary("out")


def test_a_kind_is_read_once() -> None:
    messages = Messages(REGIONS)
    read = [
        messages.decode(message(name).SerializeToString(deterministic=True))[0].inputs
        for name in ("a", "b", "c")
    ]
    assert not isinstance(read[0], Packed)
    assert isinstance(read[1], Packed)
    assert isinstance(read[2], Packed)
    assert read[1].layout is read[2].layout


def test_a_kind_whose_data_has_another_length_is_refused() -> None:
    messages = Messages(REGIONS)
    messages.decode(message().SerializeToString(deterministic=True))
    for raw in ([b"1234"], [b"12345678", b"1" * 16, b""], [b"1234", b"1" * 16]):
        short = message()
        del short.raw_input_contents[:]
        short.raw_input_contents.extend(raw)
        with pytest.raises(InferenceError, match="INPUT|additional"):
            messages.decode(short.SerializeToString(deterministic=True))


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_message_cut_short_is_refused(cut: int) -> None:
    data = message().SerializeToString(deterministic=True)
    messages = Messages(REGIONS)
    messages.decode(data)
    with pytest.raises(InferenceError) as caught:
        messages.decode(data[:-cut])
    assert caught.value.status in (Status.INTERNAL, Status.INVALID_ARG)


class _Model:
    version = 3


@pytest.mark.parametrize("name", ["", "seven"])
@pytest.mark.parametrize("outputs", [(), ("b",), ("b", "a")])
def test_answers_are_written_as_protobuf_writes_them(name: str, outputs: tuple[str, ...]) -> None:
    layout = tight([("a", "FP32", (2,), 8), ("b", "BYTES", (1,), 300)])
    data = np.arange(2, dtype=np.float32).tobytes() + (296).to_bytes(4, "little") + b"x" * 296
    messages = Messages(REGIONS)
    asked = message(name, outputs=outputs)
    request, form = messages.decode(asked.SerializeToString(deterministic=True))
    target = Target(_Model(), form, {})  # type: ignore[arg-type]
    for _ in range(2):
        response = Response(Packed(layout, data))
        written = pb.ModelInferResponse.FromString(
            b"".join(messages.encode(request, response, target))
        )
        assert written == v2_proto.encode(request, response, target)
