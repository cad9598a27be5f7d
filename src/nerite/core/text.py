"""Texts of models and of the system, as protocols can write them."""

from __future__ import annotations


def sayable(text: str) -> str:
    """`text` with what UTF-8 cannot say, the halves of surrogate pairs, as `\\ud800`."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
