"""Exchanges as ASGI applications see them."""

import asyncio
import json
import time
from typing import Any

from nerite.frontends.asgi import Asgi, Bridge

from .conftest import Listen, on_both_loops

POST = b"POST /v1/a%%20b?x=1 HTTP/1.1\r\nHost: me:1\r\nX-Two: 2\r\nContent-Length: %d\r\n\r\n%b"


def post(body: bytes = b"") -> bytes:
    return POST % (len(body), body)


async def lives(scope: Any, receive: Any, send: Any) -> bool:
    """What every application says when it begins and ends; whether that was asked."""
    if scope["type"] != "lifespan":
        return False
    for _ in range(2):
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
    return True


def bridge(app: Asgi) -> Bridge:
    return Bridge(lambda: app)


async def respond(send: Any, body: bytes, status: int = 200) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@on_both_loops
async def test_a_request_and_its_answer(listen: Listen) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if await lives(scope, receive, send):
            return
        pieces = []
        while True:
            message = await receive()
            pieces.append(len(message["body"]))
            if not message["more_body"]:
                break
        shown = {key: scope[key] for key in ("method", "path", "scheme")}
        shown |= {"query": scope["query_string"].decode(), "pieces": pieces}
        shown["two"] = dict(scope["headers"])[b"x-two"].decode()
        await respond(send, json.dumps(shown).encode(), 202)

    port = await listen(bridge(app))
    client = await port.connect()
    for body in (b"", b"x" * 10, b"x" * 1_000_000):
        answer = await client.ask(post(body))
        assert answer.status == 202
        assert int(answer.headers["content-length"]) == len(answer.body)
        shown = json.loads(answer.body)
        assert sum(shown.pop("pieces")) == len(body)
        assert shown == {
            "method": "POST", "path": "/v1/a b", "scheme": "http", "query": "x=1", "two": "2",
        }  # fmt: skip


@on_both_loops
async def test_an_answer_in_pieces(listen: Listen) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if await lives(scope, receive, send):
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one ", b"two ", b"three"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    client = await (await listen(bridge(app))).connect()
    for _ in range(2):  # the connection stays of use
        answer = await client.ask(post())
        assert answer.body == b"one two three"
        assert answer.headers["transfer-encoding"] == "chunked"


@on_both_loops
async def test_a_client_that_leaves_ends_the_work(listen: Listen) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if await lives(scope, receive, send):
            return
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    client = await (await listen(bridge(app))).connect()
    client.send(post())
    await begun.wait()
    client.writer.close()
    async with asyncio.timeout(10):
        await ended.wait()


@on_both_loops
async def test_what_fails(listen: Listen) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if await lives(scope, receive, send):
            return
        raise ValueError("a fault of the application's")

    answer = await (await (await listen(bridge(app))).connect()).ask(post())
    assert answer.status == 500
    assert json.loads(answer.body)["error"]["type"] == "server_error"


@on_both_loops
async def test_who_comes_early_waits(listen: Listen) -> None:
    made = 0

    def make() -> Asgi:
        nonlocal made
        made += 1
        time.sleep(0.1)  # as an import would, in a thread

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if not await lives(scope, receive, send):
                await respond(send, b"here")

        return app

    one = Bridge(make)
    port = await listen(one)
    answers = await asyncio.gather(*(port.ask(post()) for _ in range(5)))
    assert [answer.body for answer in answers] == [b"here"] * 5
    assert made == 1
    await one.close()
