"""A four times oversampled canvas in units of the final picture's pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from painter.palette import Rgb

SIZE = 128
SCALE = 4
Point = tuple[float, float]


@cache
def _disc_mask() -> Image.Image:
    axis = np.linspace(-1, 1, 128, dtype=np.float32)
    distance = np.hypot(axis[:, None], axis[None, :])
    falloff = np.clip(1 - distance, 0, 1) ** 1.6
    return Image.fromarray((falloff * 255).astype(np.uint8), "L")


class Canvas:
    """Draws flat shapes, gradients and glows; ``finish`` averages the oversampling away."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE))
        self._draw = ImageDraw.Draw(self.image)

    def gradient(self, top: float, bottom: float, stops: Sequence[Rgb]) -> None:
        """Fill whole rows from ``top`` to ``bottom`` with evenly spaced colour stops."""
        first, last = round(top * SCALE), round(bottom * SCALE)
        where = np.linspace(0, 1, last - first)
        knots = np.linspace(0, 1, len(stops))
        rows = np.stack([np.interp(where, knots, [s[c] for s in stops]) for c in range(3)], 1)
        strip = Image.fromarray(np.round(rows).astype(np.uint8)[:, None, :], "RGB")
        self.image.paste(strip.resize((SIZE * SCALE, last - first)), (0, first))

    def polygon(self, points: Sequence[Point], fill: Rgb) -> None:
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=fill)

    def ellipse(self, centre: Point, rx: float, ry: float, fill: Rgb) -> None:
        (x, y), s = centre, SCALE
        self._draw.ellipse(((x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s), fill=fill)

    def rectangle(self, corner: Point, other: Point, fill: Rgb) -> None:
        box = [v * SCALE for v in (*corner, *other)]
        self._draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: Rgb) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self._draw.line(scaled, fill=fill, width=round(width * SCALE), joint="curve")

    def arc(self, centre: Point, radius: float, width: float, fill: Rgb) -> None:
        (x, y), s = centre, SCALE
        box = ((x - radius) * s, (y - radius) * s, (x + radius) * s, (y + radius) * s)
        self._draw.arc(box, 180, 360, fill=fill, width=round(width * s))

    def glow(self, centre: Point, radius: float, fill: Rgb, strength: float) -> None:
        """Light that fades outwards from a point."""
        side = round(2 * radius * SCALE)
        mask = _disc_mask().resize((side, side)).point(lambda v: v * strength)
        corner = round((centre[0] - radius) * SCALE), round((centre[1] - radius) * SCALE)
        self.image.paste(fill, (*corner, corner[0] + side, corner[1] + side), mask)

    def veil(self, points: Sequence[Point], fill: Rgb, strength: float) -> None:
        """A polygon that lets what is behind it shine through."""
        xs, ys = [x * SCALE for x, _ in points], [y * SCALE for _, y in points]
        left, top = math.floor(min(xs)), math.floor(min(ys))
        mask = Image.new("L", (math.ceil(max(xs)) - left + 1, math.ceil(max(ys)) - top + 1))
        shifted = [(x - left, y - top) for x, y in zip(xs, ys, strict=True)]
        ImageDraw.Draw(mask).polygon(shifted, fill=round(255 * strength))
        self.image.paste(fill, (left, top, left + mask.width, top + mask.height), mask)

    def crescent(self, centre: Point, radius: float, bite: Point, fill: Rgb) -> None:
        """A disc out of which a disc moved by ``bite`` is taken."""
        r = round(radius * SCALE)
        mask = Image.new("L", (2 * r + 1, 2 * r + 1))
        draw = ImageDraw.Draw(mask)
        draw.ellipse((0, 0, 2 * r, 2 * r), fill=255)
        dx, dy = round(bite[0] * SCALE), round(bite[1] * SCALE)
        draw.ellipse((dx, dy, dx + round(1.8 * r), dy + round(1.8 * r)), fill=0)
        self.image.paste(fill, (round(centre[0] * SCALE) - r, round(centre[1] * SCALE) - r), mask)

    def finish(self) -> Image.Image:
        return self.image.reduce(SCALE)
