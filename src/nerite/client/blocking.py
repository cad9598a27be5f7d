"""Client: AsyncClient for code without a loop. The same methods, blocking, through a portal."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack

from PIL import Image

from nerite.client.asynchronous import AsyncClient, AsyncJobs, AsyncModels, JobList, ModelList
from nerite.client.job import Job
from nerite.client.model import Model
from nerite.client.picture import Picture
from nerite.client.settings import Settings
from nerite.client.stream import Event

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Portal:
    """An event loop in a thread of its own, and the way to it from others."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="nerite client", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something over there. Whoever stops waiting here, as with Ctrl-C, cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done and do not wait: a finalizer may run on the loop's own thread."""
        if self._loop.is_closed():
            work.close()
        else:
            asyncio.run_coroutine_threadsafe(work, self._loop)

    def join(self) -> None:
        self._thread.join()

    async def end(self, client: AsyncClient) -> None:
        await client.aclose()
        await self._loop.shutdown_asyncgens()
        self._loop.call_soon(self._loop.stop)


class _Closable(Protocol[T_co]):
    def __anext__(self) -> Coroutine[Any, Any, T_co]: ...

    async def aclose(self) -> None: ...


class BlockingStream(Iterator[T], Generic[T]):
    """Iterate it. Leaving early, by `with`, by `close()` or by forgetting it, cancels the work."""

    def __init__(self, portal: _Portal, events: _Closable[T]) -> None:
        self._portal = portal
        self._events = events
        self._forgotten = weakref.finalize(self, _forget, portal, events)

    def __next__(self) -> T:
        found = self._portal.run(_next(self._events))
        if found is None:
            raise StopIteration
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nobody reads further: what is unfinished is cancelled."""
        if self._forgotten.detach():
            self._portal.run(self._events.aclose())


async def _next(events: _Closable[T]) -> T | None:
    try:
        return await events.__anext__()
    except StopAsyncIteration:
        return None


def _forget(portal: _Portal, events: _Closable[Any]) -> None:
    portal.start(events.aclose())


class Client:
    """A server's images API, for scripts and threads; any number of threads may call at once.

    Takes what AsyncClient takes: url, api_key, timeout, retries, verify. Use it in a `with`, or
    `close()` it; one that is forgotten closes itself.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = 600.0,
        retries: int = 2,
        verify: bool | str = True,
    ) -> None:
        self._client = AsyncClient(
            url, api_key=api_key, timeout=timeout, retries=retries, verify=verify
        )
        self._portal = _Portal()
        self._forgotten = weakref.finalize(self, _leave, self._portal, self._client)
        self.jobs = Jobs(self._portal, self._client.jobs)
        self.models = Models(self._portal, self._client.models)

    @property
    def url(self) -> str:
        return self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """As AsyncClient.aclose."""
        if self._forgotten.detach():
            self._portal.run(self._portal.end(self._client))
            self._portal.join()

    def paint(self, prompt: str, **settings: Unpack[Settings]) -> Image.Image:
        """A picture. Its `info` has the seed, the model and the other settings.

        With `image` it is painted from that one, under a `mask` where there is one.
        Raises BadRequest, NotFound, TooManyRequests, TimedOut and other NeriteErrors; TypeError
        for a setting that there is not; OSError for a file that cannot be read.
        """
        return self._portal.run(self._client.paint(prompt, **settings))

    def paint_many(self, prompt: str, n: int, **settings: Unpack[Settings]) -> list[Image.Image]:
        """`n` pictures, from 1 to 10, of seeds that follow each other. As `paint` otherwise."""
        return self._portal.run(self._client.paint_many(prompt, n, **settings))

    def pictures(self, prompt: str, n: int = 1, **settings: Unpack[Settings]) -> list[Picture]:
        """As `paint_many`, with the files as the server made them."""
        return self._portal.run(self._client.pictures(prompt, n, **settings))

    def stream(
        self,
        prompt: str,
        *,
        previews: int = 3,
        progress: bool = False,
        n: int = 1,
        **settings: Unpack[Settings],
    ) -> BlockingStream[Event]:
        """Previews and then the picture, as they come; with `progress` each step as well.

        previews: at most so many of a picture, from 0 to 50. The events are Preview, Picture
        and, if wanted, Progress; all but Progress have `.image`. Leaving the stream early
        cancels the painting. Raises as `paint`, while it is iterated.
        """
        events = self._client.stream(prompt, previews=previews, progress=progress, n=n, **settings)
        return BlockingStream(self._portal, events)


def _leave(portal: _Portal, client: AsyncClient) -> None:
    portal.start(portal.end(client))


class Jobs:
    """`client.jobs`: work that outlives a connection, and the server's restarts."""

    def __init__(self, portal: _Portal, jobs: AsyncJobs) -> None:
        self._portal = portal
        self._jobs = jobs

    def submit(
        self,
        prompt: str,
        *,
        n: int = 1,
        idempotency_key: str | None = None,
        **settings: Unpack[Settings],
    ) -> Job:
        """As AsyncJobs.submit."""
        work = self._jobs.submit(prompt, n=n, idempotency_key=idempotency_key, **settings)
        return self._portal.run(work)

    def get(self, id: str) -> Job:
        """As AsyncJobs.get."""
        return self._portal.run(self._jobs.get(id))

    def list(self, limit: int = 20) -> JobList:
        """As AsyncJobs.list."""
        return self._portal.run(self._jobs.list(limit))

    def cancel(self, id: str) -> Job | None:
        """As AsyncJobs.cancel."""
        return self._portal.run(self._jobs.cancel(id))

    def follow(self, id: str, timeout: float | None = None) -> BlockingStream[Job]:
        """As AsyncJobs.follow."""
        return BlockingStream(self._portal, self._jobs.follow(id, timeout))

    def wait(self, id: str, timeout: float | None = None) -> Job:
        """As AsyncJobs.wait."""
        return self._portal.run(self._jobs.wait(id, timeout))


class Models:
    """`client.models`: what the server has, and what it has loaded."""

    def __init__(self, portal: _Portal, models: AsyncModels) -> None:
        self._portal = portal
        self._models = models

    def list(self) -> ModelList:
        """As AsyncModels.list."""
        return self._portal.run(self._models.list())

    def get(self, name: str) -> Model:
        """As AsyncModels.get."""
        return self._portal.run(self._models.get(name))

    def load(self, name: str) -> Model:
        """As AsyncModels.load."""
        return self._portal.run(self._models.load(name))

    def unload(self, name: str) -> Model:
        """As AsyncModels.unload."""
        return self._portal.run(self._models.unload(name))
