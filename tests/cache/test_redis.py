"""The cache in a real Redis server."""

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ml_dtypes
import numpy as np
import pytest

from nerite.cache.config import open_cache
from nerite.cache.redis import RedisCache, decode, encode
from nerite.core.errors import InferenceError
from nerite.core.request import Response

pytest.importorskip("redis")


@contextmanager
def running(command: str, port: int, *options: str) -> Iterator[None]:
    quiet = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [command, *quiet, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        assert any("eady to accept connections" in line for line in process.stdout)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture
def command(service: Callable[[str], str]) -> str:
    return service("redis")


async def look_up(cache: RedisCache, key: bytes) -> Response | None:
    future: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
    cache.look_up(key, future.set_result)
    return await asyncio.wait_for(future, 10)


async def kept(cache: RedisCache, key: bytes, response: Response) -> Response:
    """What comes back of a response; it is put there in the background."""
    cache.insert(key, response)
    for _ in range(200):
        found = await look_up(cache, key)
        if found is not None:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("the answer did not get into Redis")


RESPONSE = Response(
    {
        "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
        "texts": np.array([[b"snow"], [b"\xff\x00"]], object),
        "halves": np.array([1.5], ml_dtypes.bfloat16),
        "none": np.empty((0, 2), np.int64),
    },
    {"seed": 3},
)


def check(found: Response | None) -> None:
    assert found is not None
    assert found.final
    assert found.parameters == {"seed": 3}
    for name, tensor in RESPONSE.outputs.items():
        assert found.outputs[name].dtype == tensor.dtype
        assert np.array_equal(found.outputs[name], tensor)


def test_the_form_of_an_answer() -> None:
    check(decode(encode(RESPONSE)))


async def test_an_answer_comes_back(command: str, free_ports: tuple[int, int, int]) -> None:
    port = free_ports[0]
    with running(command, port):
        cache = RedisCache("127.0.0.1", port)
        await cache.start()
        assert await look_up(cache, b"key") is None
        check(await kept(cache, b"key", RESPONSE))
        other = RedisCache("127.0.0.1", port)
        check(await look_up(other, b"key"))
        await cache.close()
        await other.close()


async def test_a_redis_that_fails_is_told_once(
    command: str, free_ports: tuple[int, int, int], caplog: pytest.LogCaptureFixture
) -> None:
    port = free_ports[0]
    caplog.set_level(logging.INFO, "nerite.cache.redis")
    cache = RedisCache("127.0.0.1", port)
    with running(command, port):
        await kept(cache, b"key", RESPONSE)
    for _ in range(5):
        assert await look_up(cache, b"key") is None
        cache.insert(b"key", RESPONSE)
    assert sum("fails" in record.message for record in caplog.records) == 1
    cache._paused_until = time.monotonic()
    with running(command, port):
        check(await kept(cache, b"key", RESPONSE))
    assert "is back" in caplog.text
    await cache.close()


async def test_passwords(
    command: str, free_ports: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_ports[0]
    where = [("redis", "host", "127.0.0.1"), ("redis", "port", str(port))]

    async def start(*more: tuple[str, str, str]) -> None:
        cache = open_cache([*where, *more])
        assert cache is not None
        try:
            await cache.start()
        finally:
            await cache.close()

    with running(command, port, "--requirepass", "secret"):
        await start(("redis", "password", "secret"))
        await start(("redis", "user", "default"), ("redis", "password", "secret"))
        with pytest.raises(InferenceError, match="WRONGPASS"):
            await start(("redis", "password", "wrong"))
        with pytest.raises(InferenceError, match="NOAUTH Authentication required"):
            await start()
        monkeypatch.setenv("TRITONCACHE_REDIS_PASSWORD", "secret")
        await start()


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("127.0.0.1", "none", r"failed to connect to Redis \(127.0.0.1:0\): Connection refused"),
        ("no.such.host.invalid", "1", "failed to connect to Redis"),
    ],
)
async def test_nobody_there(host: str, port: str, text: str) -> None:
    cache = open_cache([("redis", "host", host), ("redis", "port", port)])
    assert cache is not None
    with pytest.raises(InferenceError, match=text):
        await cache.start()
    await cache.close()
