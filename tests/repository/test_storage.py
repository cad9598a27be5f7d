"""Repositories on object stores: fsspec's own memory, and a real S3 server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from nerite.core.errors import InferenceError, Status
from nerite.repository.repository import Repository

CONFIG = b'backend: "python"'


@pytest.fixture
def memory() -> Iterator[Any]:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe({"/repo/m/config.pbtxt": CONFIG, "/repo/m/1/model.py": b"1"})
    yield files
    files.rm("/repo", recursive=True)


@pytest.fixture
def mirror() -> Iterator[Callable[[str], Repository]]:
    with ExitStack() as stack:

        def opened(uri: str) -> Repository:
            repository = Repository([uri])
            stack.callback(repository.close)
            return repository

        yield opened


Open = Callable[[str], Repository]


def test_a_mirror_follows_its_store(memory: Any, mirror: Open) -> None:
    repository = mirror("memory://repo")
    (entry,) = repository.scan()
    assert (entry.name, entry.versions, entry.error) == ("m", [1], None)
    assert (entry.folder / "1" / "model.py").read_bytes() == b"1"
    memory.pipe({"/repo/m/1/model.py": b"22", "/repo/n/config.pbtxt": CONFIG})
    memory.pipe({"/repo/n/3/model.py": b"3"})
    found = {entry.name: entry for entry in repository.scan()}
    assert list(found) == ["m", "n"]
    assert found["m"].fingerprint != entry.fingerprint
    assert (found["m"].folder / "1" / "model.py").read_bytes() == b"22"
    memory.rm("/repo/n", recursive=True)
    assert [entry.name for entry in repository.scan()] == ["m"]
    assert repository.find("n") is None


def test_unchanged_files_are_not_fetched_again(memory: Any, mirror: Open) -> None:
    repository = mirror("memory://repo")
    (entry,) = repository.scan()
    file = entry.folder / "1" / "model.py"
    before = file.stat().st_ino
    (again,) = repository.scan()
    assert file.stat().st_ino == before
    assert again.fingerprint == entry.fingerprint


def test_what_cannot_be_read(mirror: Open) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(InferenceError, match="'memory://nothing' does not exist") as caught:
        mirror("memory://nothing").scan()
    assert caught.value.status is Status.NOT_FOUND
    with pytest.raises(InferenceError, match="nonsense"):
        mirror("nonsense://repo")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A moto server in a process of its own; its host and port."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_s3(s3: str, mirror: Open) -> None:
    import s3fs

    files = s3fs.S3FileSystem(endpoint_url=f"http://{s3}")
    files.mkdir("bucket")
    files.pipe({"bucket/models/m/config.pbtxt": CONFIG, "bucket/models/m/1/model.py": b"1"})
    repository = mirror(f"s3://{s3}/bucket/models")
    (entry,) = repository.scan()
    assert (entry.name, entry.versions, entry.error) == ("m", [1], None)
    files.pipe({"bucket/models/m/2/model.py": b"2"})
    (entry,) = repository.scan()
    assert entry.versions == [2]
    assert (entry.folder / "2" / "model.py").read_bytes() == b"2"
    with pytest.raises(InferenceError, match="does not exist or is empty"):
        mirror(f"s3://http://{s3}/bucket/none").scan()
