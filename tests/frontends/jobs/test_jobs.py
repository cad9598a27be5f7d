"""When jobs run, what is told of them, and what becomes of them when things go wrong."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from nerite.frontends.jobs.job import Job, JobStatus
from nerite.frontends.jobs.jobs import Jobs
from nerite.frontends.jobs.live import Advance, Preview, View
from nerite.frontends.jobs.painter import PaintingFailed
from nerite.frontends.jobs.place import MEMORY
from nerite.frontends.jobs.runner import Limits
from nerite.frontends.jobs.store import JobStore, NewJob, StoreFull


class Easel:
    """A painter that does as the test says; its pictures are what was asked."""

    def __init__(self) -> None:
        self.at_work: list[str] = []
        self.most_at_work = 0
        self.painted: list[str] = []
        self.given_up: list[str] = []
        self.go = asyncio.Event()
        self.failures: list[PaintingFailed] = []
        self.missing: bytes | None = None

    def problem(self, model: str) -> bytes | None:
        return self.missing

    async def paint(self, job: Job, request: bytes) -> AsyncGenerator[Advance | Preview | bytes]:
        self.at_work.append(job.id)
        self.most_at_work = max(self.most_at_work, len(self.at_work))
        try:
            if self.failures:
                raise self.failures.pop()
            yield Advance(0.5, eta_seconds=1.0)
            yield Preview("cGljdHVyZQ==", 5)
            await self.go.wait()
            self.painted.append(job.id)
            yield request
        except (GeneratorExit, asyncio.CancelledError):
            self.given_up.append(job.id)
            raise
        finally:
            self.at_work.remove(job.id)


def wanted(number: int, images: int = 1, model: str = "painter") -> NewJob:
    request = b'{"prompt":"%d"}' % number
    return NewJob(f"job-{number}", "", model, images, 1.0, request, b"{}", b"digest")


@contextlib.asynccontextmanager
async def running(
    easel: Easel, path: str = MEMORY, limits: Limits | None = None
) -> AsyncIterator[Jobs]:
    store = JobStore(path)
    await store.open()
    jobs = Jobs(store, easel, limits or Limits(images=2))
    await jobs.start()
    try:
        yield jobs
    finally:
        await jobs.close()


async def end_of(jobs: Jobs, number: int) -> View:
    """What is last told of a job to one that watches it."""
    last = None
    async with asyncio.timeout(20):
        async for told in jobs.watch(f"job-{number}", ""):
            last = told
    assert isinstance(last, View) and last.job.status.final
    return last


async def until(jobs: Jobs, number: int, status: JobStatus) -> View:
    async with asyncio.timeout(20):
        async for told in jobs.watch(f"job-{number}", ""):
            if isinstance(told, View) and told.job.status is status:
                return told
    raise AssertionError(f"it never was {status}")


async def test_jobs_run_in_their_order_and_so_many_at_a_time() -> None:
    easel = Easel()
    async with running(easel) as jobs:
        views = [(await jobs.accept(wanted(number)))[0] for number in range(6)]
        assert [view.queue_position for view in views] == [0, 0, 1, 2, 3, 4]
        assert [view.job.status for view in views[1:3]] == [JobStatus.RUNNING, JobStatus.QUEUED]
        easel.go.set()
        ends = [await end_of(jobs, number) for number in range(6)]
        assert [end.job.status for end in ends] == [JobStatus.SUCCEEDED] * 6
        assert [end.job.result for end in ends] == [wanted(number).request for number in range(6)]
        assert easel.most_at_work == 2 and sorted(easel.painted) == easel.painted


async def test_a_job_of_many_pictures_runs_alone() -> None:
    easel = Easel()
    async with running(easel) as jobs:
        for number, images in enumerate((1, 10, 1)):
            await jobs.accept(wanted(number, images))
        await until(jobs, 0, JobStatus.RUNNING)
        assert easel.at_work == ["job-0"]
        easel.go.set()
        for number in range(3):
            await end_of(jobs, number)
        assert easel.painted == ["job-0", "job-1", "job-2"]


async def test_one_models_jobs_do_not_wait_for_anothers() -> None:
    easel = Easel()
    async with running(easel) as jobs:
        for number in range(4):
            await jobs.accept(wanted(number))
        await jobs.accept(wanted(9, model="other"))
        await until(jobs, 9, JobStatus.RUNNING)


async def test_who_watches_sees_places_previews_and_the_end() -> None:
    easel = Easel()
    async with running(easel) as jobs:
        for number in range(4):
            await jobs.accept(wanted(number))
        seen: list[tuple[str, int, float]] = []
        previews = []

        async def watch() -> None:
            async for told in jobs.watch("job-3", ""):
                if isinstance(told, Preview):
                    previews.append(told)
                else:
                    seen.append((told.job.status, told.queue_position, told.progress))
                if told == Preview("cGljdHVyZQ==", 5):
                    easel.go.set()

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        await jobs.cancel("job-2", "")
        await jobs.cancel("job-0", "")
        await asyncio.wait_for(watching, 20)
        assert seen[0] == ("queued", 2, 0.0) and seen[1] == ("queued", 1, 0.0)
        assert seen[-1] == ("succeeded", 0, 1.0)
        assert ("running", 0, 0.5) in seen
        assert previews == [Preview("cGljdHVyZQ==", 5)]


async def test_a_job_is_cancelled_wherever_it_is() -> None:
    easel = Easel()
    async with running(easel) as jobs:
        for number in range(3):
            await jobs.accept(wanted(number))
        await until(jobs, 0, JobStatus.RUNNING)
        for number in (0, 2):
            view = await jobs.cancel(f"job-{number}", "")
            assert view is not None and view.job.status is JobStatus.CANCELLED
        assert easel.given_up == ["job-0"]
        easel.go.set()
        await end_of(jobs, 1)
        assert await jobs.cancel("job-0", "") is None
        assert await jobs.delete("job-0", "") and not await jobs.delete("job-0", "")
        assert await jobs.find("job-0", "") is None


async def test_cancelling_twice_is_cancelling_once() -> None:
    async with running(Easel()) as jobs:
        for number in range(3):
            await jobs.accept(wanted(number))
        ends = await asyncio.gather(*[jobs.cancel(f"job-{n}", "") for n in (0, 0, 2, 2)])
        assert {end.job.status for end in ends if end} == {JobStatus.CANCELLED} and all(ends)


async def test_there_is_an_end_to_what_is_accepted() -> None:
    easel = Easel()
    async with running(easel, limits=Limits(most=3, images=1)) as jobs:
        asked = [jobs.accept(wanted(number)) for number in range(8)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(one, StoreFull) for one in answers] == [False] * 3 + [True] * 5
        easel.go.set()
        await end_of(jobs, 2)
        await jobs.accept(wanted(9))
        assert (await end_of(jobs, 9)).job.status is JobStatus.SUCCEEDED


async def test_what_may_go_better_later_is_tried_again() -> None:
    easel = Easel()
    easel.go.set()
    easel.failures = [PaintingFailed(b'{"message":"busy"}', again=True)]
    async with running(easel) as jobs:
        await jobs.accept(wanted(1))
        assert (await end_of(jobs, 1)).job.status is JobStatus.SUCCEEDED


async def test_what_fails_says_why_and_others_go_on() -> None:
    easel = Easel()
    easel.go.set()
    easel.failures = [PaintingFailed(b'{"message":"no such colour"}')]
    async with running(easel) as jobs:
        await jobs.accept(wanted(1))
        await jobs.accept(wanted(2))
        end = await end_of(jobs, 1)
        assert end.job.status is JobStatus.FAILED
        assert end.job.error == b'{"message":"no such colour"}'
        assert (await end_of(jobs, 2)).job.status is JobStatus.SUCCEEDED


async def test_jobs_wait_for_a_model_that_is_not_there() -> None:
    easel = Easel()
    easel.go.set()
    easel.missing = b'{"message":"not loaded"}'
    async with running(easel, limits=Limits(lifetime=1e12)) as jobs:
        await jobs.accept(wanted(1))
        assert (await jobs.accept(wanted(2)))[0].job.status is JobStatus.QUEUED
        easel.missing = None
        assert (await end_of(jobs, 1)).job.status is JobStatus.SUCCEEDED
        easel.missing = b'{"message":"not loaded"}'
    async with running(easel, limits=Limits(lifetime=1)) as jobs:
        await jobs.accept(wanted(3))
        end = await end_of(jobs, 3)
        assert (end.job.status, end.job.error) == ("failed", b'{"message":"not loaded"}')


async def test_what_was_not_finished_is_begun_again_by_the_next_server(tmp_path: Path) -> None:
    easel, path = Easel(), str(tmp_path / "jobs.db")
    async with running(easel, path) as jobs:
        for number in range(5):
            await jobs.accept(wanted(number))
        await until(jobs, 0, JobStatus.RUNNING)
        await jobs.cancel("job-4", "")
        jobs.stop()
    assert sorted(easel.given_up) == ["job-0", "job-1"] and not easel.at_work
    easel.go.set()
    async with running(easel, path) as jobs:
        for number in range(4):
            assert (await end_of(jobs, number)).job.result == wanted(number).request
        newest = await jobs.newest("", 2)
        assert newest is not None
        assert [view.job.id for view in newest] == ["job-4", "job-3"]
        older = await jobs.newest("", 9, "job-3")
        assert older is not None
        assert [view.job.id for view in older] == ["job-2", "job-1", "job-0"]
        assert await jobs.newest("", 9, "job-77") is None


async def test_what_has_ended_is_forgotten_in_time() -> None:
    easel = Easel()
    easel.go.set()
    async with running(easel, limits=Limits(lifetime=0.2)) as jobs:
        await jobs.accept(wanted(1))
        await end_of(jobs, 1)
        async with asyncio.timeout(20):
            while await jobs.find("job-1", "") is not None:
                await asyncio.sleep(0.05)


async def test_nobody_hears_of_the_end_before_it_is_kept(tmp_path: Path) -> None:
    """And where it cannot be kept, that is the end."""
    easel = Easel()
    store = JobStore(str(tmp_path / "jobs.db"), size=1 << 17)
    await store.open()
    jobs = Jobs(store, easel, Limits())
    await jobs.start()
    easel.paint = lambda job, request: _large()  # type: ignore[method-assign]
    await jobs.accept(wanted(2))
    end = await end_of(jobs, 2)
    assert end.job.status is JobStatus.FAILED and b"could not be kept" in (end.job.error or b"")
    await jobs.close()


async def _large() -> AsyncGenerator[Advance | Preview | bytes]:
    yield b"y" * (1 << 18)


async def test_a_stranger_sees_nothing() -> None:
    async with running(Easel()) as jobs:
        await jobs.accept(wanted(1))
        assert await jobs.find("job-1", "stranger") is None
        assert await jobs.cancel("job-1", "stranger") is None
        assert not await jobs.delete("job-1", "stranger")
        assert [told async for told in jobs.watch("job-1", "stranger")] == []
        assert await jobs.newest("stranger", 10) == []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                async for _ in jobs.watch("job-1", ""):
                    pass
