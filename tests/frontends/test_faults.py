"""Whatever goes wrong behind a door, its client is answered."""

import asyncio
from functools import partial
from typing import Any, cast

import pytest

from nerite.frontends.http1 import Exchange
from nerite.frontends.intake import Intake
from nerite.frontends.machine import Machine
from nerite.frontends.metrics import Metrics
from nerite.frontends.packed import respond
from nerite.frontends.regions import Regions
from nerite.frontends.v2_http import V2Http
from nerite.frontends.v2_repository import RepositoryDoor
from nerite.server import Server

from .conftest import Listen, on_both_loops

GET = b"GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n"


class _Broken:
    """A server, its model and its machine with a fault: they raise what is none of our errors."""

    models: tuple[()] = ()
    stale = True
    checks_ready = True

    def model_ready(self, name: str, version: str) -> bool:
        return True

    def find(self, name: str, version: str) -> "_Broken":
        return self

    async def check_ready(self, *_: Any) -> bool:
        raise ZeroDivisionError("secret")

    async def load(self, *_: Any) -> None:
        raise ZeroDivisionError("secret")

    async def unload(self, *_: Any, dependents: bool) -> None:
        raise ZeroDivisionError("secret")

    async def index(self, *, ready: bool) -> None:
        raise ZeroDivisionError("secret")

    def measure(self) -> None:
        raise ZeroDivisionError("secret")

    @property
    def custom_metrics(self) -> None:
        raise ZeroDivisionError("secret")


BROKEN = cast(Server, _Broken())
DOOR = RepositoryDoor(BROKEN)
V2 = V2Http(BROKEN, "1", Regions(allowed=False), Intake())


@pytest.mark.parametrize(
    "handler",
    [
        partial(DOOR.load, "m"),
        partial(DOOR.unload, "m"),
        DOOR.index,
        partial(V2._model_ready, "m", ""),
        Metrics(BROKEN),
        Metrics(BROKEN, machine=cast(Machine, BROKEN)),
    ],
)
@on_both_loops
async def test_faults_are_told(
    listen: Listen, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def handle(exchange: Exchange) -> None:
        exchange.head.path = "/metrics"
        handler(exchange)

    client = await (await listen(handle)).connect()
    for _ in range(2):
        answer = await client.ask(GET)
        assert answer.status == 500
        assert b"internal error; the server's log says more" in answer.body
    assert "secret" in caplog.text


@on_both_loops
async def test_an_answer_that_cannot_be_compressed(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("nerite.frontends.packed.compress", fail)
    port = await listen(lambda exchange: respond(exchange, b"", [bytes(100_000)]))
    assert (await asyncio.wait_for(port.ask(GET), 10)).status == 500
