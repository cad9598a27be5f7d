"""The cache in a Redis server, which several of us may share, on the `redis` package.

A Redis that fails is a cache that knows nothing: it is told once and left alone for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import struct
import time
from collections.abc import Coroutine
from typing import Any

from nerite.cache.base import Found
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Response
from nerite.core.tensor import datatype_of, from_bytes, to_bytes

log = logging.getLogger(__name__)

_PREFIX = b"nerite:"
_LENGTH = struct.Struct("<I")
_TIMEOUT_SECONDS = 1.0
_CONNECTIONS = 32
_PAUSE_SECONDS = 5.0  # after a failure, before Redis is asked again


class RedisCache:
    """Belongs to one loop. Entries stay until Redis drops them by its own `maxmemory` policy."""

    def __init__(self, host: str, port: int, user: str = "", password: str = "") -> None:
        """Raises ImportError where the `redis` package is not installed."""
        from redis import asyncio as redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        self._address = f"{host}:{port}"
        self._errors = (RedisError, OSError)
        pool = redis.BlockingConnectionPool(
            host=host,
            port=port,
            username=user or None,
            password=password or None,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT_SECONDS,
            protocol=2,  # 3 begins with a command whose refusal says nothing of passwords
            retry=Retry(NoBackoff(), 1),  # a restarted Redis has closed what is in the pool
        )
        self._client = redis.Redis.from_pool(pool)
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused_until = 0.0

    async def start(self) -> None:
        try:
            await self._client.ping()
        except self._errors as error:
            text = f"failed to connect to Redis ({self._address}): {_said(error)}"
            raise InferenceError(Status.INTERNAL, text) from None

    def look_up(self, key: bytes, found: Found) -> None:
        if time.monotonic() < self._paused_until:
            found(None)
        else:
            self._spawn(self._get(key, found))

    def insert(self, key: bytes, response: Response) -> None:
        if time.monotonic() >= self._paused_until:
            self._spawn(self._set(key, encode(response)))

    def forget(self, owner: bytes) -> None:
        """Nothing: other servers may serve the very same model. A changed one has another owner."""

    async def close(self) -> None:
        await asyncio.gather(*self._tasks)
        with contextlib.suppress(*self._errors):
            await self._client.aclose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _get(self, key: bytes, found: Found) -> None:
        response = None
        try:
            data = await self._client.get(_PREFIX + key)
            response = decode(data) if data is not None else None
            self._note_success()
        except self._errors as error:
            self._note_failure(error)
        except (ValueError, KeyError, struct.error) as error:
            log.warning("Redis (%s) holds an answer that cannot be read: %s", self._address, error)
        found(response)

    async def _set(self, key: bytes, data: bytes) -> None:
        try:
            await self._client.set(_PREFIX + key, data)
            self._note_success()
        except self._errors as error:
            self._note_failure(error)

    def _note_failure(self, error: Exception) -> None:
        if not self._paused_until:
            text = "the response cache in Redis (%s) fails: %s. Requests go on without it"
            log.warning(text, self._address, error)
        self._paused_until = time.monotonic() + _PAUSE_SECONDS

    def _note_success(self) -> None:
        if self._paused_until:
            self._paused_until = 0.0
            log.info("the response cache in Redis (%s) is back", self._address)


def _said(error: Exception) -> str:
    """Redis' and the system's own words, which redis-py cuts and wraps."""
    text = str(error)
    for code, words in (("NOAUTH", "Authentication required"), ("WRONGPASS", "invalid username")):
        if text.startswith(words):
            return f"{code} {text}"
    number = re.search(r"Errno (\d+)|Error (\d+) connecting", text)
    return os.strerror(int(number[1] or number[2])) if number else text


def encode(response: Response) -> bytes:
    """An answer as bytes: the length of a JSON head, the head, the tensors one after another."""
    parts = [to_bytes(tensor) for tensor in response.outputs.values()]
    tensors = [
        (name, datatype_of(tensor), tensor.shape, len(part))
        for (name, tensor), part in zip(response.outputs.items(), parts, strict=True)
    ]
    head = json.dumps({"tensors": tensors, "parameters": dict(response.parameters)}).encode()
    return b"".join([_LENGTH.pack(len(head)), head, *parts])


def decode(data: bytes) -> Response:
    """The answer in `data`; its tensors are views. Raises ValueError, KeyError, struct.error."""
    start = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    head = json.loads(data[_LENGTH.size : start])
    outputs = {}
    for name, datatype, shape, size in head["tensors"]:
        part = memoryview(data)[start : start + size]
        outputs[name] = from_bytes(part, datatype, tuple(shape))
        start += size
    return Response(outputs, head["parameters"])
