"""Pictures as files. All of it blocks, and runs in threads that no request path waits in."""

from __future__ import annotations

import asyncio
import base64
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nerite.frontends.images.orders import Form

T = TypeVar("T")
_QUICK = 1  # zlib's level for what is looked at once


class Threads:
    """Where pictures are read and written. Pillow lets go of the interpreter while it works."""

    def __init__(self) -> None:
        count = min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="pictures")

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, work, *arguments)


def encode(pixels: NDArray[np.uint8], form: Form, *, quick: bool = False) -> bytes:
    """uint8 [h, w, 3 or 4] as a file; `quick` where size matters less than time."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if form.kind == "png":
        image.save(buffer, "png", compress_level=_QUICK if quick else 6)
    elif form.kind == "jpeg":
        quality = 95 if form.compression is None else max(1, form.compression)
        image.convert("RGB").save(buffer, "jpeg", quality=quality)
    else:
        quality = 90 if form.compression is None else form.compression
        image.save(buffer, "webp", quality=quality, method=0 if quick else 4)
    return buffer.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    return encode(pixels, Form(), quick=True)


def base64_text(file: bytes) -> str:
    return base64.b64encode(file).decode("ascii")


def preview(pixels: NDArray[np.uint8], size: tuple[int, int] | None, form: Form) -> bytes:
    """A guess of what a picture will be, at the size that it will have."""
    if size is not None and (pixels.shape[1], pixels.shape[0]) != size:
        image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
    return encode(pixels, form, quick=True)
