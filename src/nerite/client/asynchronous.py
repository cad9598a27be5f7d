"""AsyncClient: the client itself. `Client` is the same behind a thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Self, TypeAlias, Unpack
from urllib.parse import quote

from PIL import Image

from nerite.client.connection import Ask, Connection, Deadline
from nerite.client.errors import ApiError, JobFailed, NotFound, UnexpectedAnswer
from nerite.client.job import Job
from nerite.client.model import Model, merge
from nerite.client.picture import Picture, pictures
from nerite.client.settings import Settings, body_of, door_of, told_of
from nerite.client.stream import Stream

# In classes that have a method `list`, the word means that.
JobList: TypeAlias = list[Job]
ModelList: TypeAlias = list[Model]

_OFFICIAL_PREVIEWS = 3  # what the API knows as partial_images; more is an extension of ours


class AsyncClient:
    """A server's images API, from one event loop; any number of calls at once.

    url: of the server; NERITE_URL, or http://127.0.0.1:8000. api_key: NERITE_API_KEY, or none.
    timeout: seconds for a whole call, None for no limit. retries: of a request that the server
    was too busy for. verify: of TLS: False for no check, or a file of the authorities to trust.

    Every call may raise NeriteError; `nerite.client.errors` lists its kinds. A call that is
    cancelled, or whose time is up, is cancelled in the server too.
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
        self._connection = Connection(url, api_key, retries, verify)
        self._seconds = timeout
        self.jobs = AsyncJobs(self._connection, timeout)
        self.models = AsyncModels(self._connection, timeout)

    @property
    def url(self) -> str:
        return self._connection.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections; what still runs over them is cancelled."""
        await self._connection.close()

    async def paint(self, prompt: str, **settings: Unpack[Settings]) -> Image.Image:
        """A picture. Its `info` has the seed, the model and the other settings.

        With `image` it is painted from that one, under a `mask` where there is one.
        Raises BadRequest, NotFound, TooManyRequests, TimedOut and other NeriteErrors; TypeError
        for a setting that there is not; OSError for a file that cannot be read.
        """
        return (await self.paint_many(prompt, 1, **settings))[0]

    async def paint_many(
        self, prompt: str, n: int, **settings: Unpack[Settings]
    ) -> list[Image.Image]:
        """`n` pictures, from 1 to 10, of seeds that follow each other. As `paint` otherwise."""
        return [one.image for one in await self.pictures(prompt, n, **settings)]

    async def pictures(
        self, prompt: str, n: int = 1, **settings: Unpack[Settings]
    ) -> list[Picture]:
        """As `paint_many`, with the files as the server made them."""
        body = body_of(prompt, settings, {"n": n, "response_format": "b64_json"})
        deadline = Deadline(settings.get("timeout", self._seconds))
        answer = await self._connection.ask(Ask("POST", door_of(body), body), deadline)
        found = pictures(answer, told_of(body))
        if len(found) < n:  # of several pictures to start from there may be more
            raise UnexpectedAnswer(f"the server was asked for {n} pictures and sent {len(found)}.")
        return found

    def stream(
        self,
        prompt: str,
        *,
        previews: int = 3,
        progress: bool = False,
        n: int = 1,
        **settings: Unpack[Settings],
    ) -> Stream:
        """Previews and then the picture, as they come; with `progress` each step as well.

        previews: at most so many of a picture, from 0 to 50. The events are Preview, Picture
        and, if wanted, Progress; all but Progress have `.image`. Leaving the stream early
        cancels the painting. Raises as `paint`, while it is iterated.
        """
        more: dict[str, Any] = {"stream": True, "n": n, "progress": progress or None}
        official = previews <= _OFFICIAL_PREVIEWS
        more["partial_images" if official else "previews"] = previews
        body = body_of(prompt, settings, more)
        ask = Ask("POST", door_of(body), body)
        return Stream(self._connection, ask, settings.get("timeout", self._seconds))


class AsyncJobs:
    """`client.jobs`: work that outlives a connection, and the server's restarts."""

    def __init__(self, connection: Connection, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds

    async def submit(
        self,
        prompt: str,
        *,
        n: int = 1,
        idempotency_key: str | None = None,
        **settings: Unpack[Settings],
    ) -> Job:
        """A new job, as `paint` would be asked; it is kept before this returns.

        idempotency_key: a job that was submitted with the same one is given back instead.
        Raises TooManyRequests when the queue is full.
        """
        more = {"n": n, "response_format": "b64_json"}
        body = body_of(prompt, settings, more)
        headers = {"idempotency-key": idempotency_key} if idempotency_key else None
        return Job.read(await self._ask("POST", "", body, headers))

    async def get(self, id: str) -> Job:
        """Raises NotFound."""
        return Job.read(await self._ask("GET", f"/{quote(id, safe='')}"))

    async def list(self, limit: int = 20) -> JobList:
        """The newest jobs, newest first."""
        answer = await self._ask("GET", f"?limit={limit}")
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            raise UnexpectedAnswer("the server's answer is not a list of jobs.")
        return [Job.read(one) for one in answer["data"]]

    async def cancel(self, id: str) -> Job | None:
        """Cancel a job, or delete one that is finished. Raises NotFound."""
        answer = await self._ask("DELETE", f"/{quote(id, safe='')}")
        return Job.read(answer) if isinstance(answer, dict) and "status" in answer else None

    async def follow(self, id: str, timeout: float | None = None) -> AsyncGenerator[Job]:
        """The job as it is and at every change, to its end. timeout: seconds. Raises NotFound."""
        ask = Ask("GET", f"/v1/images/jobs/{quote(id, safe='')}/events")
        async with self._connection.events(ask, Deadline(timeout)) as events:
            async for event in events:
                if event.name == "job.updated":
                    job = Job.read(event.data)
                    yield job
                    if job.finished:
                        return

    async def wait(self, id: str, timeout: float | None = None) -> Job:
        """The job when it has succeeded; its `pictures` are there.

        timeout: seconds to wait; the job goes on if they are up. Raises JobFailed when it fails
        or is cancelled, TimedOut, NotFound.
        """
        deadline = Deadline(timeout)
        while True:
            async with contextlib.aclosing(self.follow(id, deadline.left)) as jobs:
                async for job in jobs:
                    if job.finished:
                        break
            job = await self.get(id)
            if job.finished:  # the events end, too, where the server does
                break
        if job.status != "succeeded":
            raise JobFailed(job)
        return job

    async def _ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
        ask = Ask(method, f"/v1/images/jobs{path}", body, headers)
        return await self._connection.ask(ask, Deadline(self._seconds))


class AsyncModels:
    """`client.models`: what the server has, and what it has loaded."""

    def __init__(self, connection: Connection, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds

    async def list(self) -> ModelList:
        """All models of the repository, those that are not loaded too, by name."""
        listed, index = await asyncio.gather(self._ask("GET", "/v1/models"), self._index())
        return merge(listed, index)

    async def _index(self) -> Any:
        try:
            return await self._ask("POST", "/v2/repository/index", {})
        except ApiError:  # the repository may be closed to this client
            return []

    async def get(self, name: str) -> Model:
        """Raises NotFound."""
        for model in await self.list():
            if model.name == name:
                return model
        raise NotFound(f"the server has no model '{name}'.", 404)

    async def load(self, name: str) -> Model:
        """Load a model, or load it anew. Raises ApiError where the server may not, or where
        the model does not load, with the reason."""
        await self._ask("POST", f"/v2/repository/models/{quote(name, safe='')}/load", {})
        return await self.get(name)

    async def unload(self, name: str) -> Model:
        """Unload a model once its requests are done. Raises as `load`."""
        await self._ask("POST", f"/v2/repository/models/{quote(name, safe='')}/unload", {})
        return await self.get(name)

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return await self._connection.ask(Ask(method, path, body), Deadline(self._seconds))
