"""Late answers, for those who test what a client does about them: Triton's test hook."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc

_VARIABLE = "TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC"
_INFERS = ("ModelInfer", "ModelStreamInfer")


class GrpcDelay(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Answers every RPC that infers nothing `seconds` late."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        if details.method.rpartition("/")[2] in _INFERS:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self._late(handler.unary_unary),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _late(self, answer: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        async def late(request: Any, context: Any) -> Any:
            response = await answer(request, context)
            await asyncio.sleep(self._seconds)
            return response

        return late


def delays(environment: Mapping[str, str]) -> list[GrpcDelay]:
    """What the environment asks for; ValueError when that is no number."""
    seconds = float(environment.get(_VARIABLE) or 0)
    return [GrpcDelay(seconds)] if seconds > 0 else []
