"""Repositories on object stores: fsspec's own memory, and servers of each store's protocol."""

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from nerite.core.errors import InferenceError, Status
from nerite.repository.repository import Repository

from .azure_blobs import azure_blobs

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


@contextmanager
def running(module: str, *arguments: str) -> Iterator[str]:
    """A store in a process of its own, given its port as the last argument; its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", module, *arguments, str(port)],
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


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with running("moto.server", "-H", "127.0.0.1", "-p") as address:
        yield address


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


def test_gs(monkeypatch: pytest.MonkeyPatch, mirror: Open) -> None:
    # Or else it asks about each bucket through another, gRPC API, which no emulator has.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    gcsfs = pytest.importorskip("gcsfs")
    pytest.importorskip("gcp_storage_emulator")
    with running(
        "gcp_storage_emulator", "start", "--host=127.0.0.1", "--in-memory", "--port"
    ) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{address}")
        files = gcsfs.GCSFileSystem(token="anon", skip_instance_cache=True)
        files.mkdir("bucket")
        files.pipe({"bucket/models/m/config.pbtxt": CONFIG, "bucket/models/m/1/model.py": b"1"})
        repository = mirror("gs://bucket/models")
        (entry,) = repository.scan()
        assert (entry.name, entry.versions, entry.error) == ("m", [1], None)
        files.pipe({"bucket/models/m/2/model.py": b"2"})
        (entry,) = repository.scan()
        assert entry.versions == [2]
        assert (entry.folder / "2" / "model.py").read_bytes() == b"2"
        with pytest.raises(InferenceError, match="does not exist or is empty"):
            mirror("gs://bucket/none").scan()


def test_as(monkeypatch: pytest.MonkeyPatch, mirror: Open) -> None:
    pytest.importorskip("adlfs")
    blobs = {"box/models/m/config.pbtxt": CONFIG, "box/models/m/1/model.py": b"1" * 5_000_000}
    with azure_blobs("team", blobs) as connection:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
        repository = mirror("as://team.blob.core.windows.net/box/models")
        (entry,) = repository.scan()
        assert (entry.name, entry.versions, entry.error) == ("m", [1], None)
        assert (entry.folder / "1" / "model.py").stat().st_size == 5_000_000
        blobs["box/models/m/2/model.py"] = b"2"
        (entry,) = repository.scan()
        assert (entry.folder / "2" / "model.py").read_bytes() == b"2"
        with pytest.raises(InferenceError, match="does not exist or is empty"):
            mirror("as://team/box/none").scan()


def test_libraries_that_are_not_installed() -> None:
    pytest.importorskip("fsspec")
    code = """
        import sys
        sys.modules |= dict.fromkeys(("s3fs", "gcsfs", "adlfs"))
        from nerite.core.errors import InferenceError
        from nerite.repository.repository import Repository
        for uri in ("s3://b/m", "gs://b/m", "as://a/b/m"):
            try:
                Repository([uri])
            except InferenceError as error:
                print(error.status.name, error.message)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    for line, uri, extra in zip(
        said, ("s3://b/m", "gs://b/m", "as://a/b/m"), ("s3", "gs", "as"), strict=True
    ):
        assert line.startswith(f"UNSUPPORTED model repository '{uri}' needs a library")
        assert line.endswith(f"pip install 'nerite[{extra}]'")
