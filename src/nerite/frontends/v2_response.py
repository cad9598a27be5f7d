"""KServe v2 over HTTP: a Response to a body, JSON or JSON with binary tensors behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson

from nerite.core.errors import invalid
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

    Lives as long as the request's template, and keeps the heads of the answers given in it.
    """

    def __init__(self, wishes: Mapping[str, Wish], default_binary: bool) -> None:
        self._wishes = wishes
        self._default = Wish(default_binary)
        self.plain = not any(wish.classes or wish.region for wish in wishes.values())
        self.heads: dict[tuple[Any, ...], bytes] = {}

    def of(self, name: str) -> Wish:
        return self._wishes.get(name, self._default)

    def is_binary(self, name: str) -> bool:
        return self.of(name).binary

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
    form, version = target.form, str(target.model.version)
    names = [name for name in request.outputs or response.outputs if name in response.outputs]
    tensors = [response.outputs[name] for name in names]
    all_binary = form.plain and all(map(form.is_binary, names))
    if all_binary and not request.id and not response.parameters:
        return _encode_binary(request, version, names, tensors, form)
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


def _encode_binary(
    request: Request, version: str, names: list[str], tensors: list[Tensor], form: OutputForm
) -> tuple[list[Body], int | None]:
    """The same where all is binary: then the JSON depends on types and shapes alone."""
    binary: list[Body] = [to_bytes(tensor) for tensor in tensors]
    parts: list[Any] = [version, *names]
    for tensor, data in zip(tensors, binary, strict=True):
        parts += (tensor.dtype.num, tensor.shape, len(data))
    key = tuple(parts)
    head = form.heads.get(key)
    if head is None:
        entries = [
            _binary_entry(name, tensor, len(data))
            for name, tensor, data in zip(names, tensors, binary, strict=True)
        ]
        head = _dump(_document(request, version, Response(), entries), True)
        if len(form.heads) >= _KEPT:
            form.heads.clear()
        form.heads[key] = head
    return [head, *binary], len(head) if any(map(len, binary)) else None


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
