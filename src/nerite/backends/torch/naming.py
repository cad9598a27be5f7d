"""Which argument or result of a PyTorch program a config's tensor means, by Triton's rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from nerite.core.errors import invalid

_INDEX = re.compile(r".*?__(\d+)")


def positions(kind: str, names: Sequence[str], known: Sequence[frozenset[str]]) -> dict[str, int]:
    """The place of each name among `known`, each a set of the names that it answers to.

    All names are known ones; or else all end in `__<index>`; or else their order counts. Raises
    InferenceError for a place that is not there.
    """
    found = {name: place for place, own in enumerate(known) for name in own}
    matches = [_INDEX.fullmatch(name) for name in names]
    if all(name in found for name in names):
        places = {name: found[name] for name in names}
    elif all(matches):
        places = {name: int(match[1]) for name, match in zip(names, matches, strict=True) if match}
    else:
        places = {name: place for place, name in enumerate(names)}
    for name, place in places.items():
        if place >= len(known):
            listed = ", ".join(min(own, key=len) for own in known if own)
            raise invalid(
                f"The {kind} {name} in the model configuration refers to an {kind} index which "
                f"doesn't exist. This model has {len(known)} {kind}s{': ' if listed else ''}"
                f"{listed}"
            )
    return places


def results(value: Any) -> Iterator[tuple[frozenset[str], Any]]:
    """The tensors and lists of strings in what a program returned, with the names of each.

    Names are paths, `RESULT[key][0]`; the first step alone is a name where it is a key.
    """
    return _walk(value, "RESULT", frozenset(("RESULT",)))


def _walk(value: Any, path: str, names: frozenset[str]) -> Iterator[tuple[frozenset[str], Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            inner = f"{path}[{key}]"
            yield from _walk(item, inner, frozenset((inner, key) if path == "RESULT" else (inner,)))
    elif isinstance(value, tuple) or (isinstance(value, list) and not _are_texts(value)):
        for place, item in enumerate(value):
            inner = f"{path}[{place}]"
            yield from _walk(item, inner, frozenset((inner,)))
    else:
        yield names, value


def _are_texts(value: list[Any]) -> bool:
    return all(isinstance(item, str) for item in value)
