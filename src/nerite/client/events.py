"""Server-sent events, read from the bytes of an answer as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from nerite.client.errors import UnexpectedAnswer


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its name, and its data, which is always a JSON object."""

    name: str
    data: dict[str, Any]


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[ServerEvent]:
    """The events of a stream, to its end or to OpenAI's `[DONE]`."""
    name, data = "", b""
    async for line in _lines(chunks):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode(errors="replace")
        elif field == b"data":
            data = data + b"\n" + value if data else value
        elif not line and data:
            if data == b"[DONE]":
                return
            yield _event(name, data)
            name, data = "", b""


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A line may be a picture of megabytes: its parts are joined once, when it is whole."""
    parts: list[bytes] = []
    async for chunk in chunks:
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            parts.append(line)
            yield b"".join(parts).removesuffix(b"\r")
            parts.clear()
        parts.append(rest)


def _event(name: str, data: bytes) -> ServerEvent:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UnexpectedAnswer("the server's stream holds something other than JSON.") from error
    if not isinstance(document, dict):
        raise UnexpectedAnswer("the server's stream holds something other than JSON objects.")
    return ServerEvent(name or str(document.get("type", "")), document)
