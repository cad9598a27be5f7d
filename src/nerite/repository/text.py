"""A config.pbtxt as it was written: all that protobuf objects to, and where each field stands.

protobuf's parser stops at the first error and keeps no places. So that it finds the next one too,
what it objects to is blanked out and the rest parsed again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from nerite.core.errors import invalid
from nerite.repository.fields import Field, read_fields
from nerite.repository.problem import Breach, Place, Problem, nearest

# How protobuf's parser says it in Python, and how it does in Triton.
_PARSER_WORDS = (
    (r"Couldn't parse integer: (.*)", r"Expected integer, got: \1"),
    (r"Value out of range: (-.*)", r"Expected integer, got: \1, which is out of range"),
    (r"Value out of range: (.*)", r"Integer out of range (\1)"),
)
_UNKNOWN_FIELD = re.compile(r'Message type "(.*)" has no field named "(.*)"\.')
_UNKNOWN_VALUE = re.compile(r'Enum type "(.*)" has no value named (.*)\.')
_REMEDIES = (
    ("\ufeff", "Save it without a byte order mark."),
    ("is specified along with", "Remove one of the two."),
    ("should not have multiple", "Remove one of them."),
    ('Expected "{".', "It has fields of its own: write them in braces."),
    ('Expected "}".', "Close what is open here."),
    ("got }", "It closes nothing: remove it."),
    ("missing ending quote", "End it on the line where it begins."),
)
_ABOUT_A_NAME = re.compile(r"has no field named|is specified along with|Expected identifier")
_UNCLOSED = re.compile(r'Expected "[}>]"\.')
_TYPES = model_config_pb2.DESCRIPTOR.pool


class ConfigText:
    """Raises OSError when there is no such file."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)
        self._bytes = file.read_bytes()

    def parse(self) -> Any:
        """The ModelConfig. Raises InferenceError, which tells the first of the problems."""
        try:
            config = text_format.Parse(self._bytes.decode(), model_config_pb2.ModelConfig())
        except (UnicodeDecodeError, text_format.ParseError):
            raise invalid(str(next(self.problems()))) from None
        for problem in self.locate(_unknown_numbers(config)):
            raise invalid(str(problem))
        return config

    def problems(self) -> Iterator[Problem]:
        """What keeps it from being parsed, in order; up to a brace that is never closed."""
        try:
            text = self._bytes.decode()
        except UnicodeDecodeError as error:
            what = f"not UTF-8 text: {error.reason} at byte {error.start}"
            yield Problem(self._file, what, remedy="Save it as UTF-8.")
            return
        while True:
            try:
                config = text_format.Parse(text, model_config_pb2.ModelConfig())
                yield from self.locate(_unknown_numbers(config))
                return
            except text_format.ParseError as error:
                yield self._objection(error)
                cut = _culprit(text, error)
            if cut is None:
                return
            begin, end = cut
            text = text[:begin] + re.sub(r"[^\n]", " ", text[begin:end]) + text[end:]

    def locate(self, breaches: Iterable[Breach]) -> list[Problem]:
        """Each with its place, and in the order of the text: its field's place, or where the field
        would be."""
        found = map(self._locate, breaches)
        return sorted(found, key=lambda one: (one.line or 0, one.column or 0))

    def _locate(self, breach: Breach) -> Problem:
        begin = _find(self._fields, breach.at)
        if begin is None:
            return Problem(self._file, breach.message, remedy=breach.remedy)
        before = self._bytes.decode()[:begin]
        line, column = before.count("\n") + 1, begin - before.rfind("\n")
        shown = self._lines[line - 1]
        return Problem(self._file, breach.message, line, column, breach.remedy, shown)

    @cached_property
    def _lines(self) -> list[str]:
        return [line.rstrip("\r") for line in self._bytes.decode().split("\n")]

    @cached_property
    def _fields(self) -> list[Field]:
        return read_fields(self._bytes.decode())

    def _objection(self, error: text_format.ParseError) -> Problem:
        line, column = error.GetLine(), error.GetColumn()
        what = _words(error)
        remedy = _remedy(what)
        if line is None or column is None:
            return Problem(self._file, what, line, column, remedy)
        shown = self._lines[min(line, len(self._lines)) - 1]
        return Problem(self._file, what, line, column, remedy, shown)


def _words(error: text_format.ParseError) -> str:
    """What the parser says, without the place and the line, which are told apart from it."""
    what = re.sub(r"^\d+(:\d+)? : ", "", str(error))
    what = re.sub(r"^'.*': (?=[A-Z])", "", what)
    for pattern, words in _PARSER_WORDS:
        what = re.sub(pattern, words, what)
    return what


def _remedy(what: str) -> str | None:
    field, value = _UNKNOWN_FIELD.match(what), _UNKNOWN_VALUE.match(what)
    if field:
        names = list(_TYPES.FindMessageTypeByName(field[1]).fields_by_name)
        return nearest(field[2], names) or f"Its fields are {', '.join(names)}."
    if value:
        names = list(_TYPES.FindEnumTypeByName(value[1]).values_by_name)
        return nearest(value[2], names) or f"Its values are {', '.join(names)}."
    return next((remedy for words, remedy in _REMEDIES if words in what), None)


def _culprit(text: str, error: text_format.ParseError) -> tuple[int, int] | None:
    """Where to blank out what the parser stopped at; None where it cannot go on."""
    what, line, column = _words(error), error.GetLine(), error.GetColumn()
    if line is None or column is None or _UNCLOSED.match(what):
        return None
    place = sum(len(one) + 1 for one in text.split("\n")[: line - 1]) + column - 1
    try:
        fields: Sequence[Field] = read_fields(text)
    except RecursionError:  # thousands of braces
        return None
    found = None
    while inside := next((one for one in fields if one.begin <= place < one.end), None):
        found, fields = inside, inside.fields
    if found is None or (found.name and found.begin == place and not _ABOUT_A_NAME.search(what)):
        return None  # the value that was expected here is that of an earlier field
    return found.cut


def _unknown_numbers(message: Any, at: Place = ()) -> Iterator[Breach]:
    """Numbers in place of an enum's values, which protobuf takes whether they mean one or not."""
    for field, value in message.ListFields():
        here = (*at, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key, item in value.items():
                    yield from _unknown_numbers(item, (*here, str(key)))
            continue
        items = enumerate(value) if field.is_repeated else [(None, value)]
        for index, item in items:
            place = here if index is None else (*here, index)
            if field.message_type is not None:
                yield from _unknown_numbers(item, place)
            elif field.enum_type is not None and item not in field.enum_type.values_by_number:
                text = f'Enum type "{field.enum_type.full_name}" has no value with number {item}.'
                names = ", ".join(field.enum_type.values_by_name)
                yield Breach(text, place, f"Its values are {names}.")


def _find(fields: Sequence[Field], path: Place) -> int | None:
    """Where the field begins, or as much of the path to it as there is."""
    place = None
    items = [Field("", 0, 0, fields=list(fields))]  # what the path means so far
    for step in path:
        inside = items[0].fields if items else []
        if isinstance(step, int):
            found = items = items[step : step + 1]
        elif valued := [one.value for one in items if one.key == step]:
            found = items = valued
        else:
            found = [one for one in inside if one.name == step]
            items = [item for one in found for item in (one.fields if one.listed else [one])]
        if not found:
            break
        place = found[0].begin
    return place
