"""Output: what a worker prints goes to the server's log, and its last lines into its epitaph."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections import deque

from nerite.backends.base import LOGGED

log = logging.getLogger(__name__)

_LAST_LINES = 20
# The levels of pb_utils.Logger.
_LEVELS = {"VERBOSE": logging.DEBUG, "WARNING": logging.WARNING, "ERROR": logging.ERROR}


class Output:
    """What the processes of one instance print, under its name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)

    @property
    def tail(self) -> str:
        """The last lines as the end of an error; "" when nothing was said."""
        said = "".join(f"\n  {line}" for line in self._lines)
        return f". Its last lines:{said}" if said else ""

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Log what comes, line by line, until the end."""
        self._lines.clear()
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line longer than the reader's limit; the rest follows
                continue
            if not line:
                return
            level, text = _logged(line.decode(errors="replace").rstrip())
            self._lines.append(text)
            log.log(level, "[%s] %s", self._name, text)


def ending(code: int | None) -> str:
    """How a process ended, in parentheses; "" where that is not known yet."""
    if code is None:
        return ""
    if code >= 0:
        return f" (exit status {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # one of the real-time signals, which have no names
        name = f"signal {-code}"
    return f" ({name}, perhaps for lack of memory)" if name == "SIGKILL" else f" ({name})"


def _logged(line: str) -> tuple[int, str]:
    """The level and the text of a line that a worker printed."""
    if line.startswith(LOGGED):
        with contextlib.suppress(ValueError, TypeError):
            level, text = json.loads(line[len(LOGGED) :])
            return _LEVELS.get(level, logging.INFO), str(text)
    return logging.INFO, line
