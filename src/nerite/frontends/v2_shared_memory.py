"""The shared memory extensions over HTTP: status, register, unregister."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nerite.core.errors import InferenceError, Status, invalid
from nerite.frontends.answers import answer_json
from nerite.frontends.http1 import Exchange
from nerite.frontends.regions import Regions
from nerite.frontends.v2_json import json_document, unsigned

Route = Callable[[Exchange], None]
NO_CUDA = "CUDA shared memory is not supported: this server holds no tensors on a GPU"


class SharedMemoryDoor:
    """System regions are served; of CUDA there are none, and registering one is refused."""

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
        if kind.startswith("cuda"):
            if name:
                text = f"Unable to find cuda shared memory region: '{name}'"
                raise InferenceError(Status.NOT_FOUND, text)
            answer_json(exchange, [])
            return
        answer_json(exchange, self._regions.status(name))

    def _register(self, kind: str, name: str, exchange: Exchange) -> None:
        if kind.startswith("cuda"):
            raise InferenceError(Status.UNSUPPORTED, NO_CUDA)
        document = json_document(exchange.body) if exchange.body else {}
        for key in ("key", "byte_size"):
            if key not in document:
                raise invalid(f"Shared memory register request has no '{key}' field")
        key = document["key"]
        if not isinstance(key, str):
            text = "attempt to access JSON non-string as string"
            raise InferenceError(Status.INTERNAL, text)
        offset = unsigned(document.get("offset", 0), "offset")
        size = unsigned(document["byte_size"], "byte_size")
        self._regions.register(name, key, offset, size)
        exchange.respond(200)

    def _unregister(self, kind: str, name: str, exchange: Exchange) -> None:
        if not kind.startswith("cuda"):
            self._regions.unregister(name)
        exchange.respond(200)
