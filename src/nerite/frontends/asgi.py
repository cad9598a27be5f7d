"""From an HTTP exchange to an ASGI application, which is made when it is first wanted.

Making one imports FastAPI: in a thread, and not before the models are loaded or somebody asks, so
that it costs neither the start nor a request of the other doors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from nerite.frontends.http1 import Exchange, Head

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Asgi = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]
_PIECE = 1 << 18  # bytes of a body that are handed over before others have their turn
_VERSION = {"version": "3.0", "spec_version": "2.4"}


class Bridge:
    """Belongs to one loop. A client that leaves ends the work on its request."""

    def __init__(self, make: Callable[[], Asgi], *, scheme: str = "http") -> None:
        """make: blocks for as long as it takes."""
        self._make = make
        self._scheme = scheme
        self._opening: asyncio.Task[Asgi] | None = None
        self._lifespan: _Lifespan | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        exchange.on_disconnect = lambda: _end(task)

    def open(self) -> asyncio.Task[Asgi]:
        """Begin to make the application, if that is not done; the task's result is it."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        return self._opening

    async def _open(self) -> Asgi:
        app = await asyncio.to_thread(self._make)
        self._lifespan = _Lifespan(app)
        await self._lifespan.start()
        return app

    async def close(self) -> None:
        """The application is told to end what is its own; open requests are still answered."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._lifespan is not None:
            await self._lifespan.stop()

    async def _answer(self, exchange: Exchange) -> None:
        head = exchange.head
        try:
            app = await asyncio.shield(self.open())
            answer = _Answer(exchange)
            await app(self._scope(head), _Body(exchange).receive, answer.send)
        except asyncio.CancelledError:
            if exchange.open:  # the server ends, not the client
                exchange.fail()
        except OSError:
            log.debug("%s %s: the client has left", head.method, head.path)
        except Exception:
            log.exception("%s %s failed", head.method, head.path)
            exchange.fail()

    def _scope(self, head: Head) -> Message:
        return {
            "type": "http",
            "asgi": _VERSION,
            "http_version": "1.0" if head.old else "1.1",
            "method": head.method,
            "scheme": self._scheme,
            "path": head.path,
            "raw_path": head.path.encode(),
            "query_string": head.query.encode("ascii"),
            "root_path": "",
            "headers": [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in head.pairs
            ],
            "client": None,
            "server": None,
            "state": {},
        }


def _end(task: asyncio.Task[None]) -> None:
    task.cancel()


class _Body:
    """A request's body in pieces, so that reading a large one holds nobody up."""

    def __init__(self, exchange: Exchange) -> None:
        self._body = memoryview(exchange.body)
        self._at = 0
        self._done = False

    async def receive(self) -> Message:
        if self._done:  # the bridge cancels whoever waits here for the client to leave
            await asyncio.get_running_loop().create_future()
        if self._at:
            await asyncio.sleep(0)
        piece = bytes(self._body[self._at : self._at + _PIECE])
        self._at += len(piece)
        self._done = self._at >= len(self._body)
        return {"type": "http.request", "body": piece, "more_body": not self._done}


class _Answer:
    """What an application sends, as the answer of an exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._status = 0
        self._headers = b""
        self._started = False

    async def send(self, message: Message) -> None:
        """Raises OSError where the client has left."""
        exchange = self._exchange
        if not exchange.open:
            raise OSError("the client has left")
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = b"".join(
                b"%s: %s\r\n" % (name, value)
                for name, value in message.get("headers", ())
                if name.lower() not in (b"content-length", b"transfer-encoding", b"connection")
            )
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not self._started and not more:
            exchange.respond(self._status, self._headers, [body])
            return
        if not self._started:
            self._started = True
            exchange.start(self._status, self._headers)
        exchange.write(body)
        if more:
            await exchange.drained()
        else:
            exchange.end()


class _Lifespan:
    """Tells an application that it begins, and that it ends."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self._asked: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises RuntimeError where it cannot begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._tell("startup")

    async def stop(self) -> None:
        if self._task is not None and not self._task.done():
            await self._tell("shutdown")
            await self._task

    async def _run(self) -> None:
        scope: Message = {"type": "lifespan", "asgi": _VERSION, "state": {}}
        await self._app(scope, self._asked.get, self._answers.put)

    async def _tell(self, what: str) -> None:
        assert self._task is not None
        await self._asked.put({"type": f"lifespan.{what}"})
        said = asyncio.ensure_future(self._answers.get())
        await asyncio.wait([said, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not said.done():
            said.cancel()
            raise RuntimeError("the application ended without a word")
        if said.result()["type"] != f"lifespan.{what}.complete":
            raise RuntimeError(said.result().get("message", "the application failed"))
