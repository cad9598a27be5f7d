"""Late answers, for those who test what a client does about them: Triton's test hooks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc

_OTHERS = "TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC"
# Of an inference, in milliseconds: before it is begun, and before its answer is sent.
_BEFORE = "TRITONSERVER_DELAY_GRPC_PROCESS"
_AFTER = ("TRITONSERVER_DELAY_RESPONSE_COMPLETION", "TRITONSERVER_DELAY_RESPONSE_COMPLETE_EXEC")
_INFERS = ("ModelInfer", "ModelStreamInfer")

log = logging.getLogger(__name__)


class GrpcDelay(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Answers every RPC that infers nothing `others` seconds late; has ModelInfer wait so long
    `before` it is begun and `after` it is done."""

    def __init__(self, others: float, before: float = 0.0, after: float = 0.0) -> None:
        self._others = others
        self._before = before
        self._after = after

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        infers = details.method.rpartition("/")[2] in _INFERS
        times = (self._before, self._after) if infers else (0.0, self._others)
        return grpc.unary_unary_rpc_method_handler(
            _late(handler.unary_unary, *times),
            handler.request_deserializer,
            handler.response_serializer,
        )


def _late(answer: Callable[[Any, Any], Awaitable[Any]], before: float, after: float) -> Any:
    async def late(request: Any, context: Any) -> Any:
        await _wait(before)
        response = await answer(request, context)
        await _wait(after)
        return response

    return late


async def _wait(seconds: float) -> None:
    try:
        if seconds:
            await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        log.debug("Cancellation notification received for a late answer")
        raise


def delays(environment: Mapping[str, str]) -> list[GrpcDelay]:
    """What the environment asks for; ValueError when that is no number."""
    others = float(environment.get(_OTHERS) or 0)
    before = float(environment.get(_BEFORE) or 0) / 1000
    after = sum(float(environment.get(name) or 0) for name in _AFTER) / 1000
    return [GrpcDelay(others, before, after)] if max(others, before, after) > 0 else []
