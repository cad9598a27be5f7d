"""Database: SQLite in a thread of its own, which commits what many ask for at once together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nerite.frontends.jobs.place import MEMORY, DatabaseError

_JOURNAL = 1 << 24  # bytes that the journal beside the file keeps when it was larger
_TOGETHER = 256  # what is committed at once; a commit waits for the disk, whatever it holds
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
_Asked = tuple[Work[Any], "Future[Any]"]


class Database:
    """One file that belongs to this process alone while it is open; MEMORY for none."""

    def __init__(self, path: str, schema: str, version: int) -> None:
        """schema: what makes an empty file one of `version`."""
        self.path = path
        self._schema = schema
        self._version = version
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Blocks. Raises DatabaseError."""
        opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, args=(opened,), name="jobs-database")
        self._thread.daemon = True
        self._thread.start()
        opened.result()

    async def run(self, work: Work[T]) -> T:
        """What `work` makes of the connection, when it is committed. Raises sqlite3.Error, and
        what `work` raises; then nothing of it is kept."""
        if self._thread is None:
            raise sqlite3.ProgrammingError("the server is stopping")
        done: Future[T] = Future()
        self._asked.put((work, done))
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """When all that was asked is done. Blocks."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            self._asked.put(None)
            thread.join()

    def _serve(self, opened: Future[None]) -> None:
        try:
            connection = self._connect()
        except (OSError, sqlite3.Error, DatabaseError) as error:
            opened.set_exception(self._explain(error))
            return
        opened.set_result(None)
        with contextlib.closing(connection):
            while (batch := self._next()) is not None:
                _commit(connection, batch)

    def _next(self) -> list[_Asked] | None:
        """What was asked by now; None at the end."""
        first = self._asked.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < _TOGETHER and not self._asked.empty():
            one = self._asked.get()
            if one is None:
                self._asked.put(None)
                break
            batch.append(one)
        return batch

    def _connect(self) -> sqlite3.Connection:
        if self.path != MEMORY:
            _make(Path(self.path))
        connection = sqlite3.connect(self.path, timeout=0.0, isolation_level=None)
        try:
            # Without these two another server could open the file, and run the same jobs.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # what is accepted outlives a power cut
            connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL}")
            connection.execute("BEGIN EXCLUSIVE")
            self._prepare(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found == 0:
            for statement in self._schema.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {self._version}")
        elif found != self._version:
            text = f"'{self.path}' is of version {found}, and this server knows {self._version}"
            raise DatabaseError(f"{text}; name another file, or move this one away")

    def _explain(self, error: Exception) -> DatabaseError:
        if isinstance(error, DatabaseError):
            return error
        if "locked" in str(error):
            return DatabaseError(f"'{self.path}' is in use by another server; name another file")
        reason = error.strerror if isinstance(error, OSError) else error
        return DatabaseError(f"'{self.path}' cannot be used: {reason}")


def _make(path: Path) -> None:
    """The file and its folders, for their user's eyes only: prompts are nobody else's concern."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _commit(connection: sqlite3.Connection, batch: list[_Asked]) -> None:
    """Do all of it together; where that cannot be, each by itself, so that a disk which has no
    room for one refuses that one."""
    wanted = [(work, future) for work, future in batch if future.set_running_or_notify_cancel()]
    works = [work for work, _ in wanted]
    try:
        done = _together(connection, works)
    except sqlite3.Error:
        done = [_alone(connection, work) for work in works]
    for (_, future), result in zip(wanted, done, strict=True):
        if isinstance(result, _Failed):
            future.set_exception(result.error)
        else:
            future.set_result(result)


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


def _alone(connection: sqlite3.Connection, work: Work[Any]) -> Any:
    try:
        return _together(connection, [work])[0]
    except sqlite3.Error as error:
        return _Failed(error)


def _together(connection: sqlite3.Connection, works: list[Work[Any]]) -> list[Any]:
    """What each made, or how it failed, once that is committed. Raises sqlite3.Error when nothing
    of it is."""
    connection.execute("BEGIN")
    try:
        results = [_attempt(connection, work) for work in works]
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return results


def _attempt(connection: sqlite3.Connection, work: Work[Any]) -> Any:
    connection.execute("SAVEPOINT one")
    try:
        result = work(connection)
    except Exception as error:
        if not connection.in_transaction:  # SQLite has undone all of it: the disk is full
            raise
        connection.execute("ROLLBACK TO one")
        result = _Failed(error)
    connection.execute("RELEASE one")
    return result
