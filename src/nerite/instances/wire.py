"""The messages between the front process and a worker: a JSON header, then tensors' bytes.

Never pickle: either end may be another Python. One message is
`header length (u32) | payload length (u64) | header | payload`; tensors lie in the payload at
multiples of 64 bytes, so that a received one is a view and not a copy.
Down: load, execute, cancel, close. Up: loaded, respond, done.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union

from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor, datatype_of, from_bytes, to_bytes

Buffer = Union[bytes, bytearray, memoryview]

_PREFIX = struct.Struct("<IQ")
_ALIGN = 64
_STAGE = 1 << 18
_IOV = 512  # well below every system's IOV_MAX


class Message(NamedTuple):
    """One message: what it is, its fields, and the bytes its tensors lie in."""

    kind: str
    fields: dict[str, Any]
    payload: memoryview


def encode(kind: str, fields: Mapping[str, Any], tensors: Iterable[Buffer] = ()) -> list[Buffer]:
    """The buffers to write for one message; nothing large is copied."""
    payload: list[Buffer] = []
    length = 0
    for data in tensors:
        size = len(data)
        gap = -size % _ALIGN
        payload.append(data)
        if gap:
            payload.append(bytes(gap))
        length += size + gap
    header = json.dumps([kind, fields], separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGN)  # so that the payload starts aligned too
    return [_PREFIX.pack(len(header), length) + header, *payload]


def pack(tensors: Mapping[str, Tensor]) -> tuple[list[list[Any]], list[Buffer]]:
    """Named tensors as a layout (name, datatype, shape, bytes) and the buffers it describes."""
    layout: list[list[Any]] = []
    buffers: list[Buffer] = []
    for name, tensor in tensors.items():
        data = to_bytes(tensor)
        layout.append([name, datatype_of(tensor), list(tensor.shape), len(data)])
        buffers.append(data)
    return layout, buffers


def unpack(
    layout: Sequence[Sequence[Any]], payload: memoryview, offset: int
) -> tuple[dict[str, Tensor], int]:
    """The tensors a layout describes, as views of `payload`, and where the next would start."""
    tensors: dict[str, Tensor] = {}
    for name, datatype, shape, size in layout:
        tensors[name] = from_bytes(payload[offset : offset + size], datatype, tuple(shape))
        offset += size + -size % _ALIGN
    return tensors, offset


def pack_request(request: Request) -> tuple[dict[str, Any], list[Buffer]]:
    layout, buffers = pack(request.inputs)
    fields = {
        "model": request.model,
        "version": request.version,
        "id": request.id,
        "outputs": list(request.outputs),
        "parameters": dict(request.parameters),
        "priority": request.priority,
        "timeout_us": request.timeout_us,
        "sequence_id": request.sequence_id,
        "sequence_start": request.sequence_start,
        "sequence_end": request.sequence_end,
        "inputs": layout,
    }
    return fields, buffers


def unpack_request(
    fields: Mapping[str, Any], payload: memoryview, offset: int
) -> tuple[Request, int]:
    values = dict(fields)
    values["inputs"], offset = unpack(values["inputs"], payload, offset)
    values["outputs"] = tuple(values["outputs"])
    return Request(**values), offset


def pack_answer(answer: Response | InferenceError) -> tuple[dict[str, Any], list[Buffer]]:
    if isinstance(answer, InferenceError):
        return {"error": [answer.status.name, answer.message]}, []
    layout, buffers = pack(answer.outputs)
    parameters = dict(answer.parameters)
    return {"outputs": layout, "parameters": parameters, "final": answer.final}, buffers


def unpack_answer(message: Message) -> Response | InferenceError:
    fields = message.fields
    if "error" in fields:
        status, text = fields["error"]
        return InferenceError(Status[status], text)
    outputs, _ = unpack(fields["outputs"], message.payload, 0)
    return Response(outputs, fields["parameters"], fields["final"])


class Decoder:
    """Bytes in, messages out; does no I/O, so that both a loop and a thread can drive it.

    Small messages are cut from one staging buffer; a large one is received straight into a
    buffer of its own, which its tensors then keep alive.
    """

    def __init__(self) -> None:
        self._stage = bytearray(_STAGE)
        self._view = memoryview(self._stage)
        self._filled = 0
        self._large: memoryview | None = None
        self._large_filled = 0
        self._lengths = (0, 0)

    def buffer(self) -> memoryview:
        """Where to receive the next bytes; never empty."""
        if self._large is not None:
            return self._large[self._large_filled :]
        return self._view[self._filled :]

    def received(self, count: int) -> list[Message]:
        """Take note of `count` bytes in `buffer()`; the messages they complete."""
        if self._large is None:
            self._filled += count
            return self._cut()
        self._large_filled += count
        if self._large_filled < len(self._large):
            return []
        body, self._large = self._large, None
        return [self._message(body, self._lengths[0])]

    def _cut(self) -> list[Message]:
        messages: list[Message] = []
        start = 0
        while self._filled - start >= _PREFIX.size:
            header, payload = _PREFIX.unpack_from(self._stage, start)
            body = start + _PREFIX.size
            total = header + payload
            if self._filled - body >= total:
                messages.append(self._message(memoryview(self._stage[body : body + total]), header))
                start = body + total
                continue
            if body + total - start > _STAGE:
                self._receive_large(body, header, payload)
                return messages
            break
        left = self._filled - start
        if start:
            self._stage[:left] = self._stage[start : self._filled]
        self._filled = left
        return messages

    def _receive_large(self, body: int, header: int, payload: int) -> None:
        large = bytearray(header + payload)
        here = self._filled - body
        large[:here] = self._view[body : self._filled]
        self._large = memoryview(large)
        self._large_filled = here
        self._lengths = (header, payload)
        self._filled = 0

    @staticmethod
    def _message(body: memoryview, header: int) -> Message:
        kind, fields = json.loads(bytes(body[:header]))
        return Message(kind, fields, body[header:])


def send(sock: socket.socket, buffers: list[Buffer]) -> None:
    """Write all of `buffers` to a blocking socket."""
    views = [memoryview(buffer) for buffer in buffers if len(buffer)]
    while views:
        views = advance(views, sock.sendmsg(views[:_IOV]))


def send_some(sock: socket.socket, views: list[memoryview]) -> list[memoryview]:
    """Write what a non-blocking socket takes now; what is left to write."""
    while views:
        try:
            views = advance(views, sock.sendmsg(views[:_IOV]))
        except (BlockingIOError, InterruptedError):
            return views
    return views


def advance(views: list[memoryview], sent: int) -> list[memoryview]:
    for index, view in enumerate(views):
        if sent < len(view):
            return [view[sent:], *views[index + 1 :]]
        sent -= len(view)
    return []
