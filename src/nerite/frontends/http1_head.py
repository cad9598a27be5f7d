"""The head of an HTTP/1 request: its line and headers, and what they say about its body."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools

_ONCE = ("content-length", "host", "transfer-encoding")


@dataclass(frozen=True)
class Limits:
    """What a client may send.

    head: bytes of request line and headers; body: bytes; chunks: of one chunked body;
    send_seconds: for a head once it has begun, the first once the client has connected, and for a
    body, 0 for ever; idle_seconds: between two requests, and for a head where send_seconds is 0;
    connections: at once, 0 for any number.
    """

    head: int = 1 << 16
    body: int = 1 << 32
    chunks: int = 1 << 16
    send_seconds: float = 300.0
    idle_seconds: float = 600.0
    connections: int = 0


class BadRequest(Exception):  # noqa: N818  what a client did, not what went wrong here
    """A request that is not HTTP, or is beyond the limits; the connection ends with its answer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Reply:
    """An answer that does not need the request's body; `headers` are whole lines."""

    status: int
    headers: bytes = b""
    body: bytes = b""


class Head:
    """A parsed request line and its headers (names in lower case).

    Clients repeat themselves, so a Head is kept and used again, with what others make of it:
    route is the handler's; reply, extra and limit are the gate's: what to answer without asking
    the handler, header lines for every answer, and the bytes of a body where fewer are taken.
    """

    def __init__(self, data: bytes) -> None:
        """Raises BadRequest for what is not HTTP/1."""
        self.headers: dict[str, str] = {}
        self.pairs: list[tuple[str, str]] = []  # as they were sent
        self.route: Any = None
        self.reply: Reply | None = None
        self.extra = b""
        self.limit: int | None = None
        self._url = b""
        self._twice = ""
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # we speak nothing else, and say so by not answering to it
        except httptools.HttpParserError as error:
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"not an HTTP request: {error}") from None
        version = parser.get_http_version()
        if version not in ("1.0", "1.1"):
            text = f"HTTP/{version} is not spoken here; HTTP/1.1 is"
            raise BadRequest(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, text)
        if self._twice or data.count(b"\n") != data.count(b"\r\n"):
            text = f"several {self._twice} headers" if self._twice else "a line without its CR"
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"not an HTTP request: {text}")
        self.method: str = parser.get_method().decode("ascii")
        self.old: bool = version == "1.0"
        self.keep_alive = self._persists()
        self._read_url()
        self._read_length()
        self._read_expectation()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        shown, text = name.decode("latin-1"), value.decode("latin-1")
        key = shown.lower()
        self.pairs.append((shown, text))
        if key in self.headers:
            if key in _ONCE:
                # Two readers of such a request could disagree on where it ends or whom it is for.
                self._twice = key
            text = f"{self.headers[key]}, {text}"
        self.headers[key] = text

    def _persists(self) -> bool:
        options = [one.strip() for one in self.headers.get("connection", "").lower().split(",")]
        return "close" not in options and (not self.old or "keep-alive" in options)

    def _read_url(self) -> None:
        try:
            parsed = httptools.parse_url(self._url)
            self.path = unquote((parsed.path or b"/").decode("ascii"))
            self.query = (parsed.query or b"").decode("ascii")
            host = parsed.host.decode("ascii") if parsed.host else None
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            raise BadRequest(HTTPStatus.BAD_REQUEST, "the request's path is not a URL") from None
        # Whom the client means: the name in an absolute URL wins (RFC 9112, section 3.2.2).
        self.host: str = host if host is not None else self.headers.get("host", "")

    def _read_length(self) -> None:
        self.chunked = "transfer-encoding" in self.headers
        if self.chunked:
            coding = self.headers["transfer-encoding"].lower()
            if coding != "chunked" or self.old or "content-length" in self.headers:
                text = f"unsupported Transfer-Encoding '{coding}'"
                raise BadRequest(HTTPStatus.BAD_REQUEST, text)
        text = self.headers.get("content-length", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise BadRequest(HTTPStatus.BAD_REQUEST, f"Content-Length is '{text}'")
        self.length = int(text)

    def _read_expectation(self) -> None:
        text = self.headers.get("expect", "").lower()
        if text not in ("", "100-continue"):
            raise BadRequest(HTTPStatus.EXPECTATION_FAILED, f"nothing here meets Expect: {text}")
        self.expects = bool(text) and not self.old
