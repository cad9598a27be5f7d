"""Trace: what is noted of one request, from the door it came in by to the same door."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nerite.core.call import Answer, Call, Deliver
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request
from nerite.core.tensor import Tensor, datatype_of

_IDS = itertools.count(1)
Stamp = tuple[str, int]


class Sink(Protocol):
    """Where finished traces go."""

    @property
    def timestamps(self) -> bool: ...

    @property
    def tensors(self) -> bool: ...

    def take(self, trace: Trace) -> None: ...

    def span(self, trace: Trace) -> tuple[Any, str]:
        """What the trace is to its destination from the start, and its headers as JSON."""
        ...


@dataclass
class ModelTrace:
    """What one model did for a traced request. parent: the id of the one that asked it, or 0."""

    id: int
    parent: int
    model: str
    version: int
    request_id: str
    request: list[Stamp]
    compute: list[Stamp]
    tensors: list[tuple[str, str, Tensor]]


class Trace:
    """The trace of one request. Belongs to the server's loop.

    door: "HTTP" or "GRPC". parent: what came with the request to continue a trace of the client.
    """

    def __init__(self, sink: Sink, door: str, parent: Any = None, since_ns: int = 0) -> None:
        """since_ns: when the request began to come, 0 for now."""
        now = time.monotonic_ns()
        self.id = next(_IDS)
        self.parent = parent
        self.epoch_ns = time.time_ns() - now  # of the monotonic clock's zero
        self.begun_ns = since_ns or now
        self.ended_ns = 0
        self.stamps: list[Stamp] = []
        self.models: list[ModelTrace] = []
        self._sink = sink
        self._door = door
        self._open: dict[int, ModelTrace] = {}
        self._asking: set[int] = set()
        received = "GRPC_WAITREAD" if door == "GRPC" else f"{door}_RECV"
        self.stamps += [(f"{received}_START", self.begun_ns), (f"{received}_END", now)]
        self.span, self.context = sink.span(self)

    def answered(self, call: Call, model: str, version: int, answer: Answer) -> None:
        """A model has answered; after its last answer the door sends."""
        self.note(self.id, 0, call, model, version, answer)
        if isinstance(answer, InferenceError):
            if answer.status is Status.CANCELLED:
                return
        elif not answer.final:
            return
        now = time.monotonic_ns()
        self.stamps += [("INFER_RESPONSE_COMPLETE", now), (f"{self._door}_SEND_START", now)]

    def note(
        self, id: int, parent: int, call: Call, model: str, version: int, answer: Answer
    ) -> None:
        """Take note of one answer of one model, the traced request's own or one it asked."""
        one = self._open.get(id)
        if one is None:
            one = ModelTrace(id, parent, model, version, call.request.id, [], [], [])
            self._open[id] = one
            self.models.append(one)
            if self._sink.tensors:
                one.tensors += _named("TENSOR_QUEUE_INPUT", call.request.inputs)
        if self._sink.tensors and not isinstance(answer, InferenceError):
            one.tensors += _named("TENSOR_BACKEND_OUTPUT", answer.outputs)
        if isinstance(answer, InferenceError) or answer.final:
            self._open.pop(id)
            if self._sink.timestamps:
                one.request, compute = _stamps(call)
                one.compute = [] if id in self._asking else compute

    def child(self, request: Request, parent: int = 0) -> Request:
        """`request`, which is asked on behalf of the traced one, as a part of this trace."""
        return request._replace(trace=_Child(self, parent or self.id))

    def part(self, request: Request, parent: int = 0) -> Request:
        """The same where the asking model, an ensemble, computes nothing itself."""
        self._asking.add(parent or self.id)
        return self.child(request, parent)

    def around(self, deliver: Deliver) -> Deliver:
        """`deliver`, and the trace ends when the last answer has been delivered."""

        def traced(call: Call, answer: Answer) -> None:
            deliver(call, answer)
            if isinstance(answer, InferenceError) or answer.final:
                self.sent()

        return traced

    def sent(self) -> None:
        """The door has sent all it will. Once; further calls do nothing."""
        if self.ended_ns:
            return
        self.ended_ns = time.monotonic_ns()
        if self.stamps[-1][0].endswith("_SEND_START"):
            self.stamps.append((f"{self._door}_SEND_END", self.ended_ns))
        if not self._sink.timestamps:
            self.stamps = []
        self._sink.take(self)

    def __del__(self) -> None:
        # A request that no model took is traced as far as it came.
        with contextlib.suppress(RuntimeError):  # the server is gone
            if getattr(self, "ended_ns", 1) == 0:
                self.sent()


class _Child:
    """What a model asks of another one while it works on a traced request."""

    def __init__(self, trace: Trace, parent: int) -> None:
        self.id = next(_IDS)
        self.context = trace.context
        self._trace = trace
        self._parent = parent

    def answered(self, call: Call, model: str, version: int, answer: Answer) -> None:
        self._trace.note(self.id, self._parent, call, model, version, answer)

    def child(self, request: Request) -> Request:
        return self._trace.child(request, self.id)

    def part(self, request: Request) -> Request:
        return self._trace.part(request, self.id)


def _named(kind: str, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, Tensor]]:
    return ((kind, name, tensor) for name, tensor in tensors.items())


def _stamps(call: Call) -> tuple[list[Stamp], list[Stamp]]:
    """A call's times under Triton's names: of the request, and of its execution if there was one.

    An execution that its instance knows nothing of (its worker died) is not told of.
    """
    start, end = call.received_ns, call.ended_ns
    request = [("REQUEST_START", start), ("QUEUE_START", start), ("REQUEST_END", end)]
    if not call.infer_ns:
        return request, []
    started = call.taken_ns
    computing = started + call.input_ns
    computed = min(computing + call.infer_ns, end)
    compute = [
        ("COMPUTE_START", started),
        ("COMPUTE_INPUT_END", computing),
        ("COMPUTE_OUTPUT_START", computed),
        ("COMPUTE_END", end),
    ]
    return request, compute


def to_json(trace: Trace) -> str:
    """Triton's trace entries, joined by commas: they stand in an array with those of others."""
    entries: list[dict[str, Any]] = [_stamp(trace.id, stamp) for stamp in trace.stamps[:2]]
    for one in trace.models:
        head: dict[str, Any] = {"id": one.id, "model_name": one.model}
        head["model_version"] = one.version
        if one.request_id:
            head["request_id"] = one.request_id
        if one.parent:
            head["parent_id"] = one.parent
        entries.append(head)
        entries += [_tensor(one.id, *named) for named in one.tensors]
        *before, after = one.request or [("", 0)]
        stamps = [*before, *one.compute, after] if one.request else []
        entries += [_stamp(one.id, stamp) for stamp in stamps]
    entries += [_stamp(trace.id, stamp) for stamp in trace.stamps[2:]]
    return ",".join(json.dumps(entry, separators=(",", ":")) for entry in entries)


def _stamp(id: int, stamp: Stamp) -> dict[str, Any]:
    return {"id": id, "timestamps": [{"name": stamp[0], "ns": stamp[1]}]}


def _tensor(id: int, activity: str, name: str, tensor: Tensor) -> dict[str, Any]:
    datatype = datatype_of(tensor)
    flat = np.asarray(tensor).reshape(-1)
    if datatype == "BYTES":
        texts = (item.decode(errors="replace") if isinstance(item, bytes) else str(item)
                 for item in flat.tolist())  # fmt: skip
        data = ",".join(f'"{text}"' for text in texts)
    elif datatype in ("FP16", "BF16"):
        data = ""  # as Triton leaves it
    elif datatype.startswith("FP"):
        data = ",".join(f"{value:g}" for value in flat.tolist())
    else:
        data = ",".join(str(int(value)) for value in flat.tolist())
    shape = ",".join(map(str, tensor.shape))
    told = {"name": name, "data": data, "shape": shape, "dtype": datatype}
    return {"id": id, "activity": activity, "tensor": told}
