"""Who answers which path of the HTTP port."""

from __future__ import annotations

import logging

from nerite.core.errors import InferenceError
from nerite.frontends.answers import answer_error, not_found
from nerite.frontends.asgi import Bridge
from nerite.frontends.http1 import Exchange, Handler, Head
from nerite.frontends.intake import Intake
from nerite.frontends.metrics import Metrics
from nerite.frontends.pages import Pages
from nerite.frontends.regions import Regions
from nerite.frontends.v2_http import V2Http
from nerite.server import Server

log = logging.getLogger(__name__)


class App:
    """/v2 is KServe's, /v1 OpenAI's, /metrics Prometheus', and the rest a browser's."""

    def __init__(
        self,
        server: Server,
        version: str,
        regions: Regions,
        metrics: Metrics | None,
        intake: Intake,
        images: Bridge,
    ) -> None:
        """metrics: None where they are not served. images: what answers /v1."""
        self._v2 = V2Http(server, version, regions, intake)
        self._metrics = metrics
        self._images = images
        self._pages = Pages()

    def __call__(self, exchange: Exchange) -> None:
        head = exchange.head
        if log.isEnabledFor(logging.DEBUG):
            log.debug("HTTP request: %s %s", head.method, head.path)
        if head.route is None:
            head.route = self._route(head)
        try:
            head.route(exchange)
        except InferenceError as error:
            answer_error(exchange, error)

    def _route(self, head: Head) -> Handler:
        """What answers this head; kept with it, for clients repeat themselves."""
        path = head.path
        if path.startswith("/v2/") or path == "/v2":
            return self._v2.route(head)
        if path.startswith("/v1/") or path in ("/v1", "/openapi.json"):
            return self._images
        if self._pages.has(path):
            return self._pages
        if path == "/metrics" and self._metrics is not None:
            return self._metrics
        return not_found
