"""The whole answer to an order, as OpenAI's ImagesResponse with what we add to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from nerite.frontends.images.encoding import base64_text, encode
from nerite.frontends.images.errors import ApiError
from nerite.frontends.images.orders import Order
from nerite.frontends.images.painting import Picture

_PATCH = 16  # pixels: a side of what counts as one token


def images_response(order: Order, data: Sequence[dict[str, Any]], size: str) -> dict[str, Any]:
    """data: of each picture `b64_json` or `url`, `seed` and `flagged`."""
    return {
        "created": int(time.time()),
        "data": data,
        "background": background(order),
        "output_format": order.form.kind,
        "quality": order.quality,
        "size": size,
        "usage": usage(order, size, len(data)),
        **order.settings(),
    }


def as_json(
    order: Order, pictures: Sequence[Picture], keep: Callable[[bytes, str], str] | None = None
) -> bytes:
    """The answer with the pictures in it, or their URLs where `keep` makes one of a file and its
    kind. Raises ApiError where none may be shown. Blocks: it writes files and base64."""
    check_shown(order, pictures)
    data = []
    for picture in pictures:
        file = encode(picture.pixels, order.form)
        if keep is None:
            data.append(datum(picture, base64_text(file)))
        else:
            data.append(datum(picture, keep(file, order.form.kind), "url"))
    return orjson.dumps(images_response(order, data, size_of(pictures[0].pixels)))


def check_shown(order: Order, pictures: Sequence[Picture]) -> None:
    """Raises ApiError, as OpenAI's moderation does, where all are blanked: nothing is left."""
    if order.model.blanks and all(picture.flagged for picture in pictures):
        text = "What was painted was flagged by the safety checker: try another prompt or seed"
        raise ApiError(400, text, code="moderation_blocked")


def datum(picture: Picture, text: str, key: str = "b64_json") -> dict[str, Any]:
    more = {"seed": picture.seed, "flagged": picture.flagged}
    return {key: text, **{name: value for name, value in more.items() if value is not None}}


def size_of(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def background(order: Order) -> str:
    return "auto" if order.model.transparent else "opaque"


def usage(order: Order, size: str, count: int) -> dict[str, Any]:
    """A measure of the work, not OpenAI's: four bytes of text are a token, and so are 16 x 16
    pixels."""
    width, height = (int(side) for side in size.split("x"))
    text = math.ceil(len((order.prompt + (order.negative_prompt or "")).encode()) / 4)
    seen = sum(_patches(*upload.size) for upload in order.uploads)
    made = _patches(width, height) * count
    return {
        "total_tokens": text + seen + made,
        "input_tokens": text + seen,
        "output_tokens": made,
        "input_tokens_details": {"text_tokens": text, "image_tokens": seen},
        "output_tokens_details": {"text_tokens": 0, "image_tokens": made},
    }


def _patches(width: int, height: int) -> int:
    return math.ceil(width / _PATCH) * math.ceil(height / _PATCH)
