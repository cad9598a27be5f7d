"""Settings from a command line and the environment, read as Triton's getopt_long reads them."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from nerite.settings import kinds
from nerite.settings.options import OPTIONS, Option, Settings
from nerite.settings.others import DEPRECATED, IGNORED
from nerite.settings.reference import usage
from nerite.settings.rules import check, complete

# Several values of one variable; Triton's own values are full of commas and colons.
SEPARATOR = ";"
# What the client and its commands read.
_CLIENTS = ("NERITE_URL", "NERITE_API_KEY")


class UsageError(Exception):
    """A command line that cannot be meant; the message is for its writer."""


def parse(
    argv: Sequence[str],
    *,
    program: str = "nerite serve",
    defaults: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from flags, then from NERITE_* variables, then the defaults.

    Exits with status 1 and a sentence when a flag is unknown or its value is wrong, and with
    status 0 when help was asked for. defaults: where a program's differ from ours.
    """
    environment = os.environ if environment is None else environment
    defaults = defaults or {}
    if "--help" in argv or "-h" in argv:
        print(usage(program, defaults))
        sys.exit(0)
    try:
        given = {**_from_environment(environment), **_from_flags(argv)}
        settings = complete(given, defaults)
        check(settings)
        settings.notices += _misspelt(environment)
    except (UsageError, ValueError) as error:
        _leave(program, str(error))
    return settings


def _leave(program: str, message: str) -> NoReturn:
    print(f"Usage: {program} [options], see {program} --help\nerror: {message}", file=sys.stderr)
    sys.exit(1)


def _from_environment(environment: Mapping[str, str]) -> dict[Option, Any]:
    """An empty variable is as good as none: compose files write them."""
    given: dict[Option, Any] = {}
    for option in OPTIONS:
        text = environment.get(option.variable)
        if not text:
            continue
        texts = [one for one in text.split(SEPARATOR) if one] if option.repeat else [text]
        try:
            values = [option.kind.read(one) for one in texts]
        except ValueError as error:
            raise UsageError(f"{option.variable}: {error}") from None
        given[option] = values if option.repeat else values[0]
    return given


def _misspelt(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none."""
    known = {option.variable for option in OPTIONS} | {*_CLIENTS}
    notices = []
    for name in environment:
        # Our own tests have variables too.
        if name.startswith("NERITE_") and name not in known and not name.startswith("NERITE_TEST_"):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            notices.append(f"the environment variable {name} names no setting{hint}")
    return notices


def _from_flags(argv: Sequence[str]) -> dict[Option, Any]:
    given: dict[Option, Any] = {}
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--") or argument == "--":
            raise UsageError(f"Unexpected argument: {argument}")
        name, equals, text = argument[2:].partition("=")
        option = _find(name, argument)
        if not equals:
            text = _next(option, rest)
        try:
            value = option.kind.read(text)
        except ValueError as error:
            raise UsageError(f'Bad option: "--{option.flag}".\n{error}') from None
        if option.repeat:
            given.setdefault(option, []).append(value)
        else:
            given[option] = value
    return given


def _next(option: Option, rest: list[str]) -> str:
    """The value in the next argument; a switch may stand alone and then is true."""
    switch = option.kind is kinds.BOOLEAN
    if rest and not rest[0].startswith("--") and (not switch or _is_boolean(rest[0])):
        return rest.pop(0)
    if switch:
        return "true"
    raise UsageError(f"option '--{option.flag}' requires an argument ({option.kind.shown})")


def _is_boolean(text: str) -> bool:
    try:
        kinds.BOOLEAN.read(text)
    except ValueError:
        return False
    return True


def _find(name: str, argument: str) -> Option:
    """By its name, or by a beginning that only one of Triton's flags, or else of all, has."""
    names = {known: one for one in _all() for known in (one.flag, *one.aliases)}
    if name in names:
        return names[name]
    for ours in (False, True):
        near = {known: one for known, one in names.items() if known.startswith(name)}
        found = set(near.values()) if ours else {one for one in near.values() if not one.ours}
        if len(found) == 1:
            return found.pop()
        if len(found) > 1:
            could = " ".join(f"--{known}" for known in sorted(near))
            raise UsageError(f"argument '--{name}' is ambiguous; it could be {could}")
    close = difflib.get_close_matches(name.replace("_", "-"), names, n=1)
    hint = f"; did you mean --{close[0]}?" if close else "; --help lists what there is"
    raise UsageError(f"unknown argument '{argument}'{hint}")


def _all() -> list[Option]:
    return [*OPTIONS, *IGNORED, *DEPRECATED]
