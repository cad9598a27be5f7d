"""KServe v2 over HTTP, raw ASGI: health, metadata, configuration, inference."""

from __future__ import annotations

import asyncio

from nerite.core.call import Responses
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Response
from nerite.frontends import v2_codec as codec
from nerite.frontends.asgi import (
    JSON,
    Disconnected,
    Headers,
    Receive,
    Scope,
    Send,
    answer,
    answer_error,
    answer_json,
    not_allowed,
    not_found,
    read_body,
)
from nerite.frontends.v2_metadata import model_metadata, server_metadata
from nerite.repository.config import to_dict
from nerite.server import Server

_OCTETS = (b"content-type", b"application/octet-stream")


class V2Http:
    """Answers everything below /v2."""

    def __init__(self, server: Server, version: str) -> None:
        self._server = server
        self._version = version

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._route(scope, receive, send)
        except InferenceError as error:
            await answer_error(send, error)
        except Disconnected:
            return

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        get = scope["method"] == "GET"
        match scope["path"].split("/")[2:]:
            case ["models", name, "infer"]:
                await self._infer(scope, receive, send, name, "")
            case ["models", name, "versions", version, "infer"]:
                await self._infer(scope, receive, send, name, version)
            case ["health", "live" | "ready" as kind]:
                await (self._health(send, kind) if get else not_allowed(send))
            case []:
                document = server_metadata(self._server, self._version)
                await (answer_json(send, document) if get else not_allowed(send))
            case ["models", name]:
                await (self._model(send, name, "", "") if get else not_allowed(send))
            case ["models", name, "versions", version]:
                await (self._model(send, name, version, "") if get else not_allowed(send))
            case ["models", name, "ready" | "config" as what]:
                await (self._model(send, name, "", what) if get else not_allowed(send))
            case ["models", name, "versions", version, "ready" | "config" as what]:
                await (self._model(send, name, version, what) if get else not_allowed(send))
            case _:
                await not_found(send)

    async def _health(self, send: Send, kind: str) -> None:
        if self._server.exiting:
            await answer(send, 503)
            return
        good = self._server.live if kind == "live" else self._server.ready
        await answer(send, 200 if good else 400)

    async def _model(self, send: Send, name: str, version: str, what: str) -> None:
        if what == "ready":
            await self._model_ready(send, name, version)
            return
        model = self._server.find(name, version)
        if what == "config":
            await answer_json(send, to_dict(model.config))
        else:
            await answer_json(send, model_metadata(self._server, model))

    async def _model_ready(self, send: Send, name: str, version: str) -> None:
        try:
            ready = self._server.find(name, version).ready
        except InferenceError as error:
            if error.status is not Status.UNAVAILABLE:
                raise
            ready = False
        if ready:
            await answer(send, 200)
        else:
            await answer_json(send, {"error": "Model version not ready"}, 400)

    async def _infer(
        self, scope: Scope, receive: Receive, send: Send, name: str, version: str
    ) -> None:
        if scope["method"] != "POST":
            await not_allowed(send)
            return
        length = _header_length(scope)
        model = self._server.find(name, version)
        body = await read_body(receive)
        if length is not None and not 0 < length <= len(body):
            raise invalid(
                f"inference header size should be in range (0, {len(body)}), got: {length}"
            )
        request, form = codec.decode(name, version, body, length)
        if model.config.model_transaction_policy.decoupled:
            text = "HTTP end point doesn't support models with decoupled transaction policy"
            raise InferenceError(Status.UNSUPPORTED, text)
        response = await _one(self._server.infer(request), receive)
        parts, head = codec.encode(request, str(model.version), response, form)
        headers: Headers = JSON
        if head is not None:
            headers = (_OCTETS, (codec.HEADER_LENGTH.encode(), str(head).encode()))
        await answer(send, 200, parts, headers)


async def _one(responses: Responses, receive: Receive) -> Response:
    """The only response; cancels the call and raises Disconnected when the client leaves first."""
    result = asyncio.ensure_future(responses.one())
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise Disconnected
    finally:
        gone.cancel()
        if not result.done():
            responses.close()
            result.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _header_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == codec.HEADER_LENGTH.encode():
            return _parse_length(value.decode("latin-1"))
    return None


def _parse_length(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise invalid(f"Unable to parse Inference-Header-Content-Length, got: {text}") from None
