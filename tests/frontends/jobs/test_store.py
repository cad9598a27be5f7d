"""What is accepted is on the disk; the file is one server's; keys, lifetimes and sizes."""

import asyncio
import dataclasses
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nerite.frontends.jobs.job import Job, JobStatus
from nerite.frontends.jobs.place import MEMORY, DatabaseError
from nerite.frontends.jobs.store import JobStore, KeyReused, NewJob, StoreFull

FIRST = NewJob("job-1", "", "painter", 1, 100.0, b'{"prompt":"a"}', b"{}", b"digest")


def another(number: int, **more: object) -> NewJob:
    return dataclasses.replace(FIRST, id=f"job-{number}", **more)  # type: ignore[arg-type]


def ended(job: Job, at: float, **more: object) -> Job:
    status = JobStatus.SUCCEEDED
    return dataclasses.replace(job, status=status, finished=at, **more)  # type: ignore[arg-type]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[JobStore]:
    store = JobStore(str(tmp_path / "kept" / "jobs.db"))
    await store.open()
    yield store
    await store.close()


async def test_a_job_is_found_as_it_was_accepted_and_ended(store: JobStore) -> None:
    job, new = await store.add(FIRST)
    assert new and job == Job(1, "job-1", "", "painter", 1, b"{}", 100.0)
    assert await store.find("job-1", "") == job
    assert await store.request(job) == FIRST.request
    done = ended(job, 200.0, result=b'{"data":[]}')
    await store.finish(done)
    assert await store.find("job-1", "") == done
    assert await store.unfinished() == []


async def test_a_key_means_one_job_for_each_owner(store: JobStore) -> None:
    first, _ = await store.add(another(1, key="k"))
    assert await store.add(another(2, key="k")) == (first, False)
    with pytest.raises(KeyReused):
        await store.add(another(3, key="k", digest=b"other"))
    other, new = await store.add(another(4, key="k", owner="someone else"))
    assert new and other.id == "job-4"
    assert [job.id for job in await store.unfinished()] == ["job-1", "job-4"]


async def test_others_jobs_are_not_seen(store: JobStore) -> None:
    await store.add(another(1, owner="me"))
    assert await store.find("job-1", "you") is None
    assert await store.newest("you", 10, 100) == []
    assert [job.id for job in await store.newest("me", 10, 100)] == ["job-1"]


async def test_the_newest_come_first_and_in_pages(store: JobStore) -> None:
    for number in range(1, 6):
        await store.add(another(number))
    page = await store.newest("", 2, 1 << 62)
    assert [job.id for job in page] == ["job-5", "job-4"]
    page = await store.newest("", 9, page[-1].number)
    assert [job.id for job in page] == ["job-3", "job-2", "job-1"]


async def test_what_has_ended_is_swept_and_what_has_not_is_kept(store: JobStore) -> None:
    jobs = [(await store.add(another(number)))[0] for number in (1, 2, 3)]
    await store.finish(ended(jobs[0], 10.0, result=b"x" * 100_000))
    await store.finish(ended(jobs[1], 20.0))
    assert await store.sweep(15.0) == 1
    assert [job.id for job in await store.newest("", 9, 99)] == ["job-3", "job-2"]
    await store.delete(jobs[1])
    assert [job.id for job in await store.newest("", 9, 99)] == ["job-3"]


async def test_one_that_fails_takes_no_other_along(store: JobStore) -> None:
    """Asked for in one breath, and so committed together."""
    several = [another(number % 7, key=f"k{number}") for number in range(20)]
    done = await asyncio.gather(*map(store.add, several), return_exceptions=True)
    assert sum(isinstance(one, sqlite3.IntegrityError) for one in done) == 13
    assert len(await store.unfinished()) == 7


async def test_who_does_not_wait_is_no_harm(store: JobStore) -> None:
    adding = asyncio.ensure_future(store.add(another(1)))
    await asyncio.sleep(0)
    adding.cancel()
    await store.add(another(2))
    assert "job-2" in [job.id for job in await store.unfinished()]


async def test_jobs_outlive_their_server(tmp_path: Path) -> None:
    """It is killed in the middle of accepting; what it had said yes to is there."""
    path = tmp_path / "jobs.db"
    program = f"""
import asyncio, os, sys
from nerite.frontends.jobs.store import JobStore, NewJob
async def main():
    store = JobStore({str(path)!r})
    await store.open()
    async def accept(number):
        job, _ = await store.add(NewJob(f"job-{{number}}", "", "m", 1, 1.0, b"", b"", b""))
        os.write(1, job.id.encode() + b"\\n")
        if number == 700:
            os.kill(os.getpid(), 9)
    await asyncio.gather(*map(accept, range(1000)))
asyncio.run(main())
"""
    ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert ran.returncode == -9
    accepted = set(ran.stdout.decode().split())
    assert len(accepted) > 600
    store = JobStore(str(path))
    await store.open()
    kept = {job.id for job in await store.unfinished()}
    await store.close()
    assert accepted <= kept


async def test_a_file_belongs_to_one_server(store: JobStore) -> None:
    with pytest.raises(DatabaseError, match=r"in use by another server; name another file"):
        await JobStore(store.path).open()


async def test_a_file_is_its_users_alone(store: JobStore) -> None:
    path = Path(store.path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but somebody's notes " * 100)
    with pytest.raises(DatabaseError, match=r"notes.txt' cannot be used: file is not a database"):
        await JobStore(str(path)).open()
    assert path.read_text().startswith("not a database")
    with pytest.raises(DatabaseError, match="Is a directory|unable to open"):
        await JobStore(str(tmp_path)).open()


async def test_a_later_versions_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(DatabaseError, match="is of version 7, and this server knows 1"):
        await JobStore(str(path)).open()


async def test_a_full_store_takes_no_more_and_can_still_finish(tmp_path: Path) -> None:
    store = JobStore(str(tmp_path / "jobs.db"), size=1 << 20)
    await store.open()
    jobs = []
    with pytest.raises(StoreFull):
        for number in range(100):
            jobs.append((await store.add(another(number, request=b"x" * 50_000)))[0])
    assert len(jobs) > 10
    await store.finish(ended(jobs[0], 1.0, result=b"y" * 60_000))
    for job in jobs:
        await store.delete(job)
    await store.add(another(200))
    await store.close()
    assert os.path.getsize(store.path) <= 1 << 20


async def test_a_disk_that_is_full_is_told(tmp_path: Path) -> None:
    store = JobStore(str(tmp_path / "jobs.db"), size=1 << 17)
    await store.open()
    job, _ = await store.add(FIRST)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await store.finish(ended(job, 1.0, result=b"y" * (1 << 18)))
    assert await store.find("job-1", "") == job
    await store.close()


async def test_without_a_file_jobs_live_in_memory() -> None:
    store = JobStore(MEMORY)
    await store.open()
    await store.add(FIRST)
    assert len(await store.unfinished()) == 1
    await store.close()
