"""The fields of a text in protobuf's text format by their places, whatever they are called.

What is wrong with the text is for protobuf's parser to say; this reads on where that stops.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_TOKEN = re.compile(r"""\s+|\#.*|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|[\w.+-]+|.""")
_CLOSING = {"{": "}", "<": ">", "[": "]"}
_CLOSERS = tuple(_CLOSING.values())
_BEFORE_A_VALUE = (":", "=", *_CLOSING)


@dataclass
class Field:
    """A field, or without a name, one of a list. begin, end: its place in the text.

    fields: those of a message, or the items of a list. cut: what to leave out so that it is gone,
    with its comma.
    """

    name: str
    begin: int
    end: int
    word: str = ""
    fields: list[Field] = field(default_factory=list)
    listed: bool = False
    cut: tuple[int, int] = (0, 0)

    @property
    def key(self) -> str | None:
        """Of an entry of a map."""
        return next((one.word.strip("\"'") for one in self.fields if one.name == "key"), None)

    @property
    def value(self) -> Field:
        """Of an entry of a map: where it has none, itself."""
        return next((one for one in self.fields if one.name == "value"), self)


class _Token(NamedTuple):
    text: str
    begin: int
    end: int

    @property
    def is_value(self) -> bool:
        return self.text[0] in "\"'.+-_" or self.text[0].isalnum()


def read_fields(text: str) -> list[Field]:
    """The fields at the top of the text. Raises RecursionError for thousands of open braces."""
    found = (_Token(one[0], one.start(), one.end()) for one in _TOKEN.finditer(text))
    return _Reader([one for one in found if one.text[0] != "#" and one.text.strip()]).read()


class _Reader:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    def read(self) -> list[Field]:
        fields = []
        while self._next < len(self._tokens):
            fields += self._fields()
            if self._look() in _CLOSERS:  # one too many
                fields.append(self._field())
        return fields

    def _look(self, ahead: int = 0) -> str:
        at = self._next + ahead
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _take(self) -> _Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _fields(self) -> list[Field]:
        """Up to whatever closes something."""
        fields = []
        while self._look() and self._look() not in _CLOSERS:
            fields.append(self._field())
            if self._look() in (",", ";"):
                self._take()
        return fields

    def _field(self) -> Field:
        name = self._take()
        found = Field(name.text, name.begin, name.end)
        if name.is_value:
            if self._look() in (":", "="):
                found.end = self._take().end
            self._read_value(found)
        found.cut = (found.begin, found.end)
        return found

    def _read_value(self, found: Field) -> None:
        opening = self._look()
        if opening in _CLOSING:
            self._take()
            found.listed = opening == "["
            found.fields = list(self._items()) if found.listed else self._fields()
            if self._look() == _CLOSING[opening]:
                self._take()
            found.end = self._tokens[self._next - 1].end
        # A word that has a value itself is the next field's name: this one's value is missing.
        elif opening and self._tokens[self._next].is_value and self._look(1) not in _BEFORE_A_VALUE:
            token = self._take()
            found.word, found.end = token.text, token.end
            while self._look()[:1] in ("'", '"'):
                found.end = self._take().end

    def _items(self) -> Iterator[Field]:
        comma: _Token | None = None
        while self._look() and self._look() not in _CLOSERS:
            item = Field("", self._tokens[self._next].begin, 0)
            start = self._next
            self._read_value(item)
            if self._next == start:
                item.end = self._take().end
            after = self._take() if self._look() == "," else None
            begin = item.begin if comma is None else comma.begin
            end = after.end if comma is None and after is not None else item.end
            comma = after
            item.cut = (begin, end)
            yield item
