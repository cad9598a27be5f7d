"""What jobs are for: from what was asked to an order, and from its painting to a result."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncGenerator

import orjson

from nerite.frontends.images.answers import as_json
from nerite.frontends.images.encoding import base64_text, preview
from nerite.frontends.images.errors import ApiError
from nerite.frontends.images.events import wants_partial
from nerite.frontends.images.orders import Order
from nerite.frontends.images.painting import Picture, Progress
from nerite.frontends.images.service import Service
from nerite.frontends.jobs.asked import read_order
from nerite.frontends.jobs.job import Job
from nerite.frontends.jobs.live import Advance, Preview
from nerite.frontends.jobs.painter import PaintingFailed

_AGAIN = (429, 503)  # of what may go better later


class PicturePainter:
    """Belongs to the server's loop."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def problem(self, model: str) -> bytes | None:
        try:
            self._service.models.find(model)
        except ApiError as error:
            return as_text(error)
        return None

    async def paint(self, job: Job, request: bytes) -> AsyncGenerator[Advance | Preview | bytes]:
        try:
            order = dataclasses.replace(await read_order(self._service, request), progress=True)
            way, shown = _Way(order), Counter[int]()
            async with contextlib.aclosing(self._service.painter.events(order, job.id)) as events:
                async for event in events:
                    yield way.follow(event)
                    if isinstance(event, Progress) and wants_partial(
                        order, event, shown[event.index]
                    ):
                        shown[event.index] += 1
                        yield await self._service.threads.run(_preview, order, event)
            yield await self._service.threads.run(as_json, order, way.pictures)
        except ApiError as error:
            raise PaintingFailed(as_text(error), again=error.status in _AGAIN) from None


def as_text(error: ApiError) -> bytes:
    return orjson.dumps(error.document["error"])


def _preview(order: Order, told: Progress) -> Preview:
    assert told.preview is not None
    file = preview(told.preview, order.size_of(told.index), order.form)
    return Preview(base64_text(file), told.step, told.index)


class _Way:
    """How far the pictures of an order are together."""

    def __init__(self, order: Order) -> None:
        self._count = order.count
        self._last: dict[int, Progress] = {}
        self._painted: dict[int, Picture] = {}

    @property
    def pictures(self) -> list[Picture]:
        return [self._painted[index] for index in sorted(self._painted)]

    def follow(self, event: Progress | Picture) -> Advance:
        if isinstance(event, Picture):
            self._painted[event.index] = event
            self._last.pop(event.index, None)
        else:
            self._last[event.index] = event
        going = self._last.values()
        done = len(self._painted) + sum(one.step / max(one.steps, 1) for one in going)
        begun = self._painted or any(one.queue_position == 0 for one in going)
        return Advance(
            round(done / self._count, 4),
            0 if begun else min(one.queue_position for one in going),
            max((one.eta_seconds for one in going if one.eta_seconds is not None), default=None),
        )
