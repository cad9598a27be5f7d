"""Pictures that are answered as URLs: files for a while, under names that nobody can guess."""

from __future__ import annotations

import contextlib
import logging
import mimetypes
import re
import secrets
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from nerite.core.errors import InferenceError
from nerite.frontends.images.errors import ApiError
from nerite.repository.storage import is_remote, open_files

log = logging.getLogger(__name__)
_SWEEP = 60.0  # seconds
# When it ends, and what nobody can guess: whoever knows the name may have the picture.
_NAME = re.compile(r"([0-9a-f]{8,12})-[A-Za-z0-9_-]{43}\.(?:png|jpeg|webp)")


class Store:
    """A folder, or what fsspec takes for one. From any thread; all of it blocks.

    Several servers may share one: each gives out what it finds there and removes what is over.
    """

    def __init__(self, place: str = "", lifetime: float = 3600.0, size: int = 1 << 30) -> None:
        """place: "" is a folder of the process's own, gone with it. lifetime: seconds of a
        picture. size: bytes of all; the oldest make room."""
        self.lifetime = lifetime
        self._place = place
        self._size = size
        self._lock = threading.Lock()
        self._files: Any = None
        self._root = ""
        self._known: dict[str, int] = {}
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def open(self) -> None:
        """Raises ValueError where it cannot be used."""
        with self._lock:
            self._open()

    def _open(self) -> None:
        if self._files is not None:
            return
        place = self._place
        if not place:
            self._own = tempfile.TemporaryDirectory(prefix="nerite-images-")
            place = self._own.name
        what = "--image-store"
        try:
            uri = place if is_remote(place) else f"file://{Path(place).absolute()}"
            files, self._root = open_files(uri, what)
            files.makedirs(self._root, exist_ok=True)
            self._files = files
            self._look()
        except InferenceError as error:
            raise ValueError(error.message) from None
        except Exception as error:  # of many libraries
            self._files = None
            text = f"{what} '{place}' cannot be used: {type(error).__name__}: {error}"
            raise ValueError(text) from None
        threading.Thread(target=self._keep_sweeping, name="image-store", daemon=True).start()

    def put(self, file: bytes, kind: str) -> str:
        """Keep a picture; its name. Raises ApiError where there is no room for it."""
        if len(file) > self._size:
            text = f"the picture has {len(file)} bytes, and --image-store-size is {self._size}"
            raise ApiError(500, f"{text}: ask for b64_json", param="response_format")
        ends = int(time.time() + self.lifetime) + 1
        name = f"{ends:x}-{secrets.token_urlsafe(32)}.{kind}"
        with self._lock:
            self._open()
            self._remove(self._over(len(file)))
            self._known[name] = len(file)
        self._files.pipe_file(self._path(name), file)
        return name

    def get(self, name: str) -> tuple[bytes, str, int] | None:
        """A picture, its type and the seconds it has left; None where there is none."""
        match = _NAME.fullmatch(name)
        left = int(match[1], 16) - int(time.time()) if match else 0
        if left <= 0:
            return None
        with self._lock:
            self._open()
        try:
            file: bytes = self._files.cat_file(self._path(name))
        except FileNotFoundError:
            return None
        return file, mimetypes.guess_type(name)[0] or "application/octet-stream", left

    def _keep_sweeping(self) -> None:
        """Now and then, remove what is over, also of what others have put there."""
        while True:
            time.sleep(max(1.0, min(_SWEEP, self.lifetime / 4)))
            try:
                with self._lock:
                    self._look()
                    self._remove(self._over(0))
            except Exception as error:
                log.warning("--image-store cannot be swept: %s: %s", type(error).__name__, error)

    def _look(self) -> None:
        self._files.invalidate_cache()
        found = self._files.ls(self._root, detail=True)
        named = {str(one["name"]).rpartition("/")[2]: int(one["size"] or 0) for one in found}
        self._known = {name: size for name, size in named.items() if _NAME.fullmatch(name)}

    def _over(self, more: int) -> list[str]:
        """What has ended, and the oldest that are in the way of so many more bytes."""
        now = int(time.time())
        total = sum(self._known.values()) + more
        gone = []
        for name in sorted(self._known, key=_ends):
            if _ends(name) > now and total <= self._size:
                break
            total -= self._known[name]
            gone.append(name)
        return gone

    def _remove(self, names: list[str]) -> None:
        for name in names:
            self._known.pop(name, None)
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def _ends(name: str) -> int:
    """Seconds since 1970."""
    return int(name.partition("-")[0], 16)
