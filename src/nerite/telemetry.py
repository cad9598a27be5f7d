"""What the server says in its log: Triton's lines or JSON, where they go, and its tables."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import IO, Any

_LETTERS = {"DEBUG": "I", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "E"}
_ESCAPE = "TRITON_SERVER_ESCAPE_LOG_MESSAGES"
FORMATS = ("default", "ISO8601", "json")


@dataclass(frozen=True)
class LogSettings:
    """Triton's log settings. verbose: 0, or from 1 on how verbose. file: "" is the console."""

    file: str = ""
    info: bool = True
    warning: bool = True
    error: bool = True
    verbose: int = 0
    format: str = "default"


class Log:
    """The process's log: one line per message, to a file, or information to stdout and what is
    wrong to stderr. Its settings can be changed while it is in use.

    Until it is opened it leaves the process's logging alone: that may be a host program's.
    """

    def __init__(self, settings: LogSettings | None = None) -> None:
        self.settings = settings or LogSettings()
        self._outlet: _Outlet | None = None

    def open(self, name: str = "") -> None:
        """Become the log of this process, where other libraries' warnings come too, or of the
        logger `name` alone.

        Raises OSError when the file cannot be opened.
        """
        self._outlet = _Outlet(self.settings.file)
        self._apply(self._outlet)
        logger = logging.getLogger(name)
        logger.handlers = [self._outlet]
        if name:
            logger.propagate = False
        else:
            logger.setLevel(logging.WARNING)

    def close(self) -> None:
        """Leave the loggers that it was opened for."""
        for logger in (logging.getLogger(), logging.getLogger("nerite")):
            if self._outlet in logger.handlers:
                logger.removeHandler(self._outlet)
                logger.propagate = True
        if self._outlet is not None:
            self._outlet.close()
            self._outlet = None

    def update(self, **changes: Any) -> None:
        """Change some of LogSettings' fields."""
        self.settings = replace(self.settings, **changes)
        if self._outlet is not None:
            self._apply(self._outlet)

    def _apply(self, outlet: _Outlet) -> None:
        settings = self.settings
        wanted = {
            logging.DEBUG: settings.verbose > 0,
            logging.INFO: settings.info,
            logging.WARNING: settings.warning,
            logging.ERROR: settings.error,
        }
        outlet.levels = {level for level, on in wanted.items() if on}
        lowest = min(outlet.levels, default=logging.CRITICAL)
        logging.getLogger("nerite").setLevel(lowest)
        escape = os.environ.get(_ESCAPE, "1") != "0"
        formatter = _Json() if settings.format == "json" else _Line(settings.format, escape)
        outlet.setFormatter(formatter)


def configure(settings: LogSettings | None = None, *, verbose: bool = False) -> Log:
    """Open the process's log. Raises OSError when its file cannot be opened."""
    log = Log(settings or LogSettings(verbose=int(verbose)))
    log.open()
    return log


class _Outlet(logging.Handler):
    """Writes each record at once; below an error, only those of the levels asked for."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.levels: set[int] = set()
        self._file: IO[str] | None = None
        if file:
            self._file = open(file, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
        elif hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        if min(record.levelno, logging.ERROR) not in self.levels:
            return
        stream = self._file or (sys.stderr if record.levelno >= logging.WARNING else sys.stdout)
        try:
            stream.write(self.format(record) + "\n")
            stream.flush()
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


class _Line(logging.Formatter):
    """`I0923 12:00:00.123456 PID file.py:NN] "text"`, or `2026-09-23T12:00:00Z I PID …`.

    The text is a JSON string, so that what clients send can neither start a line of its own nor
    steer a terminal. A record's `table` follows it as it is.
    """

    def __init__(self, style: str, escape: bool) -> None:
        super().__init__()
        self._iso = style == "ISO8601"
        self._escape = escape

    def format(self, record: logging.LogRecord) -> str:
        text = _text(self, record)
        table = getattr(record, "table", "")
        if self._escape and (text or not table):
            text = json.dumps(text, ensure_ascii=False)
        if table:
            text += f"\n{table}\n"
        return f"{self._head(record)}{record.process} {record.filename}:{record.lineno}] {text}"

    def _head(self, record: logging.LogRecord) -> str:
        letter = _LETTERS.get(record.levelname, "I")
        if self._iso:
            return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%SZ} {letter} "
        return f"{letter}{datetime.fromtimestamp(record.created):%m%d %H:%M:%S.%f} "


class _Json(logging.Formatter):
    """An object per line; what a record carries as `fields` becomes keys of its own."""

    def format(self, record: logging.LogRecord) -> str:
        table = getattr(record, "table", "")
        entry = {
            "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": record.levelname,
            "process": record.process,
            "file": record.filename,
            "line": record.lineno,
            "message": "\n".join(filter(None, (_text(self, record), table))),
        }
        return json.dumps(entry | getattr(record, "fields", {}), ensure_ascii=False)


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows in Triton's frame of `+`, `-` and `|`; a cell may have several lines."""
    cells = [[text.splitlines() or [""] for text in row] for row in (header, *rows)]
    widths = [
        max(len(line) for row in cells for line in row[column]) for column in range(len(header))
    ]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = [rule]
    for index, row in enumerate(cells):
        for part in range(max(len(cell) for cell in row)):
            texts = (cell[part] if part < len(cell) else "" for cell in row)
            padded = (f" {text:<{width}} " for text, width in zip(texts, widths, strict=True))
            lines.append("|" + "|".join(padded) + "|")
        if index == 0:
            lines.append(rule)
    return "\n".join([*lines, rule])
