"""The picture of a distribution: bars of equal width, and lines where the percentiles are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_SIZE = (960, 540)
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 70, 930, 480
_PAPER, _INK, _BAR, _LINE = "#ffffff", "#222222", "#4c78a8", "#d1495b"
_MOST_BARS = 40


def draw(values: Sequence[float], marks: Mapping[str, float], file: Path) -> None:
    """Seconds, sorted; `marks` are lines by name."""
    image = Image.new("RGB", _SIZE, _PAPER)
    pen = ImageDraw.Draw(image)
    text, small = ImageFont.load_default(20), ImageFont.load_default(14)
    low, high = values[0], values[-1]
    width = (high - low) or max(high, 1e-9)
    counts = _counts(values, low, width)
    pen.text((_LEFT, 20), f"latency of {len(values)} requests", _INK, text)
    for number, count in enumerate(counts):
        left = _LEFT + (_RIGHT - _LEFT) * number / len(counts)
        right = _LEFT + (_RIGHT - _LEFT) * (number + 1) / len(counts) - 1
        top = _BOTTOM - (_BOTTOM - _TOP) * count / max(counts)
        pen.rectangle((left, top, right, _BOTTOM), _BAR if count else _PAPER)
    pen.line((_LEFT, _BOTTOM, _RIGHT, _BOTTOM), _INK)
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = _LEFT + (_RIGHT - _LEFT) * share
        pen.text((at, _BOTTOM + 8), _shown(low + width * share), _INK, small, "ma")
    pen.text((_LEFT - 8, _TOP), str(max(counts)), _INK, small, "ra")
    pen.text((_LEFT - 8, _BOTTOM), "0", _INK, small, "rs")
    pen.text(((_LEFT + _RIGHT) / 2, _BOTTOM + 34), "seconds", _INK, small, "ma")
    for row, (name, value) in enumerate(marks.items()):
        at = _LEFT + (_RIGHT - _LEFT) * (value - low) / width
        pen.line((at, _TOP - 4, at, _BOTTOM), _LINE, 2)
        pen.text((_RIGHT - 150 * (len(marks) - row) + 150, 26), f"{name} {_shown(value)}", _LINE,
            small, "ra")  # fmt: skip
    image.save(file)


def _counts(values: Sequence[float], low: float, width: float) -> list[int]:
    bars = min(_MOST_BARS, max(5, round(len(values) ** 0.5 * 2)))
    counts = [0] * bars
    for value in values:
        counts[min(int((value - low) / width * bars), bars - 1)] += 1
    return counts


def _shown(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 10 else f"{seconds:.1f}"
