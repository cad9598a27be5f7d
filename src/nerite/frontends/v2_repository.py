"""The model repository extension over HTTP: index, load, unload."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine
from typing import Any

from nerite.core.errors import InferenceError, Status, invalid
from nerite.frontends.answers import answer_error, answer_json
from nerite.frontends.http1 import Exchange
from nerite.frontends.v2_json import TooDeep, json_document, member_object
from nerite.server import Server
from nerite.versions import ModelState

_FILE = "file:"


class RepositoryDoor:
    """Belongs to the server's loop; its work runs in tasks that it keeps alive."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    def index(self, exchange: Exchange) -> None:
        try:
            ready = _document(exchange, "registry index").get("ready", False)
        except TooDeep:
            ready = None  # Triton reads any depth, and finds the same
        if not isinstance(ready, bool):
            raise invalid("Invalid value for 'ready': expected a boolean")
        self._start(exchange, self._index(exchange, ready))

    def load(self, name: str, exchange: Exchange) -> None:
        config, files = _overrides(_document(exchange, "load model"))
        self._start(exchange, self._load(exchange, name, config, files))

    def unload(self, name: str, exchange: Exchange) -> None:
        parameters = _document(exchange, "unload model").get("parameters", {})
        dependents = parameters.get("unload_dependents", False)
        if not isinstance(dependents, bool):
            text = (
                "Unable to parse 'unload_dependents': attempt to access JSON non-boolean as boolean"
            )
            raise InferenceError(Status.INTERNAL, text)
        self._start(exchange, self._unload(exchange, name, dependents))

    @staticmethod
    def named_repository(exchange: Exchange) -> None:
        text = "'repository_name' specification is not supported"
        raise InferenceError(Status.UNSUPPORTED, text)

    def _start(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(_answering(exchange, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _index(self, exchange: Exchange, ready: bool) -> None:
        states = await self._server.index(ready=ready)
        answer_json(exchange, [index_entry(state) for state in states])

    async def _load(
        self, exchange: Exchange, name: str, config: str | None, files: dict[str, bytes]
    ) -> None:
        await self._server.load(name, config, files)
        exchange.respond(200)

    async def _unload(self, exchange: Exchange, name: str, dependents: bool) -> None:
        await self._server.unload(name, dependents=dependents)
        exchange.respond(200)


async def _answering(exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as error:
        answer_error(exchange, error)


def index_entry(state: ModelState) -> dict[str, str]:
    """One line of the index; what does not apply is left out, as Triton does."""
    entry = {"name": state.name}
    if state.version:
        entry["version"] = str(state.version)
    if state.state:
        entry["state"] = state.state
    if state.reason:
        entry["reason"] = state.reason
    return entry


def _document(exchange: Exchange, kind: str) -> dict[str, Any]:
    document = json_document(exchange.body, kind) if exchange.body else {}
    member_object(document, "parameters")
    return document


def _overrides(document: dict[str, Any]) -> tuple[str | None, dict[str, bytes]]:
    """The config and the files of a load request. Raises InferenceError."""
    config: str | None = None
    files: dict[str, bytes] = {}
    for key, value in document.get("parameters", {}).items():
        if not isinstance(value, str):
            text = f"Unable to parse '{key}': attempt to access JSON non-string as string"
            raise InferenceError(Status.INTERNAL, text)
        if key == "config":
            config = value
        elif key.startswith(_FILE):
            files[key.removeprefix(_FILE)] = _decode(key, value)
        else:
            text = "unexpected error on creating Triton parameter"
            raise InferenceError(Status.INTERNAL, f"{text} '{key}': there are config and file:PATH")
    return config, files


def _decode(key: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise invalid(f"'{key}' must be a valid base64 encoded string: {error}") from None
