"""The RPCs of GRPCInferenceService and of grpc.health.v1, as routes to the methods that answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2 as pb

from nerite.core.errors import InferenceError, Status, invalid
from nerite.frontends.http2 import GrpcCode, Route, Rpc
from nerite.frontends.http2_rpc import BROKEN

log = logging.getLogger(__name__)

_SERVICES = (
    pb.DESCRIPTOR.services_by_name["GRPCInferenceService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
)
_CODES = {
    Status.UNKNOWN: GrpcCode.UNKNOWN,
    Status.INTERNAL: GrpcCode.INTERNAL,
    Status.NOT_FOUND: GrpcCode.NOT_FOUND,
    Status.INVALID_ARG: GrpcCode.INVALID_ARGUMENT,
    Status.UNAVAILABLE: GrpcCode.UNAVAILABLE,
    Status.UNSUPPORTED: GrpcCode.UNIMPLEMENTED,
    Status.ALREADY_EXISTS: GrpcCode.ALREADY_EXISTS,
    Status.CANCELLED: GrpcCode.CANCELLED,
}
_running: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly


def routes_of(servicer: Any) -> dict[str, Route]:
    """By its path, each RPC that `servicer` has a method for.

    ModelInfer is answered by `infer`, and ModelStreamInfer by the coroutine `stream`, which take
    the Rpc; the others by coroutines from message to message. They may raise InferenceError.
    """
    routes: dict[str, Route] = {}
    for service in _SERVICES:
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            if method.name == "ModelInfer":
                routes[path] = Route(servicer.infer)
            elif method.name == "ModelStreamInfer":
                routes[path] = Route(_tasked(servicer.stream), streams=True)
            elif hasattr(servicer, method.name):
                message = GetMessageClass(method.input_type)
                routes[path] = Route(_tasked(_unary(getattr(servicer, method.name), message)))
    return routes


def read(kind: Any, data: Any) -> Any:
    """A message of this class. Raises InferenceError for bytes that are none."""
    try:
        return kind.FromString(bytes(data))
    except DecodeError:
        raise invalid(f"the message is no {kind.DESCRIPTOR.name}") from None


def fail(rpc: Rpc, error: InferenceError) -> None:
    log.debug("RPC failed: %s", error.message)
    rpc.fail(_CODES[error.status], error.message)


def _unary(
    answer: Callable[[Any], Awaitable[Any]], message: Any
) -> Callable[[Rpc], Awaitable[None]]:
    async def work(rpc: Rpc) -> None:
        response = await answer(read(message, rpc.message))
        rpc.respond([response.SerializeToString()])

    return work


def _tasked(work: Callable[[Rpc], Awaitable[None]]) -> Callable[[Rpc], None]:
    async def run(rpc: Rpc) -> None:
        try:
            await work(rpc)
        except InferenceError as error:
            fail(rpc, error)
        except Exception:
            log.exception("%s failed", rpc.head.path)
            rpc.fail(GrpcCode.INTERNAL, BROKEN)

    def start(rpc: Rpc) -> None:
        task = asyncio.get_running_loop().create_task(run(rpc))
        _running.add(task)
        task.add_done_callback(_running.discard)
        rpc.on_disconnect = task.cancel

    return start
