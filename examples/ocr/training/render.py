"""Pictures of random words in Pillow's own font, and where their words are."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from reading import ALPHABET, Array, Box

_GAP = "  "  # between the words of a line, as signs are set
_FONTS = {size: ImageFont.load_default(size) for size in range(24, 57)}


def word(rng: np.random.Generator) -> str:
    """Two to ten letters and digits; half of the words are of letters alone."""
    letters = ALPHABET[10:] if rng.random() < 0.5 else ALPHABET
    return "".join(rng.choice([*letters], rng.integers(2, 11)))


def scene(
    rng: np.random.Generator, width: int, height: int, count: int
) -> tuple[Image.Image, list[tuple[str, Box]]]:
    """A picture with up to `count` lines of one to three words, each word with its box."""
    picture = _background(rng, width, height)
    draw = ImageDraw.Draw(picture)
    lines: list[Box] = []
    placed: list[tuple[str, Box]] = []
    for _ in range(count):
        size = int(rng.integers(24, 57))
        texts = [word(rng) for _ in range(rng.integers(1, 4))]
        across, down = extent(_GAP.join(texts), size)
        if across + 8 > width or down + 8 > height:
            texts = texts[:1]
            across, down = extent(texts[0], size)
        if across + 8 > width or down + 8 > height:
            continue
        left, top = rng.integers(4, width - across - 3), rng.integers(4, height - down - 3)
        line = (float(left), float(top), float(left + across), float(top + down))
        if any(not _apart(line, other) for other in lines):
            continue
        lines.append(line)
        draw.text((left, top), _GAP.join(texts), fill=_ink(rng, picture, line), font=_FONTS[size])
        placed += _words(texts, line, size)
    return _worn(rng, picture), placed


def _words(texts: list[str], line: Box, size: int) -> list[tuple[str, Box]]:
    """The box of each word of a line."""
    placed = []
    for index, text in enumerate(texts):
        before = _GAP.join([*texts[:index], ""])
        left = line[0] + _FONTS[size].getlength(before)
        placed.append((text, (left, line[1], left + _FONTS[size].getlength(text), line[3])))
    return placed


def extent(text: str, size: int) -> tuple[int, int]:
    """The width of a word and the height of its line, in pixels."""
    ascent, descent = _FONTS[size].getmetrics()
    return int(_FONTS[size].getlength(text)), ascent + descent


def _background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A gradient of two near colours with a few shapes, as signs and screens have it."""
    first = rng.integers(0, 256, 3)
    second = np.clip(first + rng.integers(-60, 61, 3), 0, 255)
    share = np.linspace(0, 1, width if rng.random() < 0.5 else height)
    share = share[None, :, None] if len(share) == width else share[:, None, None]
    pixels = np.broadcast_to(first + (second - first) * share, (height, width, 3))
    picture = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 5)):
        x, y = rng.integers(0, width, 2), rng.integers(0, height, 2)
        colour = tuple(int(one) for one in np.clip(first + rng.integers(-130, 131, 3), 0, 255))
        corners = [int(x.min()), int(y.min()), int(x.max()), int(y.max())]
        if rng.random() < 0.5:
            draw.rectangle(corners, outline=colour, fill=colour if rng.random() < 0.5 else None)
        else:
            draw.line(corners, fill=colour, width=int(rng.integers(1, 9)))
    return picture


def _ink(rng: np.random.Generator, picture: Image.Image, box: Box) -> tuple[int, int, int]:
    """A colour that can be read on what is there."""
    behind = np.asarray(picture.crop(tuple(map(int, box))), np.float32).reshape(-1, 3).mean(axis=0)
    while True:
        colour = rng.integers(0, 256, 3)
        if abs(float((colour - behind) @ (0.299, 0.587, 0.114))) > 75:
            return int(colour[0]), int(colour[1]), int(colour[2])


def _apart(one: Box, other: Box) -> bool:
    gap = 6
    return (
        one[2] + gap < other[0] or other[2] + gap < one[0] or one[3] < other[1] or other[3] < one[1]
    )


def _worn(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """As a camera may leave it: a little blur, a little noise."""
    if rng.random() < 0.4:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.9)))
    if rng.random() < 0.5:
        pixels = np.asarray(picture, np.float32) + rng.normal(
            0, rng.uniform(0, 9), (*picture.size[::-1], 1)
        )
        picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return picture


def grey(picture: Image.Image) -> Image.Image:
    return picture.convert("L")


def shaken(rng: np.random.Generator, box: Box) -> Box:
    """A box as detection may find it: each side a little off."""
    height = box[3] - box[1]
    off = rng.normal(0, 0.06, 4) * height
    left, top, right, bottom = (side + shift for side, shift in zip(box, off, strict=True))
    return left, top, right, bottom


__all__ = ["Array", "extent", "grey", "scene", "shaken", "word"]
