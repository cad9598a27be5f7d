"""How a command ends: with 0, with 1 and one sentence, or with 130 after Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable

from nerite.client import ConnectionFailed, NeriteError, Unauthorized


class CommandError(Exception):
    """One sentence for the person at the terminal."""


def status_of(command: str, work: Callable[[], int | None]) -> int:
    """Do the work; the exit status. What goes wrong is said on stderr."""
    try:
        return work() or 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        first = _first(error)
        sentence = _sentence(first)
        if sentence is None:  # a fault of ours, which deserves its traceback
            raise
    print(f"nerite {command}: {' '.join(sentence.split())}", file=sys.stderr)
    return 1


def _first(error: Exception) -> Exception:
    """Of errors that came together, the one that ended the others."""
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


def _sentence(error: Exception) -> str | None:
    if isinstance(error, ConnectionFailed):
        remedy = "start one with `nerite serve`, or name another with --url"
        return f"{str(error).rstrip('.')}; {remedy}."
    if isinstance(error, Unauthorized):
        return f"{str(error).rstrip('.')}; name one with --api-key, or in NERITE_API_KEY."
    if isinstance(error, CommandError | NeriteError | ValueError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}."
    return None
