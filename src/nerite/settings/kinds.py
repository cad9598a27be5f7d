"""What the value of a setting may be: how it is read from text, and what the help calls it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_BOOLEANS = dict.fromkeys(("true", "on", "1"), True) | dict.fromkeys(("false", "off", "0"), False)
CATEGORIES = (
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)


@dataclass(frozen=True)
class Kind:
    """`read` makes a value of a text, or raises ValueError with Triton's sentence."""

    shown: str
    read: Callable[[str], Any]


def whole(shown: str, least: float = -math.inf, most: float = math.inf) -> Kind:
    """Whole numbers from `least` to `most`."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"Invalid option value. Got {text}") from None
        return int(_within(number, least, most))

    return Kind(shown, read)


def positive(shown: str, flag: str) -> Kind:
    """Whole numbers from 1; `flag` is in the sentence, as Triton says it."""

    def read(text: str) -> int:
        number = int(NUMBER.read(text))
        if number <= 0:
            raise ValueError(f"Error: --{flag} must be greater than 0. Got {number}")
        return number

    return Kind(shown, read)


def fraction(shown: str, least: float = -math.inf) -> Kind:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"Invalid option value. Got {text}")
        return _within(number, least, math.inf)

    return Kind(shown, read)


def _within(number: float, least: float, most: float) -> float:
    if least <= number <= most:
        return number
    limits = f"at least {least}" if most == math.inf else f"from {least} to {most}"
    raise ValueError(f"Provided option value is out of bound. Got {number}; it must be {limits}")


def choice(*words: str) -> Kind:
    """One of some words, in any case; the value is the word as it is written here."""

    def read(text: str) -> str:
        for word in words:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"Invalid option value. Got {text}; it must be one of {', '.join(words)}")

    return Kind("|".join(words), read)


def keyed(shown: str, what: str, *, named: bool) -> Kind:
    """`NAME,KEY=VALUE`, read as a triple; without `named` the name may be left out, and is ""."""

    def read(text: str) -> tuple[str, str, str]:
        wrong = ValueError(f"--{what} option format is '{shown}'. Got {text}")
        left, equals, value = text.partition("=")
        name, comma, key = left.partition(",")
        if not comma:
            name, key = "", left
        if not (equals and key and value) or (comma and not name) or (named and not name):
            raise wrong
        return name, key, value

    return Kind(shown, read)


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError(
            f"invalid value for bool option: {text} (neither true, on, 1 nor false, off, 0)"
        )
    return _BOOLEANS[text.lower()]


def _verbosity(text: str) -> int:
    words = {"true": 1, "false": 0}
    return words[text.lower()] if text.lower() in words else int(NUMBER.read(text))


def _pattern(text: str) -> str:
    # RE2, which Triton uses, may switch a flag off for all that follows; Python only for a group.
    pattern = re.sub(r"\A\(\?-i\)(.*)\Z", r"(?-i:\1)", text)
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{text}' is not a regular expression: {error}") from None
    return pattern


def _metric(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key or not value or "," in key:
        raise ValueError(f"--metrics-config option format is <setting>=<value>. Got {text}")
    return key, value


def _resource(text: str) -> tuple[str, int, int]:
    name, *numbers = text.split(":")
    if not name or len(numbers) not in (1, 2):
        raise ValueError(
            "--rate-limit-resource option format is '<resource_name>:<count>:<device>' or "
            f"'<resource_name>:<count>'. Got {text}"
        )
    count, device = (*numbers, "-1")[:2]
    return name, COUNT.read(count), NUMBER.read(device)


def _word(text: str) -> str:
    return _filled(text.strip())


def _filled(text: str) -> str:
    if not text:
        raise ValueError("Invalid option value. Got an empty one")
    return text


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^/?#\s]+[^?#\s]*", text):
        raise ValueError(f"'{text}' is no URL like https://pictures.example.org")
    return text.rstrip("/")


def restriction(flag: str, what: str) -> Kind:
    """`CATEGORY[,CATEGORY]:KEY=VALUE`, read as the categories, the key and the value."""
    shown = f"<{what}>[,<{what}>]:<key>=<value>"

    def read(text: str) -> tuple[tuple[str, ...], str, str]:
        names, _, rest = text.partition(":")
        key, _, value = rest.partition("=")
        if not (names and key and value):
            raise ValueError(
                f"--{flag} option format is '<config name>:<setting>=<value>'. Got {text}"
            )
        categories = tuple(names.split(","))
        for category in categories:
            if category not in CATEGORIES:
                raise ValueError(f"unknown restricted {what} '{category}'")
        return categories, key, value

    return Kind(shown, read)


def pair(shown: str, separator: str, first: Kind, second: Kind) -> Kind:
    def read(text: str) -> tuple[Any, Any]:
        left, found, right = text.partition(separator)
        if not found:
            raise ValueError(
                "Cannot parse pair option due to incorrect number of inputs."
                f"--<pair option> argument requires format <first>{separator}<second>. "
                f"Found: {text}"
            )
        return first.read(left), second.read(right)

    return Kind(shown, read)


def _gpu_limit(text: str) -> tuple[int, float]:
    device, share = pair("", ":", whole(""), fraction("")).read(text)
    if device < 0:
        raise ValueError(f"expects device ID >= 0, got {device}")
    if not 0 <= share <= 1:
        raise ValueError(f"expects limit fraction to be in range [0.0, 1.0], got {share}")
    return device, share


TEXT = Kind("text", str)
GPU_LIMIT = Kind("<gpu>:<fraction>", _gpu_limit)
WORD = Kind("text", _word)
URL = Kind("url", _url)
PATH = Kind("path", str)
FOLDER = Kind("path", _filled)  # an empty path is the current folder, which nobody has named
BOOLEAN = Kind("true|false", _boolean)
NUMBER = whole("number")
COUNT = whole("number", 0)
PORT = whole("port", 0, 65535)
BYTES = whole("bytes")
SECONDS = fraction("seconds", 0)
VERBOSITY = Kind("number", _verbosity)
PATTERN = Kind("pattern", _pattern)
METRIC = Kind("<setting>=<value>", _metric)
RESOURCE = Kind("<name>:<count>[:<device>]", _resource)
