"""Messages through a real socket pair, in every size and cut."""

import socket
import threading

import numpy as np
import pytest

from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.core.tensor import numpy_dtype
from nerite.instances import stream, wire
from nerite.instances.regions import Borrowed


def through(message: list[wire.Buffer], chunk: int) -> list[wire.Message]:
    """What a decoder makes of a message's bytes when they come `chunk` at a time."""
    decoder = stream.Decoder(Borrowed(print))
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
DATATYPES = ["BOOL", "UINT64", "INT8", "FP16", "FP32", "BF16"]


def there_and_back(*answers: Response | InferenceError) -> list[Response | InferenceError]:
    up, down = wire.Heads(), wire.Heads()
    entries = [
        wire.Entry(number, 0, 0, 0, 0, *up.of_answer(answer))
        for number, answer in enumerate(answers)
    ]
    (message,) = through(wire.encode_entries(wire.ANSWERS, entries), 1 << 20)
    assert [entry.number for entry in message.entries] == list(range(len(answers)))
    return [down.answer(entry) for entry in message.entries]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_requests_come_through(chunk: int) -> None:
    up, down = wire.Heads(), wire.Heads()
    plain = REQUEST._replace(id="", parameters={}, sequence_id=0)
    requests = [REQUEST, plain, plain._replace(outputs=("other",)), plain]
    entries = [
        wire.Entry(number, 9, 0, 0, wire.LAST, *up.of_request(request))
        for number, request in enumerate(requests)
    ]
    (message,) = through(wire.encode_entries(wire.CALLS, entries), chunk)
    assert message.kind == wire.CALLS
    assert [(entry.number, entry.batch, entry.flags) for entry in message.entries] == [
        (number, 9, wire.LAST) for number in range(4)
    ]
    for sent, entry in zip(requests, message.entries, strict=True):
        found = down.request("model", entry)
        np.testing.assert_array_equal(found.inputs["a"], sent.inputs["a"])
        assert found.inputs["b"].tolist() == [b"x", b""]
        assert found._replace(inputs={}) == sent._replace(inputs={})


def test_a_head_is_written_once_for_equal_layouts() -> None:
    heads = wire.Heads()
    plain = REQUEST._replace(id="", parameters={})
    first, _ = heads.of_request(plain)
    again, _ = heads.of_request(plain._replace(inputs=dict(plain.inputs)))
    assert again is first
    longer = {**plain.inputs, "b": np.array([b"xy", b""], dtype=object)}
    other, _ = heads.of_request(plain._replace(inputs=longer))
    assert other != first


@pytest.mark.parametrize("chunk", [1 << 12, 100_003, 1 << 30])
@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_000])
def test_sizes_around_the_stage(chunk: int, size: int) -> None:
    tensor = np.random.default_rng(size).integers(0, 255, size, np.uint8)
    heads = wire.Heads()
    messages: list[wire.Buffer] = []
    for number in range(3):
        entry = wire.Entry(number, 0, 0, 0, 0, *heads.of_answer(Response({"out": tensor})))
        messages += wire.encode_entries(wire.ANSWERS, [entry])
    found = through(messages, chunk)
    assert [message.entries[0].number for message in found] == [0, 1, 2]
    for message in found:
        answer = heads.answer(message.entries[0])
        assert isinstance(answer, Response)
        np.testing.assert_array_equal(answer.outputs["out"], tensor)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_width_comes_through(datatype: str) -> None:
    tensor = np.arange(6).astype(numpy_dtype(datatype)).reshape(2, 3)
    first, second = there_and_back(Response({"a": tensor}), Response({"a": tensor.T}, {}, False))
    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert (first.final, second.final) == (True, False)
    np.testing.assert_array_equal(first.outputs["a"], tensor)
    np.testing.assert_array_equal(second.outputs["a"], tensor.T)


def test_tensors_are_aligned_views() -> None:
    first, second = np.ones(3, np.int8), np.arange(70_000, dtype=np.float64)
    heads = wire.Heads()
    entry = wire.Entry(1, 0, 0, 0, 0, *heads.of_answer(Response({"a": first, "b": second})))
    (message,) = through(wire.encode_entries(wire.ANSWERS, [entry]), 1 << 20)
    answer = heads.answer(message.entries[0])
    assert isinstance(answer, Response)
    found = answer.outputs["b"]
    assert found.flags.aligned
    assert np.shares_memory(found, np.frombuffer(message.entries[0].payload[0], np.uint8))


def test_an_error_comes_through() -> None:
    (answer,) = there_and_back(InferenceError(Status.NOT_FOUND, "where?"))
    assert isinstance(answer, InferenceError)
    assert (answer.status, answer.message) == (Status.NOT_FOUND, "where?")


def test_rare_messages_are_json() -> None:
    (message,) = through(wire.encode(wire.LOAD, {"a": [1, "é"]}), 3)
    assert (message.kind, message.fields) == (wire.LOAD, {"a": [1, "é"]})
    (message,) = through(wire.encode(wire.CLOSE, {}), 3)
    assert message.kind == wire.CLOSE


def test_send_writes_all_of_many_parts() -> None:
    parts: list[wire.Buffer] = [bytes([number % 256]) * 1000 for number in range(2000)]
    left, right = socket.socketpair()
    with left, right:
        writer = threading.Thread(target=stream.send, args=(left, parts))
        writer.start()
        received = bytearray()
        while len(received) < 2_000_000:
            received += right.recv(1 << 16)
        writer.join()
    assert bytes(received) == b"".join(parts)
