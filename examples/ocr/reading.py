"""What lies around the two models of this example: pictures to tensors, tensors to words.

The client uses it, and so do the Python models of the ensemble and of the pipeline.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 640, 480  # what detection sees
CROP_WIDTH, CROP_HEIGHT = 100, 32  # what recognition sees
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"  # classes 1 to 36; class 0 is between letters

_MEANS = np.array([123.68, 116.78, 103.94], np.float32)
_STRIDE = 4  # pixels of the picture for one of detection's
_SURE = 0.6

Array = NDArray[np.float32]
Box = tuple[float, float, float, float]  # left, top, right, bottom


def for_detection(picture: Image.Image) -> Array:
    """A picture as detection wants it: [1, 480, 640, 3], the means of colours taken away."""
    pixels = np.asarray(picture.convert("RGB").resize((WIDTH, HEIGHT)), np.float32)
    return (pixels - _MEANS)[None]


def boxes(scores: Array, geometry: Array) -> list[Box]:
    """The words' boxes in reading order, from [1, h, w, 1] scores and the distances to the top,
    right, bottom and left of a box that each place in [1, h, w, 5] tells.

    A word's sure places hang together, and those near a side know best where it is.
    """
    found: list[Box] = []
    for rows, columns in _islands(scores[0, :, :, 0] > _SURE):
        if len(rows) < 3:  # a single place that is sure is no word
            continue
        top, right, bottom, left = geometry[0, rows, columns, :4].T
        away = np.stack([left, top, right, bottom], axis=1)
        x, y = columns * _STRIDE, rows * _STRIDE
        sides = np.stack([x, y, x, y], axis=1) + away * (-1, -1, 1, 1)
        weights = 1 / (away + _STRIDE) ** 2
        box = (sides * weights).sum(axis=0) / weights.sum(axis=0)
        found.append((float(box[0]), float(box[1]), float(box[2]), float(box[3])))
    return _in_reading_order(found)


def _islands(sure: NDArray[np.bool_]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rows and columns of each group of places that touch."""
    left = set(map(tuple, np.argwhere(sure).tolist()))
    islands = []
    while left:
        reached = [left.pop()]
        for row, column in reached:
            for step in (
                (row - 1, column),
                (row + 1, column),
                (row, column - 1),
                (row, column + 1),
            ):
                if step in left:
                    left.remove(step)
                    reached.append(step)
        rows, columns = np.array(reached).T
        islands.append((rows, columns))
    return islands


def _in_reading_order(found: list[Box]) -> list[Box]:
    """Line by line; boxes are of one line when their middles are within half a height."""
    lines: list[list[Box]] = []
    for box in sorted(found, key=lambda box: box[1] + box[3]):
        middle = (box[1] + box[3]) / 2
        first = lines[-1][0] if lines else None
        if first and middle - (first[1] + first[3]) / 2 < (first[3] - first[1]) / 2:
            lines[-1].append(box)
        else:
            lines.append([box])
    return [box for line in lines for box in sorted(line)]


def crops(seen: Array, found: list[Box]) -> Array:
    """What recognition wants of each box, [n, 1, 32, 100], from what detection has seen."""
    pixels = np.clip(seen[0] + _MEANS, 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels).convert("L")
    return np.stack([crop(picture, box) for box in found]) if found else _NOTHING


_NOTHING = np.zeros((0, 1, CROP_HEIGHT, CROP_WIDTH), np.float32)


def crop(picture: Image.Image, box: Box) -> Array:
    """A box of a grey picture, [1, 32, 100], from -1 to 1."""
    size = (CROP_WIDTH, CROP_HEIGHT)
    part = picture.transform(size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    return (np.asarray(part, np.float32)[None] - 127.5) / 127.5


def words(scores: Array) -> list[str]:
    """The word in each of [n, 26, 37] scores: the likeliest classes, each run of one as one."""
    found = []
    for best in scores.argmax(axis=2):
        changed = np.flatnonzero(np.diff(best, prepend=0))
        found.append("".join(ALPHABET[best[place] - 1] for place in changed if best[place]))
    return found
