"""A stream goes on after a request that fails in a way nobody has thought of."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from nerite.core.call import Call, Deliver
from nerite.core.request import Request, Response
from nerite.frontends.intake import Forwarding
from nerite.frontends.regions import Regions
from nerite.frontends.v2_stream import InferStream
from nerite.server import Server
from nerite.tracing.tracer import Tracer


class _Broken:
    """A server with a fault: it raises what is none of its errors."""

    def find(self, name: str, version: str) -> Any:
        raise ZeroDivisionError("secret")


async def test_a_fault_is_told_in_the_stream() -> None:
    async def requests() -> AsyncIterator[Any]:
        for name in ("a", "b"):
            yield pb.ModelInferRequest(model_name="m", id=name).SerializeToString()

    stream = InferStream(
        cast(Server, _Broken()), Regions(allowed=False), requests(), {}, Forwarding()
    )

    async def read() -> list[Any]:
        kind = pb.ModelStreamInferResponse
        return [kind.FromString(message) async for message, _ in stream.answers()]

    found = await asyncio.wait_for(read(), 10)
    assert [one.infer_response.id for one in found] == ["a", "b"]
    for one in found:
        assert one.error_message == "internal error; the server's log says more"


class _Model:
    decoupled = False
    version = 1


class _Late:
    """A server whose answers come when they are told to, and are large."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], None]] = []
        self.tracer = Tracer()

    def find(self, name: str, version: str) -> Any:
        return _Model()

    def submit(self, request: Request, deliver: Deliver) -> Call:
        call = cast(Call, SimpleNamespace(request=request, cancel=lambda: None))
        outputs = {"OUT": np.zeros(4 << 20, np.uint8)}
        self.asked.append(lambda: deliver(call, Response(outputs)))
        return call


async def test_answers_are_counted_in_bytes() -> None:
    """Also those that are still to come, which are as long as others were."""
    server = _Late()

    async def requests() -> AsyncIterator[bytes]:
        for _ in range(150):
            yield pb.ModelInferRequest(model_name="m").SerializeToString()

    stream = InferStream(cast(Server, server), Regions(allowed=False), requests(), {}, Forwarding())
    answers = stream.answers()

    async def settle() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    first = asyncio.ensure_future(anext(answers))
    await settle()
    assert len(server.asked) == 65
    done = 0
    while done < len(server.asked):
        server.asked[done]()
        done += 1
        await settle()
    assert done == 65  # nobody reads
    await first
    got = 1
    while got < 150:
        while done < len(server.asked):
            server.asked[done]()
            done += 1
        await anext(answers)
        got += 1
        await settle()
        assert done - got <= 65
        assert got < 65 or len(server.asked) - got <= 17
    assert [one async for one in answers] == []


async def test_a_client_that_does_not_read_is_not_read() -> None:
    sent = 0

    async def requests() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(5000):
            sent += 1
            yield b"no message"
            await asyncio.sleep(0)

    stream = InferStream(
        cast(Server, _Broken()), Regions(allowed=False), requests(), {}, Forwarding()
    )
    answers = stream.answers()
    await anext(answers)
    for _ in range(10_000):
        await asyncio.sleep(0)
    assert 1000 <= sent < 1100
    assert len([one async for one in answers]) == 5000 - 1
