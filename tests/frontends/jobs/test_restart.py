"""Servers that are killed, stopped and started again on the same file of jobs."""

import contextlib
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...conftest import ServerProcess, run_server, start_process
from .client import JOBS, accepted, alike, connect, finished


@contextlib.contextmanager
def killed(log: Path, *options: str) -> Iterator[ServerProcess]:
    """A server that ends as a power cut would end it."""
    server = start_process(log, *options)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def test_a_killed_server_loses_no_job(tmp_path: Path) -> None:
    """Killed twice in the middle; each job is painted from the seed it was accepted with, and
    what was done stays as it was."""
    options = ("--jobs-path", str(tmp_path / "jobs.db"), "--job-images", "2")
    with killed(tmp_path / "first", *options) as server, connect(server) as client:
        jobs = [accepted(client, f"key {number}", steps=6) for number in range(8)]
        early = finished(client, jobs[0]["id"])
    with killed(tmp_path / "second", *options) as server, connect(server) as client:
        late = accepted(client, steps=6)
        finished(client, jobs[3]["id"])
    with run_server(tmp_path / "third", *options) as server, connect(server) as client:
        done = [finished(client, job["id"]) for job in [*jobs, late]]
        assert {job["status"] for job in done} == {"succeeded"}
        assert done[0] == early
        assert accepted(client, "key 7", steps=6) == done[7]
        for asked, job in zip([*jobs, late], done, strict=True):
            assert job["result"]["data"][0]["seed"] == asked["request"]["seed"]
        body = {"prompt": "a red house", "steps": 6, "seed": jobs[7]["request"]["seed"]}
        again = client.post("/v1/images/generations", json=body).json()
        assert alike({"result": again}, done[7])


def test_a_stopped_server_leaves_its_jobs_to_the_next(tmp_path: Path, shades: Path) -> None:
    options = ("--jobs-path", str(tmp_path / "jobs.db"), "--job-lifetime", "2")
    options += ("--model-repository", str(shades))
    with run_server(tmp_path / "first", *options) as server, connect(server) as client:
        short = finished(client, accepted(client)["id"])
        jobs = [accepted(client, prompt="slow", n=10) for _ in range(20)]
    with run_server(tmp_path / "second", *options) as server, connect(server) as client:
        for job in jobs[:3]:
            assert client.delete(f"{JOBS}/{job['id']}").json()["status"] == "cancelled"
        listed = client.get(JOBS, params={"limit": 100}).json()["data"]
        assert {job["id"] for job in jobs} <= {job["id"] for job in listed}
        while client.get(f"{JOBS}/{short['id']}").status_code != 404:
            pass
        for job in jobs[3:]:
            client.delete(f"{JOBS}/{job['id']}")


def test_jobs_wait_for_a_model_that_comes_later(tmp_path: Path, shades: Path) -> None:
    options = ("--jobs-path", str(tmp_path / "jobs.db"), "--model-control-mode", "explicit")
    options += ("--model-repository", str(shades))
    load = "/v2/repository/models/shade/load"
    loaded = ("--load-model", "shade")
    with killed(tmp_path / "first", *options, *loaded) as server, connect(server) as client:
        job = accepted(client, prompt="slow", n=10)
    with run_server(tmp_path / "second", *options) as server, connect(server) as client:
        assert client.get(f"{JOBS}/{job['id']}").json()["status"] == "queued"
        assert client.post(load).status_code == 200
        assert finished(client, job["id"])["status"] == "succeeded"


def test_without_a_path_jobs_are_kept_for_their_port(tmp_path: Path, shades: Path) -> None:
    with (
        run_server(tmp_path / "log", "--model-repository", str(shades)) as server,
        connect(server) as client,
    ):
        file = tmp_path / "state" / "nerite" / f"jobs-{server.http_port}.db"
        assert client.get(JOBS).json()["data"] == []
        assert not file.exists()
        finished(client, accepted(client)["id"])
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_servers_do_not_share_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "jobs.db")
    with run_server(tmp_path / "log", "--jobs-path", path):
        command = [sys.executable, "-m", "nerite", "serve", "--jobs-path", path]
        ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
        second = subprocess.run(command + ports, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert f"--jobs-path: '{path}' is in use by another server" in second.stderr


def test_a_folder_that_cannot_be_written_costs_only_the_keeping(
    tmp_path: Path, shades: Path
) -> None:
    (tmp_path / "state").write_text("a file where a folder would be")
    options = ("--model-repository", str(shades))
    with run_server(tmp_path / "log", *options) as server, connect(server) as client:
        assert finished(client, accepted(client)["id"])["status"] == "succeeded"
        assert "jobs will not outlive this server" in server.log.read_text()


@pytest.mark.parametrize("path", ["/proc/nowhere/jobs.db", "."])
def test_a_path_that_cannot_be_used_is_told_at_once(path: str) -> None:
    command = [sys.executable, "-m", "nerite", "serve", "--jobs-path", path]
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    ran = subprocess.run(command + ports, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1 and f"--jobs-path: '{path}' cannot be used" in ran.stderr
