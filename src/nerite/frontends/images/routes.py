"""The paths of the Images API and of the list of models."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from nerite.frontends.images import bodies, forms
from nerite.frontends.images.answers import as_json
from nerite.frontends.images.documented import EDITS, FILES, GENERATIONS, VARIATIONS
from nerite.frontends.images.errors import ApiError
from nerite.frontends.images.events import stream
from nerite.frontends.images.orders import Order, order
from nerite.frontends.images.service import Service
from nerite.frontends.images.store import Store
from nerite.frontends.images.uploads import read_uploads

_JSON = "application/json"
# A browser that opens a picture takes it for nothing but a picture, and pages may show it.
_FILE_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}


def router(service: Service) -> APIRouter:
    routes = APIRouter(prefix="/v1")
    image: dict[str, Any] = {"tags": ["Images"], "response_class": Response}

    @routes.get("/models", tags=["Models"], summary="List models")
    async def models() -> dict[str, Any]:
        found = service.models
        control = {"model_control": found.control}
        return {"object": "list", "data": found.documents(), "nerite": control}

    @routes.get("/models/{id:path}", tags=["Models"], summary="Retrieve model")
    async def model(id: str) -> dict[str, Any]:
        return service.models.document(id)

    @routes.post("/images/generations", summary="Create image", **image, **GENERATIONS)
    async def generations(request: Request) -> Response:
        body = bodies.read_json(bodies.Generation, await request.body())
        wanted = order(service.models.find(body.model), body)
        return await _answer(service, request, body, wanted)

    @routes.post("/images/edits", summary="Create image edit", **image, **EDITS)
    async def edits(request: Request) -> Response:
        sent = await forms.read(bodies.Edit, request)
        wanted = await order_over(service, sent)
        return await _answer(service, request, sent.body, wanted)

    @routes.post("/images/variations", summary="Create image variation", **image, **VARIATIONS)
    async def variations(request: Request) -> Response:
        sent = await forms.read(bodies.Variation, request)
        wanted = await order_over(service, sent)
        return await _answer(service, request, sent.body, wanted)

    @routes.head("/images/files/{name}", include_in_schema=False)
    @routes.get("/images/files/{name}", **image, **FILES)
    async def file(name: str) -> Response:
        found = await service.threads.run(service.store.get, name)
        if found is None:
            raise ApiError(404, "there is no such picture, or its time is over", param="name")
        data, kind, left = found
        headers = {**_FILE_HEADERS, "cache-control": f"private, max-age={left}"}
        return Response(data, media_type=kind, headers=headers)

    return routes


async def order_over(service: Service, sent: forms.Sent[Any]) -> Order:
    """The order for pictures over others. Raises ApiError."""
    model = service.models.find(sent.body.model)
    model.check_edits()
    uploads = await service.threads.run(read_uploads, sent.images, sent.mask, model.masks)
    return order(model, sent.body, uploads)


async def _answer(service: Service, request: Request, body: Any, wanted: Order) -> Response:
    id, headers = request.state.request_id, request.headers.items()
    if getattr(body, "stream", False):
        return await stream(service, wanted, id, headers)
    keep = None
    if service.wishes.wants_urls(body.model, body.response_format):
        keep = partial(_keep, service.store, service.wishes.public_url or _own_url(request))
    with service.room.take(wanted.count):
        pictures = await service.painter.paint(wanted, id, headers)
        answer = await service.threads.run(as_json, wanted, pictures, keep)
    return Response(answer, media_type=_JSON)


def _keep(store: Store, url: str, file: bytes, kind: str) -> str:
    return f"{url}/v1/images/files/{store.put(file, kind)}"


def _own_url(request: Request) -> str:
    """How this client has reached the server."""
    return f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"
