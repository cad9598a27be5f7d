"""Job: a picture that was promised, from its acceptance to its end."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class JobStatus(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True)
class Job:
    """What is kept of a job, but for what was asked in full.

    number: rises with every job that is accepted. owner: whose key accepted it; others do not see
    it. images: how many pictures it is to paint. shown: what was asked as JSON, without the
    pictures that came with it. created, finished: seconds since 1970, finished is 0 until it is.
    result, error: JSON, where there are any and they were asked for.
    """

    number: int
    id: str
    owner: str
    model: str
    images: int
    shown: bytes
    created: float
    status: JobStatus = JobStatus.QUEUED
    finished: float = 0.0
    result: bytes | None = None
    error: bytes | None = None
