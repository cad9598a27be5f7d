"""ModelInfer's messages as bytes: what precedes the tensors is read and written once per kind.

A client that asks for the same names, types and shapes sends the same bytes before the tensors'
own, but for its request's id. What is not of that kind goes through `v2_proto`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from nerite.core.errors import invalid
from nerite.core.layout import Cut, Layout, Packed, tight
from nerite.core.request import Request, Response
from nerite.core.tensor import numpy_dtype
from nerite.frontends import v2_proto
from nerite.frontends.http1 import Body
from nerite.frontends.regions import Regions
from nerite.frontends.v2_response import OutputForm, Target

_KEPT = 1024
_KEPT_SIZE = 1 << 12  # bytes before the tensors above which a message is not kept
# Tags of length-delimited fields: of ModelInferRequest, and of ModelInferResponse.
_ID, _RAW_INPUT = 3 << 3 | 2, 7 << 3 | 2
_RAW_OUTPUT = 6 << 3 | 2


class _Kind(NamedTuple):
    """What requests that are alike have in common. rest: a Request's fields after its inputs."""

    model: str
    layout: Layout
    rest: tuple[Any, ...]
    form: OutputForm


class _Head(NamedTuple):
    """The bytes of an answer before its tensors, and each tensor's with its own tag and length."""

    data: bytes
    outputs: tuple[tuple[bytes, Cut], ...]


class Messages:
    """Reads requests and writes answers, for one port."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._kinds: dict[bytes, _Kind] = {}
        self._heads: dict[tuple[OutputForm, Layout], _Head] = {}

    def decode(self, data: Body) -> tuple[Request, OutputForm]:
        """A ModelInferRequest as Request, and the form its answer is wanted in.

        Raises InferenceError with Triton's texts.
        """
        fields = _split(data)
        if fields is None:
            return v2_proto.decode(_parse(data), self._regions)
        head, name, parts = fields
        kind = self._kinds.get(head)
        if kind is None:
            message = _parse(data)
            request, form = v2_proto.decode(message, self._regions)
            self._keep(head, message, request, form)
            return request, form
        layout = kind.layout
        if [end - start for start, end in parts] != [cut.size for cut in layout.cuts.values()]:
            return v2_proto.decode(_parse(data), self._regions)
        view = memoryview(data)
        pieces = [view[start:end] for start, end in parts]
        inputs = Packed(layout, pieces[0] if len(pieces) == 1 else b"".join(pieces))
        version, _, *rest = kind.rest
        return Request(kind.model, inputs, version, name, *rest), kind.form

    def _keep(self, head: bytes, message: Any, request: Request, form: OutputForm) -> None:
        layout = _layout(message)
        if layout is None or len(head) > _KEPT_SIZE:
            return
        if len(self._kinds) >= _KEPT:
            self._kinds.clear()
        self._kinds[head] = _Kind(request.model, layout, request[2:], form)

    def encode(self, request: Request, response: Response, target: Target) -> list[Body]:
        """A Response as the parts of a ModelInferResponse; its tensors are not copied.

        Raises InferenceError as `v2_proto.encode`.
        """
        outputs, form = response.outputs, target.form
        if type(outputs) is not Packed or response.parameters or not form.plain:
            message = v2_proto.encode(request, response, target)
            return [message.SerializeToString()]
        head = self._heads.get((form, outputs.layout))
        if head is None:
            head = _head(request._replace(id=""), response, target)
            if len(self._heads) >= _KEPT:
                self._heads.clear()
            self._heads[form, outputs.layout] = head
        parts: list[Body] = [head.data]
        if request.id:
            name = request.id.encode()
            parts += (_tagged(_ID, len(name)), name)
        for tag, cut in head.outputs:
            parts += (tag, outputs.bytes_of(cut))
        return parts


def _parse(data: Body) -> Any:
    try:
        return pb.ModelInferRequest.FromString(bytes(data))
    except DecodeError:
        raise invalid("the message is no ModelInferRequest") from None


def _split(data: Body) -> tuple[bytes, str, list[tuple[int, int]]] | None:
    """What precedes the tensors but for the id, the id, and where each tensor lies.

    None where the fields are not in a writer's order, or are none of this message's.
    """
    position, end = 0, len(data)
    name, id_start, id_end, first = "", 0, 0, end
    parts: list[tuple[int, int]] = []
    try:
        while position < end:
            start, tag = position, data[position]
            length, position = data[position + 1], position + 2
            shift = 7
            while length >> shift:  # a further byte of the length follows
                length += (data[position] - 1) << shift
                position, shift = position + 1, shift + 7
            stop = position + length
            if tag == _RAW_INPUT:
                first = min(first, start)
                parts.append((position, stop))
            elif parts or tag & 7 != 2 or tag >= _RAW_INPUT:
                return None
            elif tag == _ID:
                name, id_start, id_end = bytes(data[position:stop]).decode(), start, stop
            position = stop
    except (IndexError, UnicodeDecodeError):
        return None
    if position != end:
        return None
    return bytes(data[:id_start]) + bytes(data[id_end:first]), name, parts


def _layout(message: Any) -> Layout | None:
    """Of inputs whose data is raw and as long as their shapes say."""
    if len(message.inputs) != len(message.raw_input_contents):
        return None
    entries = []
    for entry in message.inputs:
        if entry.datatype == "BYTES" or "shared_memory_region" in entry.parameters:
            return None
        shape = tuple(entry.shape)
        size = math.prod(shape) * numpy_dtype(entry.datatype).itemsize
        entries.append((entry.name, entry.datatype, shape, size))
    return tight(entries)


def _head(request: Request, response: Response, target: Target) -> _Head:
    outputs: Mapping[str, Any] = response.outputs
    assert isinstance(outputs, Packed)
    message = v2_proto.encode(request, response, target)
    cuts = [outputs.layout.cuts[entry.name] for entry in message.outputs]
    message.ClearField("raw_output_contents")
    tagged = tuple((_tagged(_RAW_OUTPUT, cut.size), cut) for cut in cuts)
    return _Head(message.SerializeToString(), tagged)


def _tagged(tag: int, length: int) -> bytes:
    """A field's tag and length."""
    coded = bytearray((tag,))
    while length > 127:
        coded.append(length & 127 | 128)
        length >>= 7
    coded.append(length)
    return bytes(coded)
