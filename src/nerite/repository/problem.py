"""What is wrong with a model: found by a rule in its config, or by whoever reads its files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from os.path import commonprefix
from typing import Any, NamedTuple

# A field, from the config down: names of fields, numbers of what is repeated, keys of maps.
Place = tuple[str | int, ...]


class Breach(NamedTuple):
    """A rule that a config does not keep to; as a string, what the server says of it.

    message: Triton's sentence, where Triton has one. at: the field it is about.
    """

    message: str
    at: Place = ()
    remedy: str | None = None

    def __str__(self) -> str:
        return _joined(self.message, self.remedy)


@dataclass(frozen=True)
class Problem:
    """A Breach or anything else, with its place; as a string, for people.

    line, column: from 1 on, None where the file as a whole is meant, or is not there. remedy: None
    where unknown. shown: the line's text.
    """

    file: str
    message: str
    line: int | None = None
    column: int | None = None
    remedy: str | None = None
    shown: str = ""

    def __str__(self) -> str:
        place = [str(number) for number in (self.line, self.column) if number is not None]
        text = f"{':'.join([self.file, *place])}: {_joined(self.message, self.remedy)}"
        if self.column is None or not self.shown:
            return text
        return f"{text}\n  {self.shown}\n  {' ' * (self.column - 1)}^"

    def to_json(self) -> dict[str, Any]:
        names = ("file", "line", "column", "message", "remedy")
        return {name: getattr(self, name) for name in names}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """A remedy for a name that is not one of those known; None where none of them is like it."""
    known = list(known)
    # What all begin with would make any two of them alike.
    prefix = commonprefix(known) if len(known) > 1 else ""
    by_letters = {one.removeprefix(prefix).lower(): one for one in known}
    found = get_close_matches(name.removeprefix(prefix).lower(), by_letters, 1)
    return f"Did you mean {by_letters[found[0]]}?" if found else None


def _joined(message: str, remedy: str | None) -> str:
    if remedy is None:
        return message
    return f"{message} {remedy}" if message.endswith(".") else f"{message}. {remedy}"
