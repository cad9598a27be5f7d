"""/v1: an application of FastAPI, made of the parts that are below /v1."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from nerite.frontends.asgi import Asgi, Message
from nerite.frontends.images.errors import ApiError
from nerite.frontends.images.routes import router
from nerite.frontends.images.service import Service, Wishes
from nerite.frontends.images.store import Store
from nerite.frontends.jobs.opening import JobWishes, Opening
from nerite.frontends.jobs.pictures import PicturePainter
from nerite.frontends.jobs.routes import Door
from nerite.frontends.jobs.routes import router as job_router
from nerite.server import Server

log = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def make(server: Server, version: str, wishes: Wishes, store: Store, job_wishes: JobWishes) -> Asgi:
    """The application. Blocks: reading FastAPI takes a while."""
    # What clients send wrong is answered, and no concern of the operator's.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    service = Service(server, wishes, store)
    opening = Opening(job_wishes, PicturePainter(service))

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await opening.resume()
        yield
        await opening.close()

    app = FastAPI(
        title="nerite",
        version=version,
        description="OpenAI's Images API over the models of this server, with extensions.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    app.include_router(router(service))
    app.include_router(job_router(service, opening))
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(HTTPException, _not_served)
    app.add_exception_handler(sqlite3.Error, Door.unreadable)
    app.add_exception_handler(Exception, _failed)
    return _Identified(app)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    log.debug("%s failed: %s", request.url.path, error.message)
    return JSONResponse(error.document, error.status, error.headers)


async def _not_served(request: Request, error: Exception) -> JSONResponse:
    """What the router and the readers of forms say: no such path, no such method, no form."""
    assert isinstance(error, HTTPException)
    text = str(error.detail)
    if error.status_code == 404:
        text = f"Invalid URL ({request.method} {request.url.path})"
    elif error.status_code == 405:
        text = f"Not allowed to {request.method} on {request.url.path}"
    refused = ApiError(error.status_code, text)
    return JSONResponse(
        refused.document, refused.status, {**refused.headers, **(error.headers or {})}
    )


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """The exception goes on to the log."""
    refused = ApiError(500, "internal error; the server's log says more")
    return JSONResponse(refused.document, refused.status, refused.headers)


class _Identified:
    """Every answer has an id: the client's own, or a new one."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        id = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        scope["state"]["request_id"] = id

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[Any] = list(message.get("headers", ()))
                message = {**message, "headers": [*headers, (b"x-request-id", id.encode())]}
            await send(message)

        await self._app(scope, receive, sent)
