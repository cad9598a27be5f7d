"""Triton's trace files: JSON arrays, one of everything or numbered ones, written by a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

log = logging.getLogger(__name__)


class TraceFiles:
    """All files of one server; a disk that stalls does not stall the loop."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "trace-writer")
        self._files: dict[str, _TraceFile] = {}

    def append(self, path: str, traces: Sequence[str]) -> None:
        """To the file itself, which is a whole JSON document after each write."""
        self._writer.submit(_guarded, self._file(path).append, traces)

    def number(self, path: str, traces: Sequence[str]) -> None:
        """To the next of PATH.0, PATH.1…"""
        self._writer.submit(_guarded, self._file(path).number, traces)

    def _file(self, path: str) -> _TraceFile:
        return self._files.setdefault(path, _TraceFile(path))

    def close(self) -> None:
        """Wait until all is written."""
        self._writer.shutdown()
        for file in self._files.values():
            file.close()


class _TraceFile:
    """Belongs to the writer's thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stream: IO[bytes] | None = None
        self._next = 0

    def append(self, traces: Sequence[str]) -> None:
        data = ",".join(traces).encode() + b"]"
        if self._stream is None:
            self._stream = open(self._path, "wb")  # noqa: SIM115  open as long as the server
            self._stream.write(b"[" + data)
        else:
            self._stream.seek(-1, 2)
            self._stream.write(b"," + data)
        self._stream.flush()

    def number(self, traces: Sequence[str]) -> None:
        path = f"{self._path}.{self._next}"
        self._next += 1
        with open(path, "wb") as stream:
            stream.write(b"[" + ",".join(traces).encode() + b"]")

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _guarded(write: Callable[[Sequence[str]], None], traces: Sequence[str]) -> None:
    try:
        write(traces)
    except OSError as error:
        log.error("failed creating trace file: %s", error)
