"""`nerite jobs`: have a server paint while nobody waits, and fetch the pictures later."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from typing import Any

from nerite.client import Client, Job, JobFailed
from nerite.commands.arguments import painting
from nerite.commands.failing import status_of
from nerite.commands.files import numbered, picture_path, save
from nerite.commands.table import print_table
from nerite.commands.terminal import Waiting


def run_submit(options: argparse.Namespace) -> int:
    """Submit one and print its name; the exit status."""

    def work() -> None:
        with _client(options) as client:
            job = client.jobs.submit(
                options.prompt,
                n=options.n,
                idempotency_key=options.idempotency_key,
                **painting(options),
            )
        if options.format == "json":
            _print_json(job)
        else:
            print(job.id)

    return status_of("jobs", work)


def run_list(options: argparse.Namespace) -> int:
    """The newest ones; the exit status."""

    def work() -> None:
        with _client(options) as client:
            jobs = client.jobs.list(options.limit)
        if options.format == "json":
            print(json.dumps([_document(job) for job in jobs], indent=2))
        else:
            rows = [(job.id, job.status, _age(job), _prompt(job)) for job in jobs]
            print_table(("JOB", "STATUS", "AGE", "PROMPT"), rows)

    return status_of("jobs", work)


def run_show(options: argparse.Namespace) -> int:
    """One; the exit status."""

    def work() -> None:
        with _client(options) as client:
            job = client.jobs.get(options.id)
        _tell(job, options)

    return status_of("jobs", work)


def run_wait(options: argparse.Namespace) -> int:
    """Wait for one and save its pictures; the exit status is 1 when it fails."""

    def work() -> None:
        with _client(options) as client:
            prompt = str(client.jobs.get(options.id).request.get("prompt", ""))
            file = picture_path(options.output, prompt, ".png")
            with Waiting("waiting") as waiting:
                job = _wait(client, options, waiting)
        if options.format == "json":
            _print_json(job)
        for picture in job.pictures:
            path = numbered(file, picture.index, len(job.pictures) > 1)
            save(picture, path, picture.settings)
            if options.format == "text":
                print(f"{path}  seed {picture.seed}")

    return status_of("jobs", work)


def _wait(client: Client, options: argparse.Namespace, waiting: Waiting) -> Job:
    with client.jobs.follow(options.id, options.timeout) as updates:
        for job in updates:
            if job.queue_position:
                waiting.say(f"{job.status}, {job.queue_position} before this one")
            else:
                waiting.bar(job.status, job.progress)
    job = client.jobs.get(options.id)
    if job.status != "succeeded":
        raise JobFailed(job)
    return job


def run_cancel(options: argparse.Namespace) -> int:
    """Cancel one, or delete a finished one; the exit status."""

    def work() -> None:
        with _client(options) as client:
            job = client.jobs.cancel(options.id)
        if job is not None:
            _tell(job, options)
        elif options.format == "text":
            print(f"{options.id}  deleted")

    return status_of("jobs", work)


def _client(options: argparse.Namespace) -> Client:
    return Client(options.url, api_key=options.api_key, timeout=options.timeout)


def _tell(job: Job, options: argparse.Namespace) -> None:
    if options.format == "json":
        _print_json(job)
        return
    print(f"{job.id}  {job.status}")
    words = [f"prompt: {_prompt(job)}", f"age: {_age(job)}"]
    if job.queue_position:
        words.append(f"before it in the queue: {job.queue_position}")
    if not job.finished:
        words.append(f"progress: {job.progress:.0%}")
    if job.eta_seconds is not None and not job.finished:
        words.append(f"done in about {job.eta_seconds:.0f} s")
    words += [f"error: {job.error}"] if job.error else []
    words += [f"pictures: {len(job.pictures)}"] if job.pictures else []
    for line in words:
        print(f"  {line}")


def _print_json(job: Job) -> None:
    print(json.dumps(_document(job), indent=2))


def _document(job: Job) -> dict[str, Any]:
    """The job without the bytes of its pictures, which are no text."""
    fields = {field.name: getattr(job, field.name) for field in dataclasses.fields(job)}
    fields["pictures"] = [
        {"seed": picture.seed, **dict(picture.settings)} for picture in job.pictures
    ]
    return fields | {"request": dict(job.request)}


def _prompt(job: Job) -> str:
    return " ".join(str(job.request.get("prompt", "")).split())


def _age(job: Job) -> str:
    seconds = max(time.time() - job.created_at, 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
