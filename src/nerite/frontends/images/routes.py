"""The paths of the Images API and of the list of models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from nerite.frontends.images import bodies, forms
from nerite.frontends.images.answers import as_json
from nerite.frontends.images.documented import EDITS, GENERATIONS, VARIATIONS
from nerite.frontends.images.events import stream
from nerite.frontends.images.orders import Order, order
from nerite.frontends.images.service import Service
from nerite.frontends.images.uploads import read_uploads

_JSON = "application/json"


def router(service: Service) -> APIRouter:
    routes = APIRouter(prefix="/v1")
    image: dict[str, Any] = {"tags": ["Images"], "response_class": Response}

    @routes.get("/models", tags=["Models"], summary="List models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": service.models.documents()}

    @routes.get("/models/{id:path}", tags=["Models"], summary="Retrieve model")
    async def model(id: str) -> dict[str, Any]:
        return service.models.document(id)

    @routes.post("/images/generations", summary="Create image", **image, **GENERATIONS)
    async def generations(request: Request) -> Response:
        body = bodies.read_json(bodies.Generation, await request.body())
        wanted = order(service.models.find(body.model), body)
        return await _answer(service, request, wanted, body.stream or False)

    @routes.post("/images/edits", summary="Create image edit", **image, **EDITS)
    async def edits(request: Request) -> Response:
        sent = await forms.read(bodies.Edit, request)
        wanted = await order_over(service, sent)
        return await _answer(service, request, wanted, sent.body.stream or False)

    @routes.post("/images/variations", summary="Create image variation", **image, **VARIATIONS)
    async def variations(request: Request) -> Response:
        wanted = await order_over(service, await forms.read(bodies.Variation, request))
        return await _answer(service, request, wanted, False)

    return routes


async def order_over(service: Service, sent: forms.Sent[Any]) -> Order:
    """The order for pictures over others. Raises ApiError."""
    model = service.models.find(sent.body.model)
    model.check_edits()
    uploads = await service.threads.run(read_uploads, sent.images, sent.mask, model.masks)
    return order(model, sent.body, uploads)


async def _answer(service: Service, request: Request, wanted: Order, streamed: bool) -> Response:
    id = request.state.request_id
    if streamed:
        return await stream(service, wanted, id)
    with service.room.take(wanted.count):
        pictures = await service.painter.paint(wanted, id)
        return Response(await service.threads.run(as_json, wanted, pictures), media_type=_JSON)
