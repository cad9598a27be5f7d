"""What a pipeline accepts: cheap checks that name the field, the value and the remedy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TypeGuard

from nerite.diffusion.job import InvalidParams, Params

MAX_PIXELS = 1 << 24
"""Of a picture that comes in."""
MAX_GUIDANCE = 100
_MAX_SKIP = 48
_INT64 = 1 << 63


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one model; sizes are pixels, both ends included.

    ``width`` and ``height`` are what the model was trained for, ``steps`` and ``guidance_scale``
    what diffusers' pipeline takes for it: a server's defaults.
    """

    width: int
    height: int
    max_size: int
    min_size: int = 64
    size_multiple: int = 8
    max_steps: int = 1000
    steps: int = 20
    guidance_scale: float = 7.5

    def check(self, params: Params) -> None:
        """Raises InvalidParams for the first member of ``params`` that cannot be served."""
        _check_text("prompt", params.prompt)
        _check_text("negative_prompt", params.negative_prompt)
        check_whole("seed", params.seed, -_INT64, _INT64 - 1)
        check_whole("steps", params.steps, 1, self.max_steps)
        check_whole("num_images", params.num_images, 1, None)
        _check_number("guidance_scale", params.guidance_scale, 0, MAX_GUIDANCE)
        self._check_size("width", params.width)
        self._check_size("height", params.height)
        check_whole("clip_skip", params.clip_skip, 0, _MAX_SKIP)
        if params.scheduler is not None:
            _check_text("scheduler", params.scheduler)
        if params.strength is not None:
            _check_number("strength", params.strength, 0, 1)
        _check_picture("image", params.image, 3)
        _check_picture("mask", params.mask, 2)
        if params.image is None and params.mask is not None:
            raise InvalidParams("mask", "mask is given without image: it says what of it stays")
        if params.image is None and params.strength is not None:
            raise InvalidParams("strength", "strength is given without image: it is its share")

    def fit(self, width: int, height: int) -> dict[str, int]:
        """``width`` and ``height`` for a picture of that size: as near below it as can be."""
        scale = max(1.0, self.min_size / max(1, min(width, height)))
        scale = min(scale, self.max_size / max(width, height, 1))
        sides = {"width": width * scale, "height": height * scale}
        multiple = self.size_multiple
        lowest = -(-self.min_size // multiple) * multiple
        highest = self.max_size // multiple * multiple
        return {
            name: min(max(int(side) // multiple * multiple, lowest), highest)
            for name, side in sides.items()
        }

    def _check_size(self, field: str, value: object) -> None:
        low, high, multiple = self.min_size, self.max_size, self.size_multiple
        rule = f"it must be a multiple of {multiple} from {low} to {high}"
        if not _is_whole(value):
            raise InvalidParams(field, f"{field} is {_shown(value)}: {rule}")
        if low <= value <= high and value % multiple == 0:
            return
        below = value // multiple * multiple
        near = {min(max(size, low), high) for size in (below, below + multiple)}
        remedy = " or ".join(str(size) for size in sorted(near))
        raise InvalidParams(field, f"{field} is {_shown(value)}: {rule}; try {remedy}")


def check_whole(field: str, value: object, low: int, high: int | None) -> None:
    """Raises InvalidParams unless ``value`` is a whole number from ``low`` to ``high``."""
    if _is_whole(value) and low <= value and (high is None or value <= high):
        return
    bounds = f"{low} or more" if high is None else f"from {low} to {high}"
    raise InvalidParams(field, f"{field} is {_shown(value)}: it must be a whole number {bounds}")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _check_number(field: str, value: object, low: int, high: int) -> None:
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and low <= number <= high:
            return
    raise InvalidParams(
        field, f"{field} is {_shown(value)}: it must be a number from {low} to {high}"
    )


def _check_picture(field: str, value: object, dimensions: int) -> None:
    """``dimensions`` 3 for colours, 2 for a mask."""
    if value is None:
        return
    expected = "uint8 [height, width, 3]" if dimensions == 3 else "uint8 [height, width]"
    shape: tuple[int, ...] = getattr(value, "shape", ())
    dtype = getattr(value, "dtype", type(value).__name__)
    wrong = len(shape) != dimensions or str(dtype) != "uint8" or (shape[2:] not in ((), (3,)))
    if wrong or not math.prod(shape):
        raise InvalidParams(field, f"{field} is {dtype} {list(shape)}: {expected} is expected")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise InvalidParams(
            field, f"{field} has {shape[1]} x {shape[0]} pixels: at most {MAX_PIXELS} are taken"
        )


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, str):
        raise InvalidParams(field, f"{field} is {_shown(value)}: it must be text")
    try:
        value.encode()
    except UnicodeEncodeError:
        message = f"{field} holds half of a surrogate pair: it must be text that UTF-8 can carry"
        raise InvalidParams(field, message) from None
