"""The paths of jobs: /v1/images/jobs and below."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import re
import secrets
import sqlite3
import time
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response

from nerite.frontends.access import key_of
from nerite.frontends.images.documented import EDITS, GENERATIONS
from nerite.frontends.images.errors import ApiError, bad
from nerite.frontends.images.events import EventStream
from nerite.frontends.images.service import Service
from nerite.frontends.jobs.asked import read_asked
from nerite.frontends.jobs.documents import document, event
from nerite.frontends.jobs.jobs import Jobs
from nerite.frontends.jobs.live import Preview, View
from nerite.frontends.jobs.opening import Opening
from nerite.frontends.jobs.store import KeyReused, NewJob, StoreFull

log = logging.getLogger(__name__)

_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_PATH = "/images/jobs"
_PAGE, _LARGEST_PAGE = 20, 100
_LONGEST_WAIT = 60.0
_JSON = "application/json"
_SCHEMAS = [
    like["openapi_extra"]["requestBody"]["content"][_JSON]["schema"]
    for like in (GENERATIONS, EDITS)
]
_BODY = {"requestBody": {"required": True, "content": {_JSON: {"schema": {"anyOf": _SCHEMAS}}}}}


class Door:
    """What the paths do. Belongs to the server's loop."""

    def __init__(self, service: Service, opening: Opening) -> None:
        self._service = service
        self._opening = opening

    async def accept(self, request: Request) -> Response:
        """Kept when it is answered, and painted when there is room."""
        key = _idempotency_key(request)
        asked = await read_asked(self._service, await request.body())
        wanted = NewJob(
            f"job_{secrets.token_hex(16)}",
            self._owner(request),
            asked.order.model.name,
            asked.order.count,
            time.time(),
            asked.kept,
            asked.shown,
            asked.digest,
            key,
        )
        view, new = await self._keep(wanted)
        headers = {"location": f"/v1{_PATH}/{view.job.id}"}
        if not new:
            headers["idempotent-replayed"] = "true"
        return self._answer(view, 202, headers)

    async def _keep(self, wanted: NewJob) -> tuple[View, bool]:
        try:
            jobs = await self._opening.open()
            try:
                return await jobs.accept(wanted)
            except StoreFull:
                raise _full(jobs) from None
        except KeyReused:
            text = f"the Idempotency-Key '{wanted.key}' has come before with another request: "
            text += "take a new key for a new job"
            raise ApiError(409, text, code="idempotency_key_reused") from None
        except sqlite3.Error as error:
            log.error("a job cannot be kept: %s", error)
            text = f"the job was not accepted, because it cannot be kept: {error}"
            raise ApiError(503, text, code="not_kept", retry_after=10) from None

    @staticmethod
    async def unreadable(request: Request, error: Exception) -> Response:
        log.error("jobs cannot be read: %s", error)
        refused = ApiError(503, f"the jobs cannot be read: {error}", retry_after=10)
        return _json(refused.document, refused.status, refused.headers)

    async def show(self, id: str, request: Request) -> Response:
        jobs = self._opening.jobs
        view = await jobs.find(id, self._owner(request)) if jobs else None
        if view is None:
            raise _unknown(id)
        return self._answer(view)

    async def list(self, request: Request) -> Response:
        """The newest first, without their pictures."""
        limit = _limit(request.query_params.get("limit"))
        after = request.query_params.get("after", "")
        jobs, owner = self._opening.jobs, self._owner(request)
        found = await jobs.newest(owner, limit + 1, after) if jobs else []
        if found is None or (after and not jobs):
            raise bad(f"there is no job '{after[:100]}' to list those after it", "after")
        page = [document(view, self._lifetime) for view in found[:limit]]
        listed = {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(found) > limit,
        }
        return _json(listed)

    async def remove(self, id: str, request: Request) -> Response:
        """Cancel one that is not finished, forget one that is."""
        jobs, owner = self._opening.jobs, self._owner(request)
        view = await jobs.cancel(id, owner) if jobs else None
        if view is not None:
            return self._answer(view)
        if jobs is None or not await jobs.delete(id, owner):
            raise _unknown(id)
        return _json({"id": id, "object": "image.job", "deleted": True})

    async def events(self, id: str, request: Request) -> Response:
        """How it goes, until it has ended."""
        jobs = self._opening.jobs
        if jobs is None:
            raise _unknown(id)
        told = self._tell(jobs.watch(id, self._owner(request)))
        first = await anext(told, b"")
        if not first:
            raise _unknown(id)
        return EventStream(first, told)

    async def _tell(self, watching: AsyncGenerator[View | Preview]) -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(watching):
            async for told in watching:
                yield event(told, self._lifetime)

    def _answer(
        self, view: View, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        return _json(document(view, self._lifetime), status, headers)

    @property
    def _lifetime(self) -> float:
        return self._opening.wishes.limits.lifetime

    def _owner(self, request: Request) -> str:
        """A digest of the key: whose job it is, where the server asks for keys."""
        if not self._opening.wishes.owned:
            return ""
        return hashlib.sha256(key_of(request.headers)).hexdigest()


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        text = "the header Idempotency-Key has from 1 to 255 characters of printable ASCII"
        raise bad(text, "Idempotency-Key")
    return key


def _limit(text: str | None) -> int:
    if text is None:
        return _PAGE
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= _LARGEST_PAGE:
        raise bad(f"limit is '{text[:20]}': it must be from 1 to {_LARGEST_PAGE}", "limit")
    return int(text)


def _unknown(id: str) -> ApiError:
    text = f"there is no job '{id[:100]}': it was deleted, or its lifetime is over"
    return ApiError(404, text, param="id", code="job_not_found")


def _full(jobs: Jobs) -> ApiError:
    text = "as many jobs wait as this server takes: try again when some are done"
    seconds = math.ceil(min(jobs.seconds_to_room, _LONGEST_WAIT))
    return ApiError(429, text, code="too_many_jobs", retry_after=seconds)


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type=_JSON)


def router(service: Service, opening: Opening) -> APIRouter:
    door = Door(service, opening)
    routes = APIRouter(prefix="/v1", tags=["Jobs"])
    one = f"{_PATH}/{{id}}"
    routes.post(_PATH, status_code=202, summary="Create image job", openapi_extra=_BODY)(
        door.accept
    )
    routes.get(_PATH, summary="List image jobs")(door.list)
    routes.get(one, summary="Retrieve image job")(door.show)
    routes.delete(one, summary="Cancel or delete image job")(door.remove)
    routes.get(f"{one}/events", summary="Stream image job events")(door.events)
    return routes
