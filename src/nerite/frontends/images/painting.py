"""Has a model paint an order: one request per picture, so that each tells its own progress."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

from nerite.core.call import Deliver, Responses
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Parameter, Request, Response
from nerite.frontends.images.encoding import Threads
from nerite.frontends.images.errors import ApiError, of_inference
from nerite.frontends.images.orders import Order
from nerite.frontends.images.tensors import Pixels, flags_of, inputs_of, number, pictures_of
from nerite.frontends.intake import Forwarding
from nerite.server import Server


@dataclass(frozen=True)
class Progress:
    """How far picture `index` is. preview: a guess of what it will be, perhaps a small one."""

    index: int
    step: int
    steps: int
    queue_position: int
    eta_seconds: float | None
    preview: Pixels | None = None


@dataclass(frozen=True)
class Picture:
    """Picture `index` of an order, and the seed it was drawn from where the model has one.

    flagged: by a safety checker; None where none looked.
    """

    index: int
    pixels: Pixels
    seed: int | None
    flagged: bool | None = None


Event = Progress | Picture
Headers = Iterable[tuple[str, str]]


class Painter:
    """Belongs to the server's loop."""

    def __init__(self, server: Server, threads: Threads, forward: Forwarding) -> None:
        self._server = server
        self._threads = threads
        self._forward = forward

    async def paint(self, order: Order, id: str = "", headers: Headers = ()) -> list[Picture]:
        """All pictures, in order. Raises ApiError."""
        async with contextlib.aclosing(self.events(order, id, headers)) as events:
            found = [event async for event in events if isinstance(event, Picture)]
        return sorted(found, key=lambda picture: picture.index)

    async def events(
        self, order: Order, id: str = "", headers: Headers = ()
    ) -> AsyncGenerator[Event]:
        """What happens until all are painted; closing it cancels what is not. Raises ApiError.

        id: of the request, for logs and traces. headers: it came with.
        """
        queue: asyncio.Queue[Event | ApiError] = asyncio.Queue()
        together = order.count if _paints_several(order) else 1
        answers: list[Responses] = []
        tasks: list[asyncio.Task[None]] = []
        try:
            for first in range(0, order.count, together):
                request = await self._request(order, first, together, id)
                answers.append(self._ask(request, headers))
                follow = self._follow(order, first, together, request, answers[-1], queue)
                tasks.append(asyncio.create_task(follow))
            left = order.count
            while left:
                event = await queue.get()
                if isinstance(event, ApiError):
                    raise event
                left -= isinstance(event, Picture)
                yield event
        finally:
            for task in tasks:
                task.cancel()
            for one in answers:
                one.close()

    async def _request(self, order: Order, first: int, count: int, id: str) -> Request:
        if not order.uploads:
            inputs = inputs_of(order, first, count)
        else:
            inputs = await self._threads.run(inputs_of, order, first, count)
        model = order.model
        return Request(model.name, inputs, model.version, id, parameters=_wishes(order))

    def _ask(self, request: Request, headers: Headers) -> Responses:
        answers = Responses()
        deliver: Deliver = answers.deliver
        try:
            request = self._forward(request, headers)
            if self._server.tracer.active:
                carrier = dict(headers)
                request, deliver = self._server.tracer.follow(request, deliver, "HTTP", carrier)
            return answers.watch(self._server.submit(request, deliver))
        except InferenceError as error:
            raise of_inference(error, request.label) from None

    async def _follow(
        self,
        order: Order,
        first: int,
        count: int,
        request: Request,
        answers: Responses,
        queue: asyncio.Queue[Event | ApiError],
    ) -> None:
        """Put what a request's answers tell into the queue, and at last its pictures."""
        pictures: Sequence[Pixels] = ()
        flags: Sequence[bool] = ()
        seed = None if order.seed is None else order.seed + first
        try:
            async for answer in answers:
                if answer.error is not None:
                    raise answer.error
                told = _progress(answer, first)
                if told is not None:
                    queue.put_nowait(told)
                    continue
                if answer.outputs:
                    found = number(answer.outputs, "seed")
                    seed = seed if found is None else int(found)
                    pictures = await self._pictures(order, answer) or pictures
                    flags = flags_of(answer.outputs) or flags
            if len(pictures) < count:
                text = f"the model answered {len(pictures)} pictures, {count} were asked for"
                raise InferenceError(Status.INTERNAL, text)
        except InferenceError as error:
            queue.put_nowait(of_inference(error, request.label))
            return
        for index, pixels in enumerate(pictures[:count]):
            own = None if seed is None else seed + index
            flagged = flags[index] if index < len(flags) else None
            queue.put_nowait(Picture(first + index, pixels, own, flagged))

    async def _pictures(self, order: Order, answer: Response) -> list[Pixels]:
        return await self._threads.run(pictures_of, order.model, answer.outputs)


def _paints_several(order: Order) -> bool:
    """Whether one request is to ask for all pictures: of models that tell no progress anyway."""
    model = order.model
    return model.takes("num_images") and not model.tells_progress and len(order.uploads) <= 1


def _wishes(order: Order) -> dict[str, Parameter]:
    """The parameters by which the diffusion backend tells what it does."""
    if not (order.model.tells_progress and (order.progress or order.previews)):
        return {}
    if not order.previews:
        return {"progress": True}
    steps = order.known_steps or 1
    if order.uploads and order.strength is not None:
        steps = math.ceil(steps * order.strength)
    return {"progress": True, "previews": max(1, steps // (order.previews + 1))}


def _progress(answer: Response, index: int) -> Progress | None:
    outputs = answer.outputs
    step, steps = number(outputs, "step"), number(outputs, "steps")
    if step is None or steps is None or answer.final:
        return None
    position = number(outputs, "queue_position") or 0
    eta = number(outputs, "eta_seconds")
    eta = None if eta is None or math.isnan(eta) else round(float(eta), 3)
    preview = outputs.get("preview")
    pixels = None if preview is None or preview.dtype.kind == "O" else preview
    if pixels is not None:
        pixels = pixels.reshape(pixels.shape[-3:])
    return Progress(index, int(step), int(steps), int(position), eta, pixels)
