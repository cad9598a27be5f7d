"""The bodies that bring pictures: forms with files in them, and JSON with data: URLs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from nerite.frontends.images import bodies
from nerite.frontends.images.errors import bad
from nerite.frontends.images.uploads import MAX_UPLOADS, File, from_url

B = TypeVar("B", bodies.Edit, bodies.Variation)
_FILES = ("image", "image[]", "mask")
_FIELD = 1 << 20  # bytes of a form's text
_LARGE = 1 << 18  # bytes of JSON that are read where nobody waits for the event loop


@dataclass(frozen=True)
class Sent(Generic[B]):
    """A body, and the pictures that came with it."""

    body: B
    images: tuple[File, ...]
    mask: File | None = None


class Source(BaseModel):
    """A picture in JSON."""

    model_config = ConfigDict(extra="forbid")

    image_url: str | None = Field(None, description="data:image/png;base64,...")
    file_id: str | None = None


class JsonEdit(bodies.Edit):
    """`/v1/images/edits` as JSON."""

    images: list[Source] = Field(min_length=1, max_length=MAX_UPLOADS)
    mask: Source | None = None


async def read(kind: type[B], request: Request) -> Sent[B]:
    """A form, or for edits JSON. Raises ApiError, and HTTPException for a broken form."""
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said == "application/json" and kind is bodies.Edit:
        data = await request.body()
        large = len(data) > _LARGE
        sent = await asyncio.to_thread(read_json, data) if large else read_json(data)
        return sent  # type: ignore[return-value]
    if said not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        shown = f"is '{said[:60]}'" if said else "is missing"
        wanted = " or application/json" if kind is bodies.Edit else ""
        text = f"the content-type {shown}: multipart/form-data{wanted} is expected"
        raise bad(text, None, "unsupported_content_type")
    try:
        form = await request.form(max_files=MAX_UPLOADS + 2, max_part_size=_FIELD)
    except FormParserError as error:
        raise bad(f"the form cannot be read: {error}", None, "invalid_form") from None
    try:
        return await _read_form(kind, form)
    finally:
        await form.close()


def read_json(body: bytes) -> Sent[bodies.Edit]:
    """Raises ApiError."""
    edit = bodies.read_json(JsonEdit, body)
    images = tuple(_file("images", one) for one in edit.images)
    return Sent(edit, images, _file("mask", edit.mask) if edit.mask else None)


def _file(param: str, source: Source) -> File:
    if source.file_id is not None:
        text = f"'{param}' names a file_id: this server keeps no files, send image_url"
        raise bad(text, param, "unsupported_parameter")
    if source.image_url is None:
        raise bad(f"'{param}' has no image_url", param, "missing_required_parameter")
    return from_url(param, source.image_url)


async def _read_form(kind: type[B], form: FormData) -> Sent[B]:
    fields: dict[str, Any] = {}
    files: dict[str, list[File]] = {"image": [], "mask": []}
    for name, value in form.multi_items():
        if name in _FILES:
            param = name.removesuffix("[]")
            files[param].append(await _read_file(param, value))
        elif isinstance(value, UploadFile):
            raise bad(f"'{name[:100]}' must not be a file", name[:100])
        elif name in fields:
            raise bad(f"'{name[:100]}' is given more than once", name[:100])
        else:
            fields[name] = value
    body = bodies.read_object(kind, _plain(fields), strict=False)
    images = tuple(files["image"])
    _check(kind, images, files["mask"])
    return Sent(body, images, files["mask"][0] if files["mask"] else None)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A form cannot say null; an empty text is what some clients send for it."""
    return {name: value for name, value in fields.items() if value != "" or name == "prompt"}


def _check(kind: type[Any], images: tuple[File, ...], masks: list[File]) -> None:
    if not images:
        text = "Missing required parameter: 'image'."
        raise bad(text, "image", "missing_required_parameter")
    if len(masks) > 1:
        raise bad("'mask' is given more than once", "mask")
    if kind is bodies.Variation:
        if masks:
            raise bad("Unknown parameter: 'mask'.", "mask", "unknown_parameter")
        if len(images) > 1:
            raise bad("'image' is given more than once", "image")


async def _read_file(param: str, value: UploadFile | str) -> File:
    if isinstance(value, str):
        return from_url(param, value)
    return File(param, await value.read(), (value.content_type or "").partition(";")[0].strip())
