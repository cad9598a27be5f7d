"""Repositories on object stores: a local mirror of what fsspec finds, brought up to date on demand.

s3://bucket/path, s3://host:port/bucket/path and s3://https://host:port/bucket/path (Triton's forms
for a server other than Amazon's), gs://bucket/path, as://account/container/path, and whatever else
fsspec knows by its scheme. Credentials are those that the stores' own libraries find in the
environment.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nerite.core.errors import InferenceError, Status, invalid

_SCHEME = re.compile(r"([a-z0-9]+)://(.*)")
_S3_HOST = re.compile(r"(https?://)?([^/]+:\d+)/(.*)")
_EXTRAS = {"s3": "nerite[s3]", "gs": "nerite[gs]", "as": "nerite[as]"}


def is_remote(path: str) -> bool:
    return _SCHEME.match(path) is not None


class Mirror:
    """A remote folder and its local copy, which goes with this object."""

    def __init__(self, uri: str) -> None:
        """Raises InferenceError for a scheme or a library that is not there."""
        self._uri = uri
        self._files, root = open_files(uri)
        self._root: str = self._files._strip_protocol(root)
        self._folder = TemporaryDirectory(prefix="nerite-repository-")
        self._seen: dict[str, tuple[Any, ...]] = {}

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)

    def close(self) -> None:
        """Remove the local copy."""
        self._folder.cleanup()

    def refresh(self) -> None:
        """Fetch what is new or has changed, remove what is gone. Raises InferenceError."""
        try:
            self._files.invalidate_cache()
            found = self._files.find(self._root, detail=True)
        except Exception as error:
            text = f"cannot read model repository '{self._uri}': {type(error).__name__}: {error}"
            raise InferenceError(Status.UNAVAILABLE, text) from None
        if not found:
            text = f"model repository '{self._uri}' does not exist or is empty"
            raise InferenceError(Status.NOT_FOUND, text)
        now = {path: _mark(details) for path, details in found.items()}
        for path in self._seen.keys() - now.keys():
            self._local(path).unlink(missing_ok=True)
        for path, mark in now.items():
            if self._seen.get(path) != mark:
                target = self._local(path)
                target.parent.mkdir(parents=True, exist_ok=True)
                # Beside its place first: a reader must never see half a file.
                partial = target.with_name(f".{target.name}.part")
                self._files.get_file(path, str(partial))
                partial.replace(target)
        self._seen = now
        self._remove_empty_folders()

    def _local(self, path: str) -> Path:
        relative = path.removeprefix(self._root).lstrip("/")
        target = (self.folder / relative).resolve()
        if not target.is_relative_to(self.folder.resolve()):
            raise invalid(f"'{path}' in '{self._uri}' leaves the repository")
        return target

    def _remove_empty_folders(self) -> None:
        for folder, _, _ in os.walk(self.folder, topdown=False):
            if Path(folder) != self.folder and not os.listdir(folder):
                os.rmdir(folder)


def _mark(details: dict[str, Any]) -> tuple[Any, ...]:
    """What changes when a file does; stores call it by different names."""
    names = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "updated")
    return (details.get("size"), *(str(details[name]) for name in names if name in details))


def open_files(uri: str, what: str = "model repository") -> tuple[Any, str]:
    """The file system of a URI, of `what`, and the folder in it. Raises InferenceError for a
    scheme or a library that is not there."""
    match = _SCHEME.match(uri)
    scheme, rest = (match[1], match[2]) if match else ("", "")
    try:
        import fsspec

        return _connect(fsspec, scheme, rest)
    except ValueError as error:
        raise invalid(f"{what} '{uri}': {error}") from None
    except ImportError as error:
        needed = _EXTRAS.get(scheme, "fsspec")
        raise InferenceError(
            Status.UNSUPPORTED,
            f"{what} '{uri}' needs a library that is not installed ({error}): "
            f"pip install '{needed}'",
        ) from None


def _connect(fsspec: Any, scheme: str, rest: str) -> tuple[Any, str]:
    if scheme == "gs":
        # Without this the library asks the machine's cloud for credentials, which an emulator
        # needs none of, and waits minutes where there is no cloud.
        token = "anon" if os.environ.get("STORAGE_EMULATOR_HOST") else None
        return fsspec.filesystem("gcs", token=token), rest.rstrip("/")
    if scheme == "as":
        account, _, path = rest.partition("/")
        name = account.removesuffix(".blob.core.windows.net")
        key = os.environ.get("AZURE_STORAGE_KEY")  # Triton's name for it
        return fsspec.filesystem("abfs", account_name=name, account_key=key), path.rstrip("/")
    host = _S3_HOST.match(rest) if scheme == "s3" else None
    if host is None:
        return fsspec.filesystem(scheme), rest.rstrip("/")
    endpoint = f"{host[1] or 'http://'}{host[2]}"
    return fsspec.filesystem("s3", endpoint_url=endpoint), host[3].rstrip("/")
