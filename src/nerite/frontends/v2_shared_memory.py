"""The shared memory extensions over HTTP: status, register, unregister."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from typing import Any

from nerite.core.errors import invalid
from nerite.frontends.answers import answer_json
from nerite.frontends.cuda import HANDLE_BYTES
from nerite.frontends.http1 import Exchange
from nerite.frontends.regions import Regions
from nerite.frontends.v2_json import json_document, malformed, string, unsigned

Route = Callable[[Exchange], None]


class SharedMemoryDoor:
    """Regions of the system's memory and of GPUs', by paths that differ in one word."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions

    def find(self, kind: str, path: list[str]) -> tuple[str, Route | None]:
        """The method and the answer of what follows `/v2/<kind>/` in a path."""
        match path:
            case ["status"]:
                return "GET", partial(self._status, kind, "")
            case ["region", name, "status"]:
                return "GET", partial(self._status, kind, name)
            case ["region", name, "register"]:
                return "POST", partial(self._register, kind, name)
            case ["unregister"]:
                return "POST", partial(self._unregister, kind, "")
            case ["region", name, "unregister"]:
                return "POST", partial(self._unregister, kind, name)
        return "", None

    def _status(self, kind: str, name: str, exchange: Exchange) -> None:
        answer_json(exchange, self._regions.status(name, cuda=_is_cuda(kind)))

    def _register(self, kind: str, name: str, exchange: Exchange) -> None:
        document = json_document(exchange.body) if exchange.body else {}
        if _is_cuda(kind):
            self._register_cuda(name, document)
        else:
            self._register_system(name, document)
        exchange.respond(200)

    def _register_system(self, name: str, document: dict[str, Any]) -> None:
        for key in ("key", "byte_size"):
            if key not in document:
                raise invalid(f"Shared memory register request has no '{key}' field")
        key = document["key"]
        if not isinstance(key, str):
            raise malformed("attempt to access JSON non-string as string")
        offset = unsigned(document.get("offset", 0), "offset")
        size = unsigned(document["byte_size"], "byte_size")
        self._regions.register(name, key, offset, size)

    def _register_cuda(self, name: str, document: dict[str, Any]) -> None:
        if "raw_handle" not in document:
            raise invalid("Shared memory register request has no 'raw_handle' field")
        if not isinstance(document["raw_handle"], dict):
            raise malformed("Unable to parse 'b64': attempt to access JSON non-object as object")
        text = string(document["raw_handle"], "b64")
        size = unsigned(document.get("byte_size"), "byte_size")
        device = unsigned(document.get("device_id"), "device_id")
        try:
            handle = base64.b64decode(text, validate=True)
        except ValueError:
            handle = b""
        if len(handle) != HANDLE_BYTES:
            raise invalid("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t")
        self._regions.register_cuda(name, handle, device, size)

    def _unregister(self, kind: str, name: str, exchange: Exchange) -> None:
        self._regions.unregister(name, cuda=_is_cuda(kind))
        exchange.respond(200)


def _is_cuda(kind: str) -> bool:
    return kind.startswith("cuda")
