"""SyncServer: a Server for code without a loop. The same methods, blocking, through a portal."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Coroutine, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from nerite.cache.base import Cache
from nerite.core.arguments import checked
from nerite.core.call import Answer, Call, one_of
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.model import Model
from nerite.repository.repository import Repository
from nerite.server import Policy, Server
from nerite.telemetry import Log
from nerite.tracing.tracer import Tracer
from nerite.versions import ModelState

T = TypeVar("T")
# Why a server does not answer, or does not start.
_NEW = "the server has not started: call start(), or enter it with `with`"
_STARTED = "the server has started already"
_CLOSED = "the server is closed: make another SyncServer"


class SyncResponses:
    """The answers to one call: iterate, or take `.one()`. Raises the call's InferenceError."""

    def __init__(self, server: SyncServer, request: Request) -> None:
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._done = False

        async def submit() -> Call:
            return server.server.submit(request, lambda _, answer: self._answers.put(answer))

        self._call = server.run(submit())
        self._loop = server.loop

    def __iter__(self) -> Iterator[Response]:
        return self

    def __next__(self) -> Response:
        if self._done:
            raise StopIteration
        answer = self._answers.get()
        if isinstance(answer, InferenceError):
            self._done = True
            raise answer
        self._done = answer.final
        return answer

    def one(self) -> Response:
        """The only answer; an INTERNAL error when there are several or none."""
        return one_of(list(self))

    def close(self) -> None:
        """Nobody reads further: an unfinished call is cancelled."""
        self._done = True
        with contextlib.suppress(RuntimeError):  # a closed loop: there is nothing left to cancel
            self._loop.call_soon_threadsafe(self._call.cancel)


class SyncServer:
    """Loads models on entering, from any thread; `infer` may be called from many.

    Takes what Server takes. All but `ready` raise InferenceError while it does not run.
    """

    def __init__(
        self,
        models: Repository | str | Path,
        *,
        name: str = "triton",
        policy: Policy | None = None,
        tracer: Tracer | None = None,
        log: Log | None = None,
        cache: Cache | None = None,
    ) -> None:
        self._make = partial(
            Server, models, name=name, policy=policy, tracer=tracer, log=log, cache=cache
        )
        self._server: Server | None = None
        self._refusal = _NEW  # "" while it runs
        # Nothing is put on the loop once it is to stop: it would wait there for ever.
        self._gate = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """As Server.start; once only."""
        with self._gate:
            if self._refusal != _NEW:
                raise InferenceError(Status.UNAVAILABLE, self._refusal or _STARTED)
            self._refusal = ""
            self.loop = asyncio.new_event_loop()
            run = self.loop.run_forever
            self._thread = threading.Thread(target=run, name="nerite", daemon=True)
            self._thread.start()

        async def start() -> Server:
            server = self._make()
            await server.start()
            return server

        try:
            self._server = self.run(start())
        except BaseException:
            self._end()
            raise

    def close(self, timeout: float = 30.0) -> None:
        """As Server.close; nothing where it does not run."""
        if self._server is not None and not self._refusal:
            self.run(self._server.close(timeout))
            self._end()

    def _end(self) -> None:
        with self._gate:
            self._refusal = _CLOSED
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @property
    def server(self) -> Server:
        """To be touched on `loop` only."""
        if self._server is None:
            raise InferenceError(Status.UNAVAILABLE, self._refusal or _NEW)
        return self._server

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something on the server's loop, from another thread."""
        with self._gate:
            if self._refusal:
                work.close()
                raise InferenceError(Status.UNAVAILABLE, self._refusal)
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result()

    @property
    def ready(self) -> bool:
        """As Server.ready: False while it does not run."""
        return self._server is not None and self._server.ready

    @property
    def models(self) -> list[Model]:
        """As Server.models."""

        async def look() -> list[Model]:
            return self.server.models

        return self.run(look())

    def infer(self, request: Request) -> SyncResponses:
        """Ask a model. Raises InferenceError when the model or the request is wrong."""
        return SyncResponses(self, checked(request))

    def load(
        self, name: str, config: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """As Server.load."""
        self.run(self.server.load(name, config, files))

    def unload(self, name: str, *, dependents: bool = False) -> None:
        """As Server.unload."""
        self.run(self.server.unload(name, dependents=dependents))

    def poll(self) -> None:
        """As Server.poll."""
        self.run(self.server.poll())

    def index(self, *, ready: bool = False) -> list[ModelState]:
        """As Server.index."""
        return self.run(self.server.index(ready=ready))
