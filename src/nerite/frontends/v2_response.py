"""KServe v2 over HTTP: a Response to a body, JSON or JSON with binary tensors behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from nerite.core.errors import invalid
from nerite.core.layout import Layout, Packed
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor, datatype_of, to_bytes
from nerite.frontends.http1 import Body
from nerite.frontends.outputs import Place, classify
from nerite.frontends.regions import Regions
from nerite.model import Model

_NOT_IN_JSON = ("FP16", "BF16")
_KEPT = 64


class Wish(NamedTuple):
    """How one output is wanted: binary or in the document, as classes, in shared memory."""

    binary: bool = False
    classes: int = 0
    region: str = ""
    offset: int = 0
    size: int = 0


class OutputForm:
    """How the asker wants the outputs.

    Lives as long as the request's template, and keeps the documents of the answers given in it:
    where all outputs are binary, one depends on their layout alone.
    """

    def __init__(self, wishes: Mapping[str, Wish], default_binary: bool) -> None:
        self._wishes = wishes
        self._default = Wish(default_binary)
        self.plain = not any(wish.classes or wish.region for wish in wishes.values())
        self._documents: dict[Layout, bytes] = {}

    def of(self, name: str) -> Wish:
        return self._wishes.get(name, self._default)

    def is_binary(self, name: str) -> bool:
        return self.of(name).binary

    def document(self, request: Request, version: str, layout: Layout) -> bytes:
        """What stands before the bytes of `layout`; nothing where they cannot go on as they are."""
        document = self._documents.get(layout)
        if document is None:
            document = self._write(request, version, layout)
            if len(self._documents) >= _KEPT:
                self._documents.clear()
            self._documents[layout] = document
        return document

    def _write(self, request: Request, version: str, layout: Layout) -> bytes:
        names = list(layout.cuts)
        binary = self.plain and all(map(self.is_binary, names))
        if not (
            binary and layout.tight and layout.size and list(request.outputs or names) == names
        ):
            return b""
        entries = [
            {"name": one.name, "datatype": one.datatype, "shape": one.shape}
            | {"parameters": {"binary_data_size": one.size}}
            for one in layout.cuts.values()
        ]
        return _dump(_document(request, version, Response(), entries), True)

    def places(self, regions: Regions) -> dict[str, Place]:
        """Where in shared memory outputs go. Raises InferenceError before the model is asked."""
        if self.plain:
            return {}
        return {
            name: Place(regions.find(wish.region, wish.offset, wish.size), wish.offset, wish.size)
            for name, wish in self._wishes.items()
            if wish.region
        }


class Target(NamedTuple):
    """Who an answer is for: the version that gave it, the form and places it is wanted in."""

    model: Model
    form: OutputForm
    places: Mapping[str, Place]


def encode(request: Request, response: Response, target: Target) -> tuple[list[Body], int | None]:
    """A response's body in parts, and the length of its JSON part when binary data follows.

    Raises InferenceError for what JSON cannot carry and what has no room in shared memory.
    """
    form, outputs = target.form, response.outputs
    version = str(target.model.version)
    if type(outputs) is Packed and not request.id and not response.parameters:
        document = form.document(request, version, outputs.layout)
        if document:
            return [document, outputs.data], len(document)
    names = [name for name in request.outputs or outputs if name in outputs]
    tensors = [outputs[name] for name in names]
    binary: list[Body] = []
    entries: list[dict[str, Any]] = []
    finite = True
    for name, tensor in zip(names, tensors, strict=True):
        wish = form.of(name)
        if wish.classes:
            labels = target.model.labels.get(name, [])
            batched = target.model.contract.max_batch_size > 0
            tensor = classify(tensor, wish.classes, labels, batched=batched)
        if name in target.places:
            entries.append(_shared_entry(name, tensor, wish, target.places[name]))
        elif wish.binary:
            binary.append(to_bytes(tensor))
            entries.append(_binary_entry(name, tensor, len(binary[-1])))
        else:
            entries.append(_entry(name, tensor) | {"data": _to_json(tensor, name)})
            finite = finite and (tensor.dtype.kind != "f" or bool(np.isfinite(tensor).all()))
    head = _dump(_document(request, version, response, entries), finite)
    return [head, *binary], len(head) if any(map(len, binary)) else None


def _shared_entry(name: str, tensor: Tensor, wish: Wish, place: Place) -> dict[str, Any]:
    size = place.put(name, tensor)
    parameters: dict[str, Any] = {"shared_memory_region": wish.region}
    if wish.offset:
        parameters["shared_memory_offset"] = wish.offset
    parameters["shared_memory_byte_size"] = size
    return _entry(name, tensor) | {"parameters": parameters}


def _entry(name: str, tensor: Tensor) -> dict[str, Any]:
    return {"name": name, "datatype": datatype_of(tensor), "shape": list(tensor.shape)}


def _binary_entry(name: str, tensor: Tensor, size: int) -> dict[str, Any]:
    return _entry(name, tensor) | {"parameters": {"binary_data_size": size}}


def _document(
    request: Request, version: str, response: Response, entries: list[dict[str, Any]]
) -> dict[str, Any]:
    document: dict[str, Any] = {"model_name": request.model, "model_version": version}
    if request.id:
        document["id"] = request.id
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    return document | {"outputs": entries}


def _to_json(tensor: Tensor, name: str) -> Any:
    datatype = datatype_of(tensor)
    if datatype in _NOT_IN_JSON:
        raise invalid(
            f"sending {datatype} data via JSON is not supported. Please use the binary data "
            f"format for output {name}"
        )
    flat = np.ascontiguousarray(tensor).reshape(-1)
    if datatype != "BYTES":
        return flat
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in flat.tolist()]
    except UnicodeDecodeError:
        raise invalid(
            f"output '{name}' holds bytes that are not UTF-8 text. Please use the binary data "
            "format for it"
        ) from None


def _dump(document: dict[str, Any], finite: bool) -> bytes:
    if finite:
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    # NaN and Infinity are not JSON, but Triton writes them and its clients read them.
    for entry in document["outputs"]:
        if isinstance(entry.get("data"), np.ndarray):
            entry["data"] = entry["data"].tolist()
    return json.dumps(document, separators=(",", ":")).encode()
