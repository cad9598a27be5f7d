"""Templates: inference requests without their data, so that a client's document is read once."""

from __future__ import annotations

from typing import Any

import orjson

from nerite.core.request import Request
from nerite.frontends.http1 import Body
from nerite.frontends.regions import Regions
from nerite.frontends.v2_json import json_document
from nerite.frontends.v2_request import Template, take_values
from nerite.frontends.v2_response import OutputForm

_KEPT = 1024
_KEPT_SIZE = 1 << 13  # bytes of a document above which it is not kept
_FIRST = b'{"id":"'  # how a document begins that begins with an id
_DATA = b'"data":['


class Templates:
    """Requests without their data, by what is left of their JSON.

    A client that asks for the same names, types and shapes sends the same document every time,
    but for the data in it: it is read once.
    """

    def __init__(self, regions: Regions) -> None:
        self._regions = regions
        self._kept: dict[tuple[str, str], Kept] = {}

    def of(self, model: str, version: str) -> Kept:
        """Those of the requests to one model."""
        key = model, version
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            kept = self._kept[key] = Kept(model, version, self._regions)
        return kept


class Kept:
    """Templates of one model: of documents with data behind them, and of those with it inside."""

    def __init__(self, model: str, version: str, regions: Regions) -> None:
        self._model, self._version = model, version
        self._regions = regions
        self._binary: dict[bytes, Template] = {}
        self._json: dict[bytes, Template] = {}

    def of_binary(self, body: Body, length: int) -> tuple[Request, OutputForm]:
        """A request whose document has `length` bytes, and the form its answer is wanted in.

        Raises InferenceError.
        """
        text, name = bytes(body[:length]), ""
        template = self._binary.get(text)
        if template is None:
            text, name = _take_name(text)
            template = self._binary.get(text)
        if template is None:
            document = json_document(text)
            values = take_values(document)
            template = Template(self._model, self._version, document, True)
            template.values = values
            _keep(self._binary, text, template)
        data = memoryview(body)[length:]
        request = template.request(data, template.values, self._regions, name)
        return request._replace(id=name) if name else request, template.form

    def of_json(self, body: Body) -> tuple[Request, OutputForm]:
        """The same of a body that is a document and nothing else."""
        text, name = _take_name(bytes(body))
        around, pieces = _split(text)
        template = self._json.get(around)
        try:
            values = [orjson.loads(piece) for piece in pieces] if template is not None else []
        except orjson.JSONDecodeError:
            template = None  # what is wrong is told of the whole
        if template is None:
            document = json_document(text)
            values = take_values(document)
            template = Template(self._model, self._version, document, False)
            if _were(pieces, values):
                _keep(self._json, around, template)
        request = template.request(memoryview(b""), values, self._regions, name)
        return request._replace(id=name) if name else request, template.form


def _keep(kept: dict[bytes, Template], text: bytes, template: Template) -> None:
    if len(text) <= _KEPT_SIZE:
        if len(kept) >= _KEPT:
            kept.clear()
        kept[text] = template


def _split(text: bytes) -> tuple[bytes, list[bytes]]:
    """A document without the lists that `"data":` stands before, and those lists.

    For documents that clients write for numbers, without spaces. Two that leave the same have the
    same members, if what was cut out of each is a list: where an object's key may stand in JSON,
    `"data":` is one, and within a string its quotes would not be bare. A list of lists or of
    strings is cut too short to be one.
    """
    parts: list[bytes] = []
    pieces: list[bytes] = []
    start = 0
    while True:
        found = text.find(_DATA, start)
        if found < 0:
            break
        at = found + len(_DATA) - 1
        end = text.find(b"]", at) + 1
        if not end:
            break
        parts.append(text[start:at])
        pieces.append(text[at:end])
        start = end
    parts.append(text[start:])
    return b"[]".join(parts), pieces


def _were(pieces: list[bytes], values: list[Any]) -> bool:
    """Whether these are the values that were cut out."""
    try:
        return [orjson.loads(piece) for piece in pieces] == values
    except orjson.JSONDecodeError:
        return False


def _take_name(text: bytes) -> tuple[bytes, str]:
    """A document without the request's id, and the id, where it is first, as Triton's clients put
    it; else it stays."""
    if text.startswith(_FIRST):
        end = text.find(b'"', len(_FIRST))
        name = text[len(_FIRST) : end]
        if end > 0 and text[end + 1 : end + 2] == b"," and b"\\" not in name and name.isascii():
            return b"{" + text[end + 2 :], name.decode()
    return text, ""
