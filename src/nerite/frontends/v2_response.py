"""KServe v2 over HTTP: a Response to a body, JSON or JSON with binary tensors behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from nerite.core.errors import invalid
from nerite.core.layout import Layout, Packed
from nerite.core.request import Parameter, Request, Response
from nerite.core.tensor import Tensor, datatype_of, to_bytes
from nerite.frontends.answers import json_of
from nerite.frontends.http1 import Body
from nerite.frontends.outputs import Place, classify, written
from nerite.frontends.regions import FAR, Regions, SystemRegion
from nerite.model import Model

_NOT_IN_JSON = ("FP16", "BF16")
_KEPT = 64
_NOWHERE: dict[str, Place] = {}
_new: Any = tuple.__new__  # past a NamedTuple's own, which is slow
_NO_OUTPUTS = b',"outputs":[]}'


class Wish(NamedTuple):
    """How one output is wanted: binary or in the document, as classes, in shared memory."""

    binary: bool = False
    classes: int = 0
    region: str = ""
    offset: int = 0
    size: int = 0


class Skeleton(NamedTuple):
    """An answer's document without the data of `outputs`, which go between its texts.

    No outputs: all are binary, and follow the document. No texts: the answer is none of these.
    start: where in the first text a request's id belongs.
    """

    texts: tuple[bytes, ...] = ()
    outputs: tuple[str, ...] = ()
    start: int = 0

    def first(self, name: str) -> bytes:
        """The first text, with the request's id."""
        text = self.texts[0]
        return b"".join((text[: self.start], b',"id":', json_of(name), text[self.start :]))


class OutputForm:
    """How the asker wants the outputs.

    Lives as long as the request's template, and keeps the documents of the answers given in it:
    without data, one depends on the outputs' layout alone.
    """

    def __init__(self, wishes: Mapping[str, Wish], default_binary: bool) -> None:
        self.wishes = wishes
        self._default = Wish(default_binary)
        self.plain = not any(wish.classes or wish.region for wish in wishes.values())
        self.skeletons: dict[Layout, Skeleton] = {}

    def of(self, name: str) -> Wish:
        return self.wishes.get(name, self._default)

    def is_binary(self, name: str) -> bool:
        return self.of(name).binary

    def write(self, request: Request, version: int, layout: Layout) -> Skeleton:
        """What stands around the data of an answer of this layout, to be kept in `skeletons`."""
        skeleton = self._write(request, str(version), layout)
        if len(self.skeletons) >= _KEPT:
            self.skeletons.clear()
        self.skeletons[layout] = skeleton
        return skeleton

    def _write(self, request: Request, version: str, layout: Layout) -> Skeleton:
        names = [name for name in request.outputs or layout.cuts if name in layout.cuts]
        cuts = [layout.cuts[name] for name in names]
        binary = {self.is_binary(name) for name in names}
        whole = layout.tight and layout.size and names == list(layout.cuts)
        if not self.plain or len(binary) != 1 or (True in binary and not whole):
            return Skeleton()
        request = request._replace(id="")
        start = len(_document(request, version, {}, [])) - len(_NO_OUTPUTS)
        if True in binary:
            entries = [_binary(_entry(one.name, one.datatype, one.shape), one.size) for one in cuts]
            return Skeleton((_document(request, version, {}, entries),), (), start)
        entries = [_entry(one.name, one.datatype, one.shape) | {"data": []} for one in cuts]
        text = _document(request, version, {}, entries)
        *before, last = text.split(b'"data":[]')
        return Skeleton((*(one + b'"data":' for one in before), last), tuple(names), start)


class Target(NamedTuple):
    """Who an answer is for: the version that gave it, the form and places it is wanted in."""

    model: Model
    form: OutputForm
    places: Mapping[str, Place]


def target_of(model: Model, form: OutputForm, regions: Regions) -> Target:
    """Raises InferenceError, before the model is asked, where there is no such shared memory."""
    if form.plain:
        return _new(Target, (model, form, _NOWHERE))  # type: ignore[no-any-return]
    places = {
        name: Place(regions.find(wish.region, wish.offset, wish.size), wish.offset, wish.size)
        for name, wish in form.wishes.items()
        if wish.region
    }
    return Target(model, form, places)


def placed(request: Request, target: Target) -> Request:
    """The same request, whose outputs may be written where they are wanted by who computes them."""
    if not target.places:
        return request
    places = {
        name: place.region.span(place.offset, place.size)
        for name, place in target.places.items()
        if isinstance(place.region, SystemRegion) and place.size >= FAR
    }
    return request._replace(places=places) if places else request


def encode(request: Request, response: Response, target: Target) -> tuple[list[Body], int | None]:
    """A response's body in parts, and the length of its JSON part when binary data follows.

    Raises InferenceError for what JSON cannot carry and what has no room in shared memory.
    """
    form, outputs = target.form, response.outputs
    if type(outputs) is Packed and not response.parameters:
        skeleton = form.skeletons.get(outputs.layout)
        if skeleton is None:
            skeleton = form.write(request, target.model.version, outputs.layout)
        if skeleton.texts:
            first = skeleton.first(request.id) if request.id else skeleton.texts[0]
            if not skeleton.outputs:
                return [first, outputs.read()], len(first)
            parts: list[Body] = [first]
            for name, text in zip(skeleton.outputs, skeleton.texts[1:], strict=True):
                parts += (_packed_data(outputs, name), text)
            return parts, None
    names = [name for name in request.outputs or outputs if name in outputs]
    binary: list[Body] = []
    entries: list[dict[str, Any]] = []
    for name in names:
        wish = form.of(name)
        cut = written(outputs, name)
        if cut is not None and name in target.places:
            entry = _entry(name, cut.datatype, cut.shape)
            entries.append(entry | {"parameters": _shared(wish, cut.size)})
            continue
        tensor = outputs[name]
        if wish.classes:
            labels = target.model.labels.get(name, [])
            batched = target.model.contract.max_batch_size > 0
            tensor = classify(tensor, wish.classes, labels, batched=batched)
        entry = _entry(name, datatype_of(tensor), tensor.shape)
        if name in target.places:
            place = target.places[name]
            entry["parameters"] = _shared(wish, place.put(name, tensor))
        elif wish.binary:
            binary.append(to_bytes(tensor))
            entry = _binary(entry, len(binary[-1]))
        else:
            entry["data"] = orjson.Fragment(_data(tensor, name))
        entries.append(entry)
    head = _document(request, str(target.model.version), response.parameters, entries)
    return [head, *binary], len(head) if any(map(len, binary)) else None


def _shared(wish: Wish, size: int) -> dict[str, Any]:
    parameters: dict[str, Any] = {"shared_memory_region": wish.region}
    if wish.offset:
        parameters["shared_memory_offset"] = wish.offset
    return parameters | {"shared_memory_byte_size": size}


def _entry(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _binary(entry: dict[str, Any], size: int) -> dict[str, Any]:
    return entry | {"parameters": {"binary_data_size": size}}


def _document(
    request: Request,
    version: str,
    parameters: Mapping[str, Parameter],
    entries: list[dict[str, Any]],
) -> bytes:
    document: dict[str, Any] = {"model_name": request.model, "model_version": version}
    if request.id:
        document["id"] = request.id
    if parameters:
        document["parameters"] = dict(parameters)
    return json_of(document | {"outputs": entries})


def _data(tensor: Tensor, name: str) -> bytes:
    """An output's values as a JSON list."""
    datatype = datatype_of(tensor)
    if datatype in _NOT_IN_JSON:
        raise invalid(
            f"sending {datatype} data via JSON is not supported. Please use the binary data "
            f"format for output {name}"
        )
    if datatype == "BYTES":
        return json_of(_texts(tensor, name))
    return _numbers(np.ascontiguousarray(tensor).reshape(-1))


def _packed_data(outputs: Packed, name: str) -> bytes:
    """The same of one of several, without an array of its shape where it has numbers."""
    cut = outputs.layout.cuts[name]
    if cut.datatype == "BYTES" or cut.datatype in _NOT_IN_JSON or not cut.size:
        return _data(outputs[name], name)
    count = cut.size // cut.dtype.itemsize
    return _numbers(np.frombuffer(outputs.read(), cut.dtype, count, cut.start))


def _numbers(flat: Tensor) -> bytes:
    text = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in text:
        # NaN and Infinity are not JSON, but Triton writes them and its clients read them.
        return json.dumps(flat.tolist(), separators=(",", ":")).encode()
    return text


def _texts(tensor: Tensor, name: str) -> list[str]:
    try:
        return [
            item.decode() if isinstance(item, bytes) else str(item)
            for item in tensor.reshape(-1).tolist()
        ]
    except UnicodeDecodeError:
        raise invalid(
            f"output '{name}' holds bytes that are not UTF-8 text. Please use the binary data "
            "format for it"
        ) from None
