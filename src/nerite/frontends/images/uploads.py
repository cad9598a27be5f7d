"""Pictures that clients send: decoded once, to know that they can be and what is asked of them."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nerite.diffusion import MAX_PIXELS
from nerite.frontends.images.errors import ApiError, bad

MAX_UPLOADS = 16
_MAX_TOGETHER = 4 * MAX_PIXELS
_FORMATS = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/jpg": "JPEG",
    "image/webp": "WEBP",
}
_PIECE = 1 << 20  # characters of base64: of each four
_UNSAID = ("", "application/octet-stream")


@dataclass(frozen=True)
class File:
    """What a client has sent as a picture, and what it calls it."""

    param: str
    data: bytes
    type: str = ""


@dataclass(frozen=True)
class Upload:
    """A picture to be painted over: its file, its pixels, and what of it is to change.

    mask: 255 where it is painted anew.
    """

    file: bytes
    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]


def from_url(param: str, url: str) -> File:
    """The picture in a data: URL. Raises ApiError: the server fetches nothing."""
    if not url.startswith("data:"):
        text = f"'{param}' must be a data: URL with base64, as data:image/png;base64,...: this "
        raise bad(f"{text}server fetches nothing from elsewhere", param, "invalid_image_url")
    head, comma, text = url[5:].partition(",")
    kind, _, coding = head.partition(";")
    if not comma or coding.rpartition(";")[2].strip().lower() != "base64":
        raise bad(f"'{param}' is a data: URL without base64", param, "invalid_image_url")
    try:
        data = _decoded(text)
    except (binascii.Error, ValueError) as error:
        raise bad(f"'{param}' holds no base64: {error}", param, "invalid_base64") from None
    return File(param, data, kind.strip())


def _decoded(text: str) -> bytes:
    """In pieces, between which other threads have their turn."""
    starts = range(0, len(text), _PIECE)
    return b"".join(base64.b64decode(text[at : at + _PIECE], validate=True) for at in starts)


def read_uploads(images: Sequence[File], mask: File | None, masks: bool) -> tuple[Upload, ...]:
    """The mask belongs to the first picture, as with OpenAI. Blocks. Raises ApiError.

    masks: whether the model takes any; then a transparent picture is its own mask.
    """
    if len(images) > MAX_UPLOADS:
        text = f"{len(images)} pictures were sent: at most {MAX_UPLOADS} are taken"
        raise bad(text, images[0].param, "too_many_images")
    opened = [_open(file) for file in images]
    if sum(one.width * one.height for one in opened) > _MAX_TOGETHER:
        text = f"the pictures have more than {_MAX_TOGETHER} pixels together"
        raise bad(text, images[0].param, "image_too_large")
    decoded = [_decode(file, one) for file, one in zip(images, opened, strict=True)]
    found = [_own_mask(one) if masks else None for one in decoded]
    if mask is not None:
        found[0] = _read_mask(mask, decoded[0])
    return tuple(
        Upload(file.data, np.asarray(one.convert("RGB")), hole)
        for file, one, hole in zip(images, decoded, found, strict=True)
    )


def _open(file: File) -> Image.Image:
    """The head of a picture's file; its pixels are not read yet."""
    if not file.data:
        raise bad(f"'{file.param}' is an empty file", file.param, "invalid_image")
    try:
        opened = Image.open(io.BytesIO(file.data), formats=tuple(set(_FORMATS.values())))
    except Image.DecompressionBombError:
        raise _too_large(file) from None
    except Exception:  # many types, and whatever a broken file makes a reader raise
        text = f"'{file.param}' is no picture that can be read: a PNG, JPEG or WebP is expected"
        raise bad(text, file.param, "invalid_image") from None
    if file.type not in _UNSAID and _FORMATS.get(file.type) != opened.format:
        text = f"'{file.param}' is called {file.type[:60]} and is a {opened.format} file"
        raise bad(text, file.param, "invalid_image")
    if opened.width * opened.height > MAX_PIXELS:
        raise _too_large(file)
    return opened


def _too_large(file: File) -> ApiError:
    text = f"'{file.param}' has too many pixels: at most {MAX_PIXELS} are taken"
    return bad(text, file.param, "image_too_large")


def _decode(file: File, opened: Image.Image) -> Image.Image:
    try:
        turned = ImageOps.exif_transpose(opened)
        transparent = "A" in turned.getbands() or "transparency" in turned.info
        return turned.convert("RGBA" if transparent else "RGB")
    except Exception:
        text = f"'{file.param}' is a broken {opened.format} file: its pixels cannot be read"
        raise bad(text, file.param, "invalid_image") from None


def _own_mask(picture: Image.Image) -> NDArray[np.uint8] | None:
    """What is transparent of a picture is to be painted, where anything is."""
    if picture.mode != "RGBA":
        return None
    alpha = np.asarray(picture.getchannel("A"))
    return None if alpha.min() == 255 else 255 - alpha


def _read_mask(file: File, picture: Image.Image) -> NDArray[np.uint8]:
    """Transparent is painted anew; where nothing is transparent, white is."""
    decoded = _decode(file, _open(file))
    if decoded.size != picture.size:
        shown = "x".join(map(str, decoded.size)), "x".join(map(str, picture.size))
        text = "'mask' has {} pixels and the picture {}: they must be of the same size"
        raise bad(text.format(*shown), "mask", "invalid_mask")
    hole = _own_mask(decoded)
    found = np.asarray(decoded.convert("L")) if hole is None else hole
    if found.max() < 128:
        text = "'mask' leaves nothing to be painted: make that transparent, or white"
        raise bad(text, "mask", "invalid_mask")
    return found
