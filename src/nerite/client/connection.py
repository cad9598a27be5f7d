"""Requests to one server: its address, the API key, time, retries, and errors by class."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx2
import orjson

from nerite.client.errors import (
    ApiError,
    ConnectionFailed,
    NeriteError,
    TimedOut,
    TooManyRequests,
    UnexpectedAnswer,
    refusal,
)
from nerite.client.events import ServerEvent, read_events

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
_CONNECT_SECONDS = 5.0
_MOST_SECONDS_BETWEEN = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `headers` are beside those that every request has."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None


class Deadline:
    """The end of one call's time."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float | None:
        """Seconds until then; None for ever."""
        if self._end is None:
            return None
        return max(0.0, self._end - asyncio.get_running_loop().time())

    async def keep(self, work: Awaitable[T]) -> T:
        """Await `work`. Raises TimedOut, after having cancelled it, when the time is up."""
        try:
            async with asyncio.timeout_at(self._end) as clock:
                return await work
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise TimedOut(f"no answer within {self._seconds:g} s.") from error


class Connection:
    """Belongs to one event loop; opens connections as they are needed and uses them again."""

    def __init__(
        self, url: str | None, api_key: str | None, retries: int, verify: bool | str
    ) -> None:
        self.url = _address(url or os.environ.get("NERITE_URL") or DEFAULT_URL)
        self._key = api_key or os.environ.get("NERITE_API_KEY")
        self._retries = retries
        self._verify = verify
        self._http: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()

    async def ask(self, ask: Ask, deadline: Deadline) -> Any:
        """The JSON of an answer. Raises NeriteError."""
        return await deadline.keep(self._ask(ask))

    async def _ask(self, ask: Ask) -> Any:
        async with self._opened(ask) as response:
            content = await self._read(response)
        return self._document(response, content)

    @contextlib.asynccontextmanager
    async def events(
        self, ask: Ask, deadline: Deadline
    ) -> AsyncIterator[AsyncIterator[ServerEvent]]:
        """The events of a stream; leaving the context closes it, which cancels the work."""
        async with contextlib.AsyncExitStack() as stack:
            response = await deadline.keep(stack.enter_async_context(self._opened(ask)))
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise UnexpectedAnswer(f"{self._where(ask)} answers, but not with a stream.")
            timed = await stack.enter_async_context(
                contextlib.aclosing(self._timed(response, deadline))
            )
            yield timed

    async def _timed(
        self, response: httpx2.Response, deadline: Deadline
    ) -> AsyncGenerator[ServerEvent]:
        async with contextlib.aclosing(response.aiter_raw()) as chunks:
            events = read_events(chunks)
            while True:
                try:
                    event = await deadline.keep(anext(events))
                except StopAsyncIteration:
                    return
                except httpx2.TransportError as error:
                    raise self._hung_up() from error
                if event.data.get("error"):
                    raise refusal(500, response.headers, event.data) or self._unexpected()
                yield event

    @contextlib.asynccontextmanager
    async def _opened(self, ask: Ask) -> AsyncIterator[httpx2.Response]:
        """An answer with a good status, its body unread; what may be tried again is."""
        for left in range(self._retries, -1, -1):
            response = await self._send(ask)
            try:
                if response.is_success:
                    yield response
                    return
                error = self._refused(ask, response, await self._read(response))
            finally:
                await response.aclose()
            if not left or not _passes(error):
                raise error
            seconds = getattr(error, "retry_after", None) or 0.5
            await asyncio.sleep(min(seconds, _MOST_SECONDS_BETWEEN))

    async def _send(self, ask: Ask) -> httpx2.Response:
        headers = dict(ask.headers or {})
        content = None
        if ask.body is not None:
            content = _json(ask.body)
            headers["content-type"] = "application/json"
        http = self._opened_http()
        request = http.build_request(ask.method, ask.path, content=content, headers=headers)
        try:
            return await http.send(request, stream=True)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = _reason(error)
            raise ConnectionFailed(f"no server answers at {self.url} ({reason}).") from error
        except httpx2.TransportError as error:
            raise self._hung_up() from error

    def _opened_http(self) -> httpx2.AsyncClient:
        if self._http is None:
            headers = {"accept-encoding": "identity"}
            if self._key:
                headers["authorization"] = f"Bearer {self._key}"
            self._http = httpx2.AsyncClient(
                base_url=self.url,
                headers=headers,
                timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=None),
                verify=self._verify,
                # A proxy of the environment is not meant for this machine.
                trust_env=urlsplit(self.url).hostname not in ("127.0.0.1", "::1", "localhost"),
            )
        return self._http

    async def _read(self, response: httpx2.Response) -> bytes:
        try:
            return await response.aread()
        except httpx2.TransportError as error:
            raise self._hung_up() from error

    def _document(self, response: httpx2.Response, content: bytes) -> Any:
        try:
            return orjson.loads(content) if content else None
        except orjson.JSONDecodeError as error:
            raise self._unexpected() from error

    def _refused(self, ask: Ask, response: httpx2.Response, content: bytes) -> NeriteError:
        try:
            document = self._document(response, content)
        except UnexpectedAnswer:
            document = None
        ours = ask.path.startswith("/v2/") or _is_openais(document)
        error = refusal(response.status_code, response.headers, document) if ours else None
        if error is not None:
            return error
        text = f"{self._where(ask)} answers with status {response.status_code}"
        return UnexpectedAnswer(f"{text}: no server with an images API.")

    def _where(self, ask: Ask) -> str:
        return f"{self.url}{ask.path}"

    def _hung_up(self) -> ConnectionFailed:
        text = f"the server at {self.url} closed the connection before it had answered."
        return ConnectionFailed(text)

    def _unexpected(self) -> UnexpectedAnswer:
        return UnexpectedAnswer(f"what answers at {self.url} is no server with an images API.")


def _address(url: str) -> str:
    """Raises ValueError where `url` is none."""
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        good = good and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"{url} is not an address like {DEFAULT_URL}.")
    return full.rstrip("/")


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise TypeError(f"this cannot be sent as JSON: {error}") from error


def _is_openais(document: Any) -> bool:
    return isinstance(document, dict) and isinstance(document.get("error"), dict)


def _passes(error: NeriteError) -> bool:
    """Whether the same request may fare better in a moment."""
    if not isinstance(error, ApiError) or not error.may_retry:
        return False
    return isinstance(error, TooManyRequests) or (
        error.status == 503 and error.retry_after is not None
    )


def _reason(error: httpx2.TransportError) -> str:
    if isinstance(error, httpx2.ConnectTimeout):
        return "it took too long"
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ConnectionError) and found.errno:
            return os.strerror(found.errno).lower()  # asyncio has words of its own
        if isinstance(found, OSError) and found.strerror:
            return found.strerror.lower()
        if isinstance(found, ExceptionGroup):
            found = found.exceptions[0]
        else:
            found = found.__cause__ or found.__context__
    return str(error).lower().rstrip(".")
