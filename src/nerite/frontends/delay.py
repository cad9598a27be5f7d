"""Late answers, for those who test what a client does about them: Triton's test hooks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nerite.frontends.http2 import GrpcCode, Route, Rpc

_OTHERS = "TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC"
# Of an inference, in milliseconds: before it is begun, and before its answer is sent.
_BEFORE = "TRITONSERVER_DELAY_GRPC_PROCESS"
_AFTER = ("TRITONSERVER_DELAY_RESPONSE_COMPLETION", "TRITONSERVER_DELAY_RESPONSE_COMPLETE_EXEC")

log = logging.getLogger(__name__)


class GrpcDelay:
    """Answers every RPC that infers nothing `others` seconds late; has ModelInfer wait so long
    `before` it is begun and `after` it is done."""

    def __init__(self, others: float, before: float = 0.0, after: float = 0.0) -> None:
        self._others = others
        self._before = before
        self._after = after

    def __call__(self, path: str, route: Route) -> Route:
        if route.streams:
            return route
        infers = path.endswith("/ModelInfer")
        before, after = (self._before, self._after) if infers else (0.0, self._others)

        def start(rpc: Rpc) -> None:
            _wait(rpc, before, lambda: route.start(_Late(rpc, after)))  # type: ignore[arg-type]

        return Route(start)


class _Late:
    """An Rpc whose end comes late."""

    def __init__(self, rpc: Rpc, seconds: float) -> None:
        self._rpc = rpc
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rpc, name)

    @property
    def on_disconnect(self) -> Callable[[], object] | None:
        return self._rpc.on_disconnect

    @on_disconnect.setter
    def on_disconnect(self, do: Callable[[], object] | None) -> None:
        self._rpc.on_disconnect = do

    def respond(self, parts: Sequence[bytes]) -> None:
        _wait(self._rpc, self._seconds, lambda: self._rpc.respond(parts))

    def fail(self, code: GrpcCode, text: str) -> None:
        _wait(self._rpc, self._seconds, lambda: self._rpc.fail(code, text))


def _wait(rpc: Rpc, seconds: float, then: Callable[[], None]) -> None:
    if not seconds:
        then()
        return
    timer = asyncio.get_running_loop().call_later(seconds, then)

    def gone() -> None:
        timer.cancel()
        log.debug("Cancellation notification received for a late answer")

    rpc.on_disconnect = gone


def delay(environment: Mapping[str, str]) -> GrpcDelay | None:
    """What the environment asks for; ValueError when that is no number."""
    others = float(environment.get(_OTHERS) or 0)
    before = float(environment.get(_BEFORE) or 0) / 1000
    after = sum(float(environment.get(name) or 0) for name in _AFTER) / 1000
    return GrpcDelay(others, before, after) if max(others, before, after) > 0 else None
