"""Messages through a real socket pair, in every size and cut."""

import socket
import threading

import numpy as np
import pytest

from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.instances import wire


def through(message: list[wire.Buffer], chunk: int) -> list[wire.Message]:
    """What a decoder makes of a message's bytes when they come `chunk` at a time."""
    decoder = wire.Decoder()
    data = b"".join(bytes(part) for part in message)
    found: list[wire.Message] = []
    position = 0
    while position < len(data):
        target = decoder.buffer()
        part = data[position : position + min(chunk, len(target))]
        target[: len(part)] = part
        found += decoder.received(len(part))
        position += len(part)
    return found


REQUEST = Request(
    "model",
    {"a": np.arange(5, dtype=np.float32), "b": np.array([b"x", b""], dtype=object)},
    id="7",
    outputs=("out",),
    parameters={"flag": True, "number": 1.5},
    sequence_id="one",
)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_a_request_comes_through(chunk: int) -> None:
    fields, buffers = wire.pack_request(REQUEST)
    message = wire.encode("execute", {"calls": [fields]}, buffers)
    (found,) = through(message, chunk)
    assert found.kind == "execute"
    request, offset = wire.unpack_request(found.fields["calls"][0], found.payload, 0)
    assert offset == len(found.payload)
    np.testing.assert_array_equal(request.inputs["a"], REQUEST.inputs["a"])
    assert request.inputs["b"].tolist() == [b"x", b""]
    assert (request.id, request.outputs, request.sequence_id) == ("7", ("out",), "one")
    assert request.parameters == REQUEST.parameters


@pytest.mark.parametrize("chunk", [1 << 12, 100_003, 1 << 30])
@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_000])
def test_sizes_around_the_stage(chunk: int, size: int) -> None:
    tensor = np.random.default_rng(size).integers(0, 255, size, np.uint8)
    messages: list[wire.Buffer] = []
    for number in range(3):
        fields, buffers = wire.pack_answer(Response({"out": tensor}))
        messages += wire.encode("respond", {"number": number, **fields}, buffers)
    found = through(messages, chunk)
    assert [message.fields["number"] for message in found] == [0, 1, 2]
    for message in found:
        answer = wire.unpack_answer(message)
        assert isinstance(answer, Response)
        np.testing.assert_array_equal(answer.outputs["out"], tensor)


def test_tensors_are_aligned_views() -> None:
    first, second = np.ones(3, np.int8), np.arange(70_000, dtype=np.float64)
    fields, buffers = wire.pack_answer(Response({"a": first, "b": second}))
    (message,) = through(wire.encode("respond", fields, buffers), 1 << 20)
    answer = wire.unpack_answer(message)
    assert isinstance(answer, Response)
    found = answer.outputs["b"]
    assert found.flags.aligned
    assert np.shares_memory(found, np.frombuffer(message.payload, np.uint8))


def test_an_error_comes_through() -> None:
    fields, buffers = wire.pack_answer(InferenceError(Status.NOT_FOUND, "where?"))
    (message,) = through(wire.encode("respond", fields, buffers), 100)
    answer = wire.unpack_answer(message)
    assert isinstance(answer, InferenceError)
    assert (answer.status, answer.message) == (Status.NOT_FOUND, "where?")


def test_send_writes_all_of_many_parts() -> None:
    parts: list[wire.Buffer] = [bytes([number % 256]) * 1000 for number in range(2000)]
    left, right = socket.socketpair()
    with left, right:
        writer = threading.Thread(target=wire.send, args=(left, parts))
        writer.start()
        received = bytearray()
        while len(received) < 2_000_000:
            received += right.recv(1 << 16)
        writer.join()
    assert bytes(received) == b"".join(parts)
