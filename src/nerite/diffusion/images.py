"""Pictures on their way in and out: scaled, between -1 and 1, and back into pixels."""

from __future__ import annotations

import base64
import io
import logging
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.diffusion.job import InvalidParams
from nerite.diffusion.limits import MAX_PIXELS

_log = logging.getLogger(__name__)

_FORMATS = ("PNG", "JPEG", "WEBP")


def read_picture(field: str, data: bytes) -> NDArray[np.uint8]:
    """A PNG, JPEG or WebP file, or its base64 form, as pixels uint8 [h, w, 3], as a mask [h, w].

    Raises InvalidParams, which names ``field``, before more than the file's head is read where
    it has too many pixels.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bombs, which have a limit of their own here
            with Image.open(io.BytesIO(_plain(data)), formats=_FORMATS) as opened:
                pixels = opened.width * opened.height
                if pixels <= MAX_PIXELS:
                    turned = ImageOps.exif_transpose(opened)
                    return np.array(turned.convert("L" if field == "mask" else "RGB"))
    except Image.DecompressionBombError:
        pixels = MAX_PIXELS + 1
    except Exception as error:  # many types, and whatever a broken file makes a decoder raise
        text = f"{field} cannot be read: {type(error).__name__}; a PNG, JPEG or WebP is expected"
        raise InvalidParams(field, text) from None
    raise InvalidParams(field, f"{field} has too many pixels: at most {MAX_PIXELS} are taken")


def _plain(data: bytes) -> bytes:
    """The file's bytes; what does not begin as a picture does is taken for base64."""
    if data.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF")):
        return data
    return base64.b64decode(data.rpartition(b"base64,")[2], validate=False)


def to_network(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    """uint8 [h, w, 3] into float32 [1, 3, height, width] from -1 to 1."""
    scaled = _scaled(image, width, height).astype(np.float32) / np.float32(255)
    return (scaled * np.float32(2) - np.float32(1)).transpose(2, 0, 1)[None]


def to_mask(mask: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    """uint8 [h, w] into float32 [1, 1, height, width] of 0, which stays, and 1."""
    scaled = _scaled(mask, width, height).astype(np.float32) / np.float32(255)
    return (scaled >= 0.5).astype(np.float32)[None, None]


def to_pixels(decoded: NDArray[Any]) -> NDArray[np.uint8]:
    """Float32 [n, 3, h, w] from -1 to 1 into uint8 [n, h, w, 3], rounded as diffusers does."""
    if not np.isfinite(decoded).all():
        _log.warning("the decoder gave values that are not numbers: those pixels are black")
        decoded = np.nan_to_num(decoded, nan=-1.0)
    unit = (decoded * np.float32(0.5) + np.float32(0.5)).clip(0, 1)
    scaled = (unit.transpose(0, 2, 3, 1) * np.float32(255)).round()
    pixels: NDArray[np.uint8] = scaled.astype(np.uint8)
    return pixels


def _scaled(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)
