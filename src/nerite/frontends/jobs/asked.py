"""Asked: a request for a job, checked as one for an answer is, and as it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from nerite.frontends.images import bodies, forms
from nerite.frontends.images.errors import bad
from nerite.frontends.images.orders import Order, order
from nerite.frontends.images.routes import order_over
from nerite.frontends.images.service import Service

_LARGE = 1 << 16
_PICTURES = ("images", "mask")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """order: what it means. kept: it as JSON, with nothing left to chance. shown: the same
    without the pictures that came with it. digest: of what the client said."""

    order: Order
    kept: bytes
    shown: bytes
    digest: bytes


async def read_asked(service: Service, body: bytes) -> Asked:
    """Raises ApiError."""
    said, wanted = await _read(service, body)
    if said.stream:
        text = "a job does not stream its pictures: GET /v1/images/jobs/ID/events tells how it goes"
        raise bad(text, "stream")
    if said.response_format == "url":
        text = "a job's result holds its pictures: leave response_format out, or say b64_json"
        raise bad(text, "response_format")
    return await _apart(service, body, _keepable, said, wanted)


async def read_order(service: Service, kept: bytes) -> Order:
    """What was kept, once more. Raises ApiError."""
    return (await _read(service, kept))[1]


async def _read(service: Service, body: bytes) -> tuple[bodies.Generation | bodies.Edit, Order]:
    if _has_images(body):
        sent = await _apart(service, body, forms.read_json, body)
        return sent.body, await order_over(service, sent)
    said = await _apart(service, body, bodies.read_json, bodies.Generation, body)
    return said, order(service.models.find(said.model), said)


async def _apart(service: Service, body: bytes, work: Callable[..., T], *given: Any) -> T:
    """What a large body costs is not paid by those who wait for the event loop."""
    if len(body) < _LARGE:
        return work(*given)
    return await service.threads.run(work, *given)


def _has_images(body: bytes) -> bool:
    """Whether it is an edit; what is no JSON is refused by those who read it."""
    if b'"images"' not in body:
        return False
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(said, dict) and "images" in said


def _keepable(said: bodies.Generation | bodies.Edit, wanted: Order) -> Asked:
    fixed: dict[str, Any] = {"model": wanted.model.name}
    if wanted.seed is not None:
        fixed["seed"] = wanted.seed
    kept = said.model_copy(update=fixed)
    shown = kept.model_dump(mode="json", exclude_unset=True)
    shown |= {name: _brief(shown[name]) for name in _PICTURES if name in shown}
    digest = hashlib.sha256(_json(said)).digest()
    return Asked(wanted, _json(kept), orjson.dumps(shown), digest)


def _brief(pictures: Any) -> Any:
    """What a picture is called, without its pixels."""
    if isinstance(pictures, list):
        return [_brief(one) for one in pictures]
    if isinstance(pictures, dict):
        return {name: _brief(one) for name, one in pictures.items()}
    if isinstance(pictures, str):
        return f"{pictures.partition(',')[0][:60]},..."
    return pictures


def _json(said: bodies.Generation | bodies.Edit) -> bytes:
    return said.model_dump_json(exclude_unset=True).encode()
