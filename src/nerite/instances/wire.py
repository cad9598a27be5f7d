"""The messages between the front process and a worker.

A message is `kind (u32) | entries (u32) | body length (u64)` and a body. Of the rare kinds (load,
loaded, close, orders) the body is JSON. The frequent ones (calls and questions, answers to both)
carry many entries at once: a table of fixed-size rows, then each entry's head in JSON, then its
tensors' bytes, laid out so that a received tensor is a view and not a copy. Heads repeat from
request to request, so both ends keep the ones they have parsed or written.

Never pickle: either end may be another Python.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, Dict, List, NamedTuple, Protocol, Tuple

from nerite.core.errors import InferenceError, Status
from nerite.core.files import File, Filed, Span
from nerite.core.layout import Buffer, Layout, Packed, aligned
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor, datatype_of, to_bytes
from nerite.instances.regions import Borrowed, Lent

LOAD, LOADED, CLOSE, CANCEL, CALLS, ANSWERS, QUESTIONS, ORDER, REPLY, READY = range(1, 11)
REGION, RELEASE, FORGET, HOLD, FILE = range(11, 16)
# Flags of an entry. CALLS: the call is cancelled already; it is the last of its batch.
# ANSWERS: the call ends; the entry tells that a batch is done, and answers nothing; the call is to
# be executed once more. QUESTIONS: more than one answer is welcome. All: the tensors' bytes lie in
# a region, whose number and the count of bytes come in their place.
CANCELLED, LAST, DONE, AGAIN, MANY, IN_REGION = 1, 2, 4, 8, 16, 32

PREFIX = struct.Struct("<IIQ")
_ROW = struct.Struct("<QQQQIIQQ")
_ALIGN = 64
_HEADS = 1024  # heads kept at either end; all are dropped when there are more
_PADDINGS = [bytes(size) for size in range(_ALIGN)]
_USUAL = Request("", {})[5:]  # what most requests are, from their parameters on
_JOINED = 1 << 16  # bytes of tensors up to which a copy costs less than many small buffers
_PLACE = struct.Struct("<QQ")
# Bytes of an entry from which a copy into a region, and the messages about it, cost less than the
# copies through the socket.
LARGE = 1 << 18


_new: Any = tuple.__new__  # past what a NamedTuple's own does for its defaults


_Numbered = Tuple[int, int, int]  # a span, its file by number  # noqa: UP006  as elsewhere


class Entry(NamedTuple):
    """One row of a frequent message and what belongs to it.

    number: the call's. batch: the execution's. input_ns, infer_ns: nanoseconds that reading the
    tensors and executing took, told with an answer; of a batch that is done, infer_ns is how long
    the worker was busy with it. start_ns: when the worker began with it, of the monotonic clock,
    which all processes of a machine share. Of a question: its own number, and the batch of the
    execution that asks, 0 where that is not known.
    """

    number: int
    batch: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    flags: int = 0
    head: bytes = b""
    payload: Sequence[Buffer] = ()
    start_ns: int = 0


class Message(NamedTuple):
    kind: int
    entries: List[Entry]  # noqa: UP006  evaluated, and workers may run on 3.8
    fields: Dict[str, Any]  # noqa: UP006


def encode(kind: int, fields: Mapping[str, Any]) -> list[Buffer]:
    """The buffers to write for a rare message."""
    body = json.dumps(fields).encode()
    return [PREFIX.pack(kind, 0, len(body)) + body]


class Passed(bytes):
    """A message with which the file `fd` is passed."""

    fd = -1


def entry(*fields: Any) -> Entry:
    """An Entry of all its fields: made in half the time, for there is one for every request."""
    return _new(Entry, fields)  # type: ignore[no-any-return]


def encode_entries(kind: int, entries: Sequence[Entry], lent: Lent | None = None) -> list[Buffer]:
    """The buffers to write for a frequent message. What is large is copied into a region, where
    there are any, and else not at all."""
    news: list[Buffer] = []
    parts: list[Buffer] = [b""]
    heads: list[bytes] = []
    payloads: list[Buffer] = []
    length = start = 0
    for number, batch, input_ns, infer_ns, flags, head, payload, start_ns in entries:
        size = len(payload[0]) if len(payload) == 1 else sum(map(len, payload))
        if size >= LARGE and lent is not None:
            payload, size = [_place(payload, size, lent, news)], _PLACE.size
            flags |= IN_REGION
        payloads += payload
        gap = -size % _ALIGN
        if gap:
            payloads.append(_PADDINGS[gap])
        parts.append(_ROW.pack(number, batch, input_ns, infer_ns, flags, len(head), size, start_ns))
        heads.append(head)
        start += len(head)
        length += size + gap
    start += len(entries) * _ROW.size
    gap = -start % _ALIGN
    parts[0] = PREFIX.pack(kind, len(entries), start + gap + length)
    parts += heads
    parts.append(_PADDINGS[gap])
    if length <= _JOINED:
        return [*news, b"".join(parts + payloads)]
    return [*news, b"".join(parts), *payloads]


def _place(payload: Sequence[Buffer], size: int, lent: Lent, news: list[Buffer]) -> bytes:
    """Copy `payload` into a region; where it is. What the receiver must know first is `news`."""
    region, new = lent.lend(size)
    if new:
        (body,) = encode(REGION, {"number": region.number, "size": region.size})
        passed = Passed(body)
        passed.fd = region.fd
        news.append(passed)
    region.fill(payload)
    return _PLACE.pack(region.number, size)


def decode(kind: int, count: int, body: memoryview, borrowed: Borrowed) -> Message:
    if kind not in (CALLS, ANSWERS, QUESTIONS):
        return Message(kind, [], json.loads(bytes(body)) if body else {})
    table = count * _ROW.size
    rows = list(_ROW.iter_unpack(body[:table]))
    start = table + sum([row[5] for row in rows])
    heads = bytes(body[table:start])
    start += -start % _ALIGN
    entries = []
    at = 0
    for number, batch, input_ns, infer_ns, flags, head, size, start_ns in rows:
        part = body[start : start + size]
        if flags & IN_REGION:
            part = borrowed.view(*_PLACE.unpack(part))
        fields = (
            number,
            batch,
            input_ns,
            infer_ns,
            flags,
            heads[at : at + head],
            (part,),
            start_ns,
        )
        entries.append(_new(Entry, fields))
        at += head
        start += size + -size % _ALIGN
    return Message(kind, entries, {})


class Files(Protocol):
    """The files of one end."""

    def number(self, file: File) -> int:
        """What the other end calls it."""
        ...

    def file(self, number: int) -> File: ...


class Heads:
    """Heads by their bytes and by what they say; one per end of a socket.

    A model is asked for the same names, types and shapes again and again: then neither end
    writes or parses JSON.
    """

    def __init__(self, files: Files | None = None) -> None:
        """files: those that both ends have open; None where no tensors lie in any."""
        self._files = files
        # Told of the outputs of an answer, names and datatypes, when their layout first comes.
        self.look: Callable[[Iterable[tuple[str, str]]], None] | None = None
        self._layouts: dict[Any, Layout] = {}
        self._written: dict[Any, bytes] = {}
        self._parsed: dict[bytes, Any] = {}

    def of_request(self, request: Request) -> tuple[bytes, list[Buffer]]:
        """A request's head and payload."""
        layout, payload = self._pack(request.inputs)
        return self._request_head("", request, layout), payload

    def of_question(self, request: Request) -> tuple[bytes, list[Buffer]]:
        """The same of a question to another model, which the head names."""
        layout, payload = self._pack(request.inputs)
        return self._request_head(request.model, request, layout), payload

    def _request_head(self, model: str, request: Request, layout: Layout) -> bytes:
        key: Any
        if request[5:] == _USUAL:
            key = (layout, model, request[2], request[4])
        elif request.parameters or request.trace or request.places:
            return _with_id(_dump(self._request_fields(model, request, layout)), request.id)
        else:
            key = (model, layout, request[2], *request[4:5], *request[6:12])
        if _is_filed(request[1]):
            return _with_id(_dump(self._request_fields(model, request, layout)), request.id)
        head = self._written.get(key)
        if head is None:
            head = _dump(self._request_fields(model, request, layout))
            self._keep(self._written, key, head)
        return _with_id(head, request[3]) if request[3] else head

    def of_answer(self, answer: Response | InferenceError) -> tuple[bytes, list[Buffer]]:
        """An answer's head and payload."""
        error = answer if isinstance(answer, InferenceError) else answer.error
        if error is not None:
            final = error is answer
            return _dump({"error": [error.status.name, error.message], "final": final}), []
        assert isinstance(answer, Response)
        layout, payload = self._pack(answer.outputs)
        if answer.parameters or _is_filed(answer.outputs):
            return _dump(self._answer_fields(answer, layout)), payload
        key = (layout, answer.final)
        head = self._written.get(key)
        if head is None:
            head = _dump(self._answer_fields(answer, layout))
            self._keep(self._written, key, head)
        return head, payload

    def _pack(self, tensors: Mapping[str, Tensor]) -> tuple[Layout, list[Buffer]]:
        if type(tensors) is Packed and tensors.layout.aligned:
            data = tensors.data
            if type(data) is not Filed:
                return tensors.layout, [data]  # type: ignore[list-item]
            # The head says where it is.
            return tensors.layout, [] if self._files is not None else [tensors.read()]
        payload: list[Buffer] = []
        key: Any = ()
        for name, tensor in tensors.items():
            data = to_bytes(tensor)
            payload.append(data)
            key += (name, tensor.dtype.num, tensor.shape, len(data))
        layout = self._layouts.get(key)
        if layout is None:
            layout = aligned(
                (name, datatype_of(tensor), tensor.shape, len(data))
                for (name, tensor), data in zip(tensors.items(), payload)  # noqa: B905  3.8 has no strict
            )
            self._keep(self._layouts, key, layout)
        return layout, payload if layout.tight else layout.spread(payload)

    def request(self, model: str, entry: Entry) -> Request:
        """The request an entry carries, a question with the model it names; tensors are views."""
        head, name = entry[5], ""
        parsed = self._parsed.get(head)
        if parsed is None and b"\n" in head:
            head, _, text = head.partition(b"\n")
            parsed, name = self._parsed.get(head), text.decode()
        if parsed is None:
            fields = json.loads(head)
            layout = Layout(fields.pop("inputs"))
            spans = fields.pop("spans")
            fields["outputs"] = tuple(fields["outputs"])
            kept = Request(inputs={}, **fields)
            parsed = (layout, spans, kept[0], kept[2], kept[4:])
            self._keep(self._parsed, head, parsed)
        layout, spans, asked, version, rest = parsed
        inputs = self._packed(layout, spans, entry)
        made = _new(Request, (asked or model, inputs, version, name, *rest))
        if made.places:
            numbered = made.places.items()
            made = made._replace(places={one: self._span(place) for one, place in numbered})
        return made  # type: ignore[no-any-return]

    def answer(self, entry: Entry) -> Response | InferenceError:
        """The answer an entry carries; its tensors are views."""
        parsed = self._parsed.get(entry[5])
        if parsed is None:
            fields = json.loads(entry.head)
            if "error" in fields:
                status, text = fields["error"]
                error = InferenceError(Status[status], text)
                return error if fields["final"] else Response(final=False, error=error)
            layout, spans = Layout(fields["outputs"]), fields["spans"]
            if self.look is not None:
                self.look((one[0], one[1]) for one in layout.cuts.values())
            parsed = (layout, spans, fields["parameters"], fields["final"])
            self._keep(self._parsed, entry.head, parsed)
        layout, spans, parameters, final = parsed
        made = (self._packed(layout, spans, entry), parameters, final, None)
        return _new(Response, made)  # type: ignore[no-any-return]

    def written(self, outputs: Mapping[str, Tensor], places: Mapping[str, Span]) -> Packed | None:
        """Outputs, once they are written where whoever asked wants them.

        None where one has no place, or not room enough, or the sending costs less.
        """
        if any(name not in places for name in outputs):
            return None
        layout, payload = self._pack(outputs)
        if layout.size < LARGE or len(payload) != len(layout.cuts) or not layout.tight:
            return None
        spans = [places[name]._replace(size=len(data)) for name, data in zip(outputs, payload)]  # noqa: B905
        if any(span.size > places[name].size for name, span in zip(outputs, spans)):  # noqa: B905
            return None
        for span, data in zip(spans, payload):  # noqa: B905  3.8 has no strict
            span.write(data)
        return Packed(layout, Filed(spans))

    def _request_fields(self, model: str, request: Request, layout: Layout) -> dict[str, Any]:
        fields = request._asdict()
        del fields["id"]
        fields["model"] = model
        # A trace without a context is one all the same, of which a model's own questions are part.
        fields["trace"] = (
            None if request.trace is None else getattr(request.trace, "context", "") or "{}"
        )
        fields["parameters"] = dict(request.parameters)
        places = request.places.items() if self._files is not None else ()
        fields["places"] = {name: self._number(place) for name, place in places}
        return {**fields, "inputs": layout.placed, "spans": self._numbers(request.inputs)}

    def _answer_fields(self, answer: Response, layout: Layout) -> dict[str, Any]:
        parameters = dict(answer.parameters)
        fields = {"outputs": layout.placed, "parameters": parameters, "final": answer.final}
        return {**fields, "spans": self._numbers(answer.outputs)}

    def _numbers(self, tensors: Mapping[str, Tensor]) -> list[_Numbered]:
        """Where tensors lie that lie in files; else nothing."""
        if self._files is None or not _is_filed(tensors):
            return []
        return [self._number(span) for span in tensors.data.spans]  # type: ignore[attr-defined]

    def _number(self, span: Span) -> _Numbered:
        assert self._files is not None
        return self._files.number(span.file), span.start, span.size

    def _span(self, numbered: Sequence[int]) -> Span:
        assert self._files is not None
        number, start, size = numbered
        return Span(self._files.file(number), start, size)

    def _packed(self, layout: Layout, spans: Sequence[Sequence[int]], entry: Entry) -> Packed:
        """Tensors that came with an entry, or lie in files."""
        if spans:
            return Packed(layout, Filed([self._span(one) for one in spans]))
        return Packed(layout, entry[6][0])

    @staticmethod
    def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
        if len(kept) >= _HEADS:
            kept.clear()
        kept[key] = value


def _is_filed(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors lie in files."""
    return type(tensors) is Packed and type(tensors.data) is Filed


def _with_id(head: bytes, name: str) -> bytes:
    """Behind the JSON, which has no line's end in it: every request has another."""
    return b"%b\n%b" % (head, name.encode()) if name else head


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
