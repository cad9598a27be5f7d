"""The few words of ASGI that our HTTP doors need, and how they answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import orjson

from nerite.core.errors import InferenceError, Status

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

# Triton's map from error codes to HTTP; whatever is not here is a 400.
_HTTP_STATUS = {
    Status.INTERNAL: 500,
    Status.NOT_FOUND: 404,
    Status.UNAVAILABLE: 503,
    Status.UNSUPPORTED: 501,
}
JSON = ((b"content-type", b"application/json"),)


class Disconnected(Exception):  # noqa: N818  not an error of ours
    """The client left before it had its answer."""


async def read_body(receive: Receive) -> bytes:
    """The whole request body; Disconnected when the client leaves in the middle of it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def answer(
    send: Send, status: int, body: bytes | Sequence[bytes | memoryview] = b"", headers: Headers = ()
) -> None:
    parts = [body] if isinstance(body, bytes) else body
    length = sum(len(part) for part in parts)
    content_length = (b"content-length", str(length).encode())
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, content_length]}
    )
    for part in parts[:-1]:
        await send({"type": "http.response.body", "body": bytes(part), "more_body": True})
    await send({"type": "http.response.body", "body": bytes(parts[-1]) if parts else b""})


async def answer_json(send: Send, document: Any, status: int = 200) -> None:
    await answer(send, status, orjson.dumps(document), JSON)


async def answer_error(send: Send, error: InferenceError) -> None:
    status = _HTTP_STATUS.get(error.status, 400)
    await answer_json(send, {"error": error.message}, status)


async def not_found(send: Send) -> None:
    await answer_json(send, {"error": "Not Found"}, 404)


async def not_allowed(send: Send) -> None:
    await answer_json(send, {"error": "Method Not Allowed"}, 405)
