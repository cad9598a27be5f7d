"""What a command shows while it waits: a line on the terminal's stderr, nothing elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import Self

_BAR = 20


class Waiting:
    """A line that turns, says what is going on and for how long; silent where no one looks."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._unicode = "utf" in (sys.stderr.encoding or "").lower()
        self._frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if self._unicode else "|/-\\"
        self._done = threading.Event()
        self._pen = threading.Lock()
        self._thread = threading.Thread(target=self._turn, daemon=True)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._write("\r\x1b[K")

    def say(self, text: str) -> None:
        """What the line says from now on."""
        self._text = text

    def bar(self, text: str, share: float) -> None:
        """As `say`, with a bar that is filled to `share` of it, from 0 to 1."""
        filled = round(_BAR * min(max(share, 0.0), 1.0))
        full, empty = "█░" if self._unicode else "#."
        self._text = f"{full * filled}{empty * (_BAR - filled)} {text}"

    def print(self, line: str) -> None:
        """A line of the command's own output, above the one that turns."""
        with self._pen:
            if self._thread.is_alive():
                self._write("\r\x1b[K")
            print(line, flush=True)

    def _turn(self) -> None:
        began = time.monotonic()
        turn = 0
        while not self._done.wait(0.1):
            frame = self._frames[turn % len(self._frames)]
            turn += 1
            line = f"{frame} {self._text} {time.monotonic() - began:.1f} s"
            with self._pen:
                self._write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
