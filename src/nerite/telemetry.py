"""What the server says on stderr: Triton's line format, and its tables."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from datetime import datetime

_LETTERS = {"DEBUG": "I", "INFO": "I", "WARNING": "W", "ERROR": "E", "CRITICAL": "E"}


class _TritonFormatter(logging.Formatter):
    """`I0923 12:00:00.123456 PID file.py:NN] text`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created)
        head = (
            f"{_LETTERS.get(record.levelname, 'I')}{moment:%m%d %H:%M:%S.%f} {record.process} "
            f"{record.filename}:{record.lineno}] "
        )
        text = head + record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def configure(*, verbose: bool) -> None:
    """Send our own log to stderr; other libraries' warnings come with it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TritonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("nerite").setLevel(logging.DEBUG if verbose else logging.INFO)


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
