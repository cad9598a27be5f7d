"""A stream goes on after a request that fails in a way nobody has thought of."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from tritonclient.grpc import service_pb2 as pb

from nerite.frontends.intake import Forwarding
from nerite.frontends.regions import Regions
from nerite.frontends.v2_stream import InferStream
from nerite.server import Server


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
        return [message async for message, _ in stream.answers()]

    found = await asyncio.wait_for(read(), 10)
    assert [one.infer_response.id for one in found] == ["a", "b"]
    for one in found:
        assert one.error_message == "internal error; the server's log says more"


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
