"""Weights in a prompt, as compel writes them: ``cat++``, ``(in the snow)1.3``, ``"night"--``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PLUS, _MINUS = 1.1, 0.9
_MAX_WEIGHT = 20.0
_MAX_DEPTH = 32
_SPACE = re.compile(r"\s+")
_WEIGHT = re.compile(r"\++|-+|\d+\.?\d*|\.\d+")
_SIGNS = re.compile(r"\++|-+")
# A word without signs that mean something; a sign within it does not.
_WORD = re.compile(r"""(?:\\[()",.+\-=]|[-+](?![\s()",.+\-=]|$)|[^\s()",.+\-=])+""")
_FREE = re.compile(r"\S+")
_INSIDE = re.compile(r"[,.+\-=]")
_ESCAPED = re.compile(r'\\([()"])')


class Fragment(NamedTuple):
    """Part of a prompt and how much it counts, 1 being usual."""

    text: str
    weight: float = 1.0


def parse(prompt: str) -> list[Fragment]:
    """The fragments of ``prompt``; one, as it is written, where nothing in it has a weight.

    Raises ValueError for a weight that is too large.
    """
    if not _SIGNS.search(prompt) and not re.search(r'[)"][\d.]', prompt):
        return [Fragment(prompt)]
    fragments = _fused(_Reader(re.sub(r",(\S)", r", \1", prompt)).prompt())
    if all(fragment.weight == 1 for fragment in fragments):
        return [Fragment(prompt)]
    for fragment in fragments:
        if fragment.weight > _MAX_WEIGHT:
            raise ValueError(f"{fragment.text[:40]!r} has weight {fragment.weight:g}: at most 20")
    return fragments


class _Reader:
    """Reads from left to right; what does not parse as a group is taken as words."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def prompt(self) -> list[Fragment]:
        found: list[Fragment] = []
        while self._skip_space():
            group = self._group() or self._weighted_word()
            found += group if group is not None else [_fragment(self._take(_FREE) or "")]
        return found

    def _skip_space(self) -> bool:
        """Whether anything follows."""
        self._take(_SPACE)
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        return match.group()

    def _group(self) -> list[Fragment] | None:
        """(...) or "...", with a weight or none; None, and nothing taken, for anything else."""
        began = self._at
        closing = {"(": ")", '"': '"'}.get(self._text[began : began + 1])
        if closing is None or self._depth == _MAX_DEPTH:
            return None
        self._at += 1
        self._depth += 1
        inside = self._inside(closing)
        self._depth -= 1
        if inside is None:
            self._at = began
            return None
        weight = _value(self._take(_WEIGHT))
        return [Fragment(text, own * weight) for text, own in inside]

    def _inside(self, closing: str) -> list[Fragment] | None:
        found: list[Fragment] = []
        while self._skip_space():
            if self._text[self._at] == closing:
                self._at += 1
                return found
            part = self._group() or self._weighted_word()
            if part is None:
                word = self._take(_WORD) or self._take(_INSIDE)
                if word is None:
                    return None
                part = [_fragment(word)]
            found += part
        return None

    def _weighted_word(self) -> list[Fragment] | None:
        began = self._at
        word = self._take(_WORD)
        signs = self._take(_SIGNS) if word is not None else None
        if word is None or signs is None:
            self._at = began
            return None
        return [_fragment(word, _value(signs))]


def _value(weight: str | None) -> float:
    if weight is None:
        return 1.0
    if weight[0] in "+-":
        return float((_PLUS if weight[0] == "+" else _MINUS) ** len(weight))
    return float(weight)


def _fragment(text: str, weight: float = 1.0) -> Fragment:
    return Fragment(_ESCAPED.sub(r"\1", text), weight)


def _fused(fragments: Iterable[Fragment]) -> list[Fragment]:
    """Neighbours of one weight as one fragment."""
    fused: list[Fragment] = []
    for text, weight in fragments:
        if fused and fused[-1].weight == weight:
            fused[-1] = Fragment(f"{fused[-1].text} {text}", weight)
        else:
            fused.append(Fragment(text, weight))
    return fused
