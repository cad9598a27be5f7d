"""The paths of the Images API and of the list of models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from nerite.frontends.images import bodies
from nerite.frontends.images.answers import as_json
from nerite.frontends.images.orders import Order, order
from nerite.frontends.images.service import Service

JSON = "application/json"


def router(service: Service) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.get("/models", tags=["Models"], summary="List models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": service.models.documents()}

    @routes.get("/models/{id:path}", tags=["Models"], summary="Retrieve model")
    async def model(id: str) -> dict[str, Any]:
        return service.models.document(id)

    @routes.post(
        "/images/generations",
        tags=["Images"],
        summary="Create image",
        openapi_extra=_json_body(bodies.Generation),
    )
    async def generations(request: Request) -> Response:
        body = bodies.read_json(bodies.Generation, await request.body())
        wanted = order(service.models.find(body.model), body)
        return await _paint(service, request, wanted)

    return routes


async def _paint(service: Service, request: Request, wanted: Order) -> Response:
    with service.room.take(wanted.count):
        pictures = await service.painter.paint(wanted, request.state.request_id)
        return Response(await service.threads.run(as_json, wanted, pictures), media_type=JSON)


def _json_body(kind: type[bodies.Generation]) -> dict[str, Any]:
    """How the body is documented: we read it ourselves, for errors that name the field."""
    schema = kind.model_json_schema(by_alias=False)
    return {"requestBody": {"required": True, "content": {JSON: {"schema": schema}}}}
