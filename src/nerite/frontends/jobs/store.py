"""JobStore: the jobs that were accepted, in SQLite, until their lifetime ends."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any

from nerite.frontends.jobs.database import Database
from nerite.frontends.jobs.job import Job, JobStatus

_VERSION = 1
# The large columns come last: SQLite reads a row no further than it must.
_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    images INTEGER NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,
    finished REAL NOT NULL,
    key TEXT,
    digest BLOB NOT NULL,
    shown BLOB NOT NULL,
    error BLOB,
    result BLOB,
    request BLOB
);
CREATE UNIQUE INDEX by_key ON jobs (owner, key) WHERE key IS NOT NULL;
CREATE INDEX by_owner ON jobs (owner, number);
CREATE INDEX by_end ON jobs (finished) WHERE finished > 0;
CREATE INDEX unfinished ON jobs (number) WHERE finished = 0
"""
_BRIEF = "number, id, owner, model, images, shown, created, status, finished"
_SHARE = 0.8  # of the size may be used when a job is accepted: its result needs room too


class KeyReused(Exception):
    """An idempotency key has come again with another request."""


class StoreFull(Exception):
    """No further job fits until some are deleted or have outlived their lifetime."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be accepted. key: idempotency's, None for none; digest: of what was asked."""

    id: str
    owner: str
    model: str
    images: int
    created: float
    request: bytes
    shown: bytes
    digest: bytes
    key: str | None = None


class JobStore:
    """Belongs to the server's loop, and waits for the disk elsewhere. All raise sqlite3.Error."""

    def __init__(self, path: str, size: int = 0) -> None:
        """size: bytes that the file may take, about; 0 for no limit."""
        self._size = size
        self._database = Database(path, _SCHEMA, _VERSION)

    @property
    def path(self) -> str:
        return self._database.path

    async def open(self) -> None:
        """Raises DatabaseError."""
        await asyncio.to_thread(self._database.open)
        if self._size:
            await self._database.run(self._limit)

    def _limit(self, connection: sqlite3.Connection) -> None:
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA max_page_count = {max(self._size // page, 1)}")

    async def close(self) -> None:
        await asyncio.to_thread(self._database.close)

    async def add(self, wanted: NewJob, *, room: bool = True) -> tuple[Job, bool]:
        """The job and whether it is new: it is not where its key has come before.

        Raises KeyReused, and StoreFull for a new one, also where there is no `room` elsewhere.
        """
        return await self._database.run(lambda connection: self._add(connection, wanted, room))

    def _add(self, connection: sqlite3.Connection, wanted: NewJob, room: bool) -> tuple[Job, bool]:
        if wanted.key is not None:
            select = f"SELECT {_BRIEF}, digest FROM jobs WHERE owner = ? AND key = ?"
            row = connection.execute(select, (wanted.owner, wanted.key)).fetchone()
            if row is not None:
                if row[-1] != wanted.digest:
                    raise KeyReused(wanted.key)
                return _job(row[:-1]), False
        if not room or self._size and _used(connection) + len(wanted.request) > self._size * _SHARE:
            raise StoreFull
        row = connection.execute(
            "INSERT INTO jobs (id, owner, model, images, status, created, finished, key, digest, "
            "shown, request) VALUES (:id, :owner, :model, :images, 'queued', :created, 0, :key, "
            f":digest, :shown, :request) RETURNING {_BRIEF}",
            asdict(wanted),
        ).fetchone()
        return _job(row), True

    async def find(self, id: str, owner: str) -> Job | None:
        """With what became of it."""
        select = f"SELECT {_BRIEF}, result, error FROM jobs WHERE id = ? AND owner = ?"

        def work(connection: sqlite3.Connection) -> Job | None:
            row = connection.execute(select, (id, owner)).fetchone()
            return None if row is None else _job(row)

        return await self._database.run(work)

    async def newest(self, owner: str, limit: int, before: int) -> list[Job]:
        """Those accepted before the one of that number, newest first, without their results."""
        select = f"SELECT {_BRIEF}, NULL, error FROM jobs WHERE owner = ? AND number < ? "
        select += "ORDER BY number DESC LIMIT ?"

        def work(connection: sqlite3.Connection) -> list[Job]:
            return [_job(row) for row in connection.execute(select, (owner, before, limit))]

        return await self._database.run(work)

    async def unfinished(self) -> list[Job]:
        """In the order in which they were accepted."""
        select = f"SELECT {_BRIEF} FROM jobs WHERE finished = 0 ORDER BY number"

        def work(connection: sqlite3.Connection) -> list[Job]:
            return [_job(row) for row in connection.execute(select)]

        return await self._database.run(work)

    async def request(self, job: Job) -> bytes:
        """What was asked; of an unfinished job only."""

        def work(connection: sqlite3.Connection) -> bytes:
            select = "SELECT request FROM jobs WHERE number = ?"
            row = connection.execute(select, (job.number,)).fetchone()
            return bytes(row[0])

        return await self._database.run(work)

    async def finish(self, job: Job) -> None:
        """Keep how a job has ended; what was asked is not needed any more."""
        values = (job.status, job.finished, job.result, job.error, job.number)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE jobs SET status = ?, finished = ?, result = ?, error = ?, request = NULL "
                "WHERE number = ?",
                values,
            )

        await self._database.run(work)

    async def delete(self, job: Job) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM jobs WHERE number = ?", (job.number,))

        await self._database.run(work)

    async def sweep(self, before: float) -> int:
        """Forget what was finished before then; how many that were."""

        def work(connection: sqlite3.Connection) -> int:
            delete = "DELETE FROM jobs WHERE finished > 0 AND finished < ?"
            count = connection.execute(delete, (before,)).rowcount
            if count:
                connection.execute("PRAGMA incremental_vacuum").fetchall()
            return count

        return await self._database.run(work)


def _used(connection: sqlite3.Connection) -> int:
    """Bytes of the pages that hold something."""
    page, count, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    )
    return int(page * (count - free))


def _job(row: tuple[Any, ...]) -> Job:
    values = [*row]
    values[7] = JobStatus(row[7])
    return Job(*values)
