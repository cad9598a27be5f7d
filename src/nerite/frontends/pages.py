"""The files of the web page, as they lie in `web/`: `/`, `/docs` and everything below `/web/`."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from nerite.frontends.answers import not_allowed, not_found
from nerite.frontends.compression import preferred
from nerite.frontends.http1 import Exchange, Head

_FOLDER = Path(__file__).parent / "web"
_NAMES = {"/": "index.html", "/docs": "docs.html"}
_PREFIX = "/web/"
# Nothing from elsewhere, no script in the page itself, and no page of others around it.
_HEADERS = (
    "Content-Type: {type}\r\nETag: {etag}\r\nCache-Control: no-cache\r\nVary: Accept-Encoding\r\n"
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
)
_TYPES = {".js": "text/javascript", ".webmanifest": "application/manifest+json"}


@dataclass(frozen=True)
class _Form:
    """A file in one encoding: its headers, its name for caches, its bytes."""

    headers: bytes
    etag: str
    body: bytes


_File = dict[str, _Form]  # by encoding


class Pages:
    """Each file is read and compressed once."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}

    @staticmethod
    def has(path: str) -> bool:
        """Whether a path is theirs, be there a file or not."""
        return path in _NAMES or path.startswith(_PREFIX)

    def __call__(self, exchange: Exchange) -> None:
        head = exchange.head
        file = self._file(_NAMES.get(head.path) or head.path.removeprefix(_PREFIX))
        if file is None:
            not_found(exchange)
        elif head.method not in ("GET", "HEAD"):
            not_allowed(exchange)
        else:
            form = file.get(preferred(head.headers.get("accept-encoding", "")), file["identity"])
            if _is_known(head, form):
                exchange.respond(304, form.headers)
            else:
                exchange.respond(200, form.headers, [form.body])

    def _file(self, name: str) -> _File | None:
        if name not in self._files:
            known = {
                file.relative_to(self._folder).as_posix()
                for file in self._folder.rglob("*")
                if file.is_file()
            }
            if name not in known:  # not kept: there are as many wrong names as clients invent
                return None
            self._files[name] = _read(self._folder / name)
        return self._files[name]


def _is_known(head: Head, form: _Form) -> bool:
    tags = head.headers.get("if-none-match", "").split(",")
    return any(tag.strip().removeprefix("W/") in (form.etag, "*") for tag in tags)


def _read(file: Path) -> _File:
    body = file.read_bytes()
    kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
    kind = kind or "application/octet-stream"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    digest = hashlib.sha256(body).hexdigest()[:32]
    packed = gzip.compress(body, mtime=0)
    forms = {"identity": (f'"{digest}"', body), "gzip": (f'"{digest}-gzip"', packed)}
    if len(packed) >= len(body):
        del forms["gzip"]
    made = {}
    for encoding, (etag, data) in forms.items():
        lines = _HEADERS.format(type=kind, etag=etag)
        if encoding != "identity":
            lines += f"Content-Encoding: {encoding}\r\n"
        made[encoding] = _Form(lines.encode("ascii"), etag, data)
    return made
