"""One streamed call: progress, previews and pictures as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Self, TypeAlias

from nerite.client.connection import Ask, Connection, Deadline
from nerite.client.errors import ConnectionFailed, UnexpectedAnswer
from nerite.client.events import ServerEvent
from nerite.client.picture import Picture, Preview, Progress, decoded, picture
from nerite.client.settings import told_of

Event: TypeAlias = Progress | Preview | Picture


class Stream(AsyncIterator[Event]):
    """Iterate it; each picture comes once, after its previews.

    Leaving early cancels the painting: at the end of `async with`, at `aclose()`, and when
    nothing refers to the stream any more.
    """

    def __init__(self, connection: Connection, ask: Ask, seconds: float | None) -> None:
        self._events = _events(connection, ask, seconds)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Nobody reads further: what is unfinished is cancelled."""
        await self._events.aclose()


async def _events(connection: Connection, ask: Ask, seconds: float | None) -> AsyncGenerator[Event]:
    body = ask.body or {}
    told, missing = told_of(body), body.get("n", 1)
    async with connection.events(ask, Deadline(seconds)) as events:
        async for event in events:
            found = _event(event, told)
            if found is not None:
                yield found
            missing -= isinstance(found, Picture)
    if missing > 0:
        raise ConnectionFailed("the server ended its stream before the picture was there.")


def _event(event: ServerEvent, told: Mapping[str, Any]) -> Event | None:
    """What an event says; None for a kind that is newer than this client."""
    kind, data = event.name.rpartition(".")[2], event.data
    index = data.get("image_index") or 0
    try:
        if kind == "progress":
            place, seconds = data.get("queue_position"), data.get("eta_seconds")
            return Progress(data["step"], data["steps"], place, seconds, index)
        if kind == "partial_image":
            return Preview(decoded(data["b64_json"]), data["partial_image_index"], index)
        return picture(data, data, told, index) if kind == "completed" else None
    except (KeyError, TypeError) as error:
        raise UnexpectedAnswer("the server's stream holds an event without its data.") from error
