"""A thousand jobs at once: the right answers, nothing lost, nobody else disturbed."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ...conftest import ServerProcess
from .client import JOBS, finished, shade

POSTS = 1000
ROOM = 600


@pytest.mark.slow
async def test_a_thousand_at_once(serve: Callable[..., ServerProcess], shades: Path) -> None:
    server = serve("--model-repository", str(shades), "--max-jobs", str(ROOM))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=120) as client:
        bystander = asyncio.create_task(_ask(client))
        posts = [_post(client, number) for number in range(POSTS)]
        answers = await asyncio.gather(*posts)
        assert await bystander > 0
    codes = Counter(answer.status_code for answer in answers)
    assert codes[202] >= ROOM and codes[202] + codes[429] == POSTS
    assert all(int(one.headers["retry-after"]) for one in answers if one.status_code == 429)
    ids = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert len(set(ids)) == codes[202]
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for number, answer in enumerate(answers):
            if answer.status_code == 202:
                done = finished(client, answer.json()["id"])
                assert done["status"] == "succeeded" and shade(done) == number % 256


async def _post(client: httpx.AsyncClient, number: int) -> httpx.Response:
    return await client.post(JOBS, json={"prompt": "a shade", "seed": number})


async def _ask(client: httpx.AsyncClient) -> int:
    """Pictures that others ask for in the meantime."""
    for number in range(20):
        body = {"prompt": "a shade", "seed": number}
        answer = await client.post("/v1/images/generations", json=body)
        assert answer.status_code == 200
        data = answer.json()
        assert shade({"result": data}) == number
    return number
