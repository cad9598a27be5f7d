"""An order as server-sent events, in OpenAI's words: partial pictures, then each picture."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nerite.frontends.images.answers import background, check_shown, datum, size_of, usage
from nerite.frontends.images.encoding import base64_text, encode, preview
from nerite.frontends.images.errors import ApiError
from nerite.frontends.images.orders import Order
from nerite.frontends.images.painting import Event, Headers, Picture, Progress
from nerite.frontends.images.service import Service

_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class EventStream(Response):
    """Sends pieces as they come, and closes what they come from when the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes]) -> None:
        """first: has been waited for, so that an error before it is an answer of its own."""
        super().__init__(headers=_HEADERS)
        self._first = first
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        start = {"type": "http.response.start", "status": 200, "headers": headers}
        async with aclosing(self._rest):
            await send(start)
            await send(_piece(self._first))
            async for piece in self._rest:
                await send(_piece(piece))
        await send({"type": "http.response.body", "body": b""})


def _piece(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def stream(service: Service, order: Order, id: str, headers: Headers = ()) -> EventStream:
    """Raises ApiError for what goes wrong before there is anything to tell."""
    pieces = _pieces(service, order, id, headers)
    return EventStream(await anext(pieces), pieces)


async def _pieces(
    service: Service, order: Order, id: str, headers: Headers
) -> AsyncGenerator[bytes]:
    """An error after something was told is told too; before, it is raised."""
    told = False
    with service.room.take(order.count):
        try:
            async with aclosing(service.painter.events(order, id, headers)) as events:
                shown: Counter[int] = Counter()
                async for event in events:
                    for write, *more in _writers(order, event, shown):
                        yield await service.threads.run(write, order, event, *more)
                        told = True
        except ApiError as error:
            if not told:
                raise
            yield b"data: " + orjson.dumps(error.document) + b"\n\n"


def _writers(order: Order, event: Event, shown: Counter[int]) -> Iterator[tuple[Any, ...]]:
    """What writes an event, and what more it is to know; `shown` counts the partial pictures."""
    if isinstance(event, Picture):
        yield (_completed,)
        return
    if order.progress:
        yield (_progress,)
    number = shown[event.index]
    if wants_partial(order, event, number):
        shown[event.index] += 1
        yield _partial, number


def wants_partial(order: Order, told: Progress, shown: int) -> bool:
    """Whether a preview is the next partial picture, of which so many were shown: they are to
    come at even distances."""
    if told.preview is None or shown >= order.previews:
        return False
    return told.step >= (shown + 1) * told.steps // (order.previews + 1)


def _progress(order: Order, told: Progress) -> bytes:
    document = {
        "step": told.step,
        "steps": told.steps,
        "queue_position": told.queue_position,
        "eta_seconds": told.eta_seconds,
    }
    return _event(order, "progress", told.index, document)


def _partial(order: Order, told: Progress, number: int) -> bytes:
    assert told.preview is not None
    size = order.size_of(told.index)
    file = preview(told.preview, size, order.form)
    shown = f"{size[0]}x{size[1]}" if size else size_of(told.preview)
    document = {
        "b64_json": base64_text(file),
        "partial_image_index": number,
        **_common(order, shown),
    }
    return _event(order, "partial_image", told.index, document)


def _completed(order: Order, picture: Picture) -> bytes:
    if order.count == 1:  # among several, a black one says which of them it is
        check_shown(order, [picture])
    size = size_of(picture.pixels)
    document = {
        **datum(picture, base64_text(encode(picture.pixels, order.form))),
        **_common(order, size),
        "usage": usage(order, size, 1),
        **order.settings(),
    }
    return _event(order, "completed", picture.index, document)


def _common(order: Order, size: str) -> dict[str, Any]:
    return {
        "created_at": int(time.time()),
        "size": size,
        "quality": order.quality,
        "background": background(order),
        "output_format": order.form.kind,
    }


def _event(order: Order, name: str, index: int, document: dict[str, Any]) -> bytes:
    kind = f"{'image_edit' if order.uploads else 'image_generation'}.{name}"
    numbered = {"image_index": index} if order.count > 1 else {}
    data = orjson.dumps({"type": kind, **document, **numbered})
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)
