"""The one ASGI app of the HTTP port: who answers which path."""

from __future__ import annotations

import logging

from nerite.core.errors import InferenceError, Status
from nerite.frontends.asgi import Receive, Scope, Send, answer_error, not_found
from nerite.frontends.metrics import Metrics
from nerite.frontends.v2_http import V2Http
from nerite.server import Server

log = logging.getLogger(__name__)


class App:
    """/v2 is KServe's, /metrics Prometheus'; what breaks is logged and shown as a plain 500."""

    def __init__(self, server: Server, version: str) -> None:
        self._v2 = V2Http(server, version)
        self._metrics = Metrics(server)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        try:
            if path.startswith("/v2/") or path == "/v2":
                await self._v2(scope, receive, send)
            elif path == "/metrics":
                await self._metrics(scope, receive, send)
            else:
                await not_found(send)
        except Exception:
            log.exception("%s %s failed", scope["method"], path)
            text = "internal error; the server's log says more"
            await answer_error(send, InferenceError(Status.INTERNAL, text))
