"""KServe v2 over HTTP: health, metadata, configuration, inference."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial

from nerite.frontends.answers import answer_error, answer_json, not_allowed, not_found
from nerite.frontends.http1 import Exchange, Head
from nerite.frontends.intake import Intake
from nerite.frontends.regions import Regions
from nerite.frontends.v2_generate import GenerateDoor
from nerite.frontends.v2_infer import InferDoor, too_large
from nerite.frontends.v2_metadata import model_metadata, server_metadata
from nerite.frontends.v2_repository import RepositoryDoor
from nerite.frontends.v2_settings import SettingsDoor
from nerite.frontends.v2_shared_memory import SharedMemoryDoor
from nerite.frontends.v2_statistics import statistics
from nerite.repository.config import to_dict
from nerite.server import Server

Route = Callable[[Exchange], None]
# A name of nothing, or a version that is no number: Triton has no such path.
_NO_PATH = re.compile(r"//|/$|^/v2/models/[^/]+/versions/(?![0-9]+(/|$))")


class V2Http:
    """Answers everything below /v2. Belongs to the server's loop."""

    def __init__(self, server: Server, version: str, regions: Regions, intake: Intake) -> None:
        self._input_limit = intake.limit
        self._server = server
        self._asking: set[asyncio.Task[None]] = set()
        self._version = version
        self._infer = InferDoor(server, regions, intake)
        self._shared_memory = SharedMemoryDoor(regions)
        self._repository = RepositoryDoor(server)
        self._generate = GenerateDoor(server, intake.forward)
        self._settings = SettingsDoor(server)

    def route(self, head: Head) -> Route:
        """What answers this head, which clients repeat; it raises InferenceError."""
        if _NO_PATH.search(head.path):
            return not_found
        setting = self._settings.find(head.method, head.path)
        if setting is not None:
            return self._sized(setting)
        infer = self._find_infer(head)
        if infer is not None:
            return infer if head.method == "POST" else not_allowed
        method, route = self._find(head.path)
        if route is None:
            return not_found
        return self._sized(route) if head.method == method else not_allowed

    def _sized(self, route: Route) -> Route:
        """The same for bodies that are as large as they may be."""

        def sized(exchange: Exchange) -> None:
            if len(exchange.body) > self._input_limit:
                raise too_large(len(exchange.body), self._input_limit)
            route(exchange)

        return sized

    def _find_infer(self, head: Head) -> Route | None:
        match head.path.split("/")[2:]:
            case ["models", name, "infer"]:
                return self._infer.route(name, "", head)
            case ["models", name, "versions", version, "infer"]:
                return self._infer.route(name, version, head)
        return None

    def _find(self, path: str) -> tuple[str, Route | None]:
        match path.split("/")[2:]:
            case ["models", name, "generate"]:
                return "POST", partial(self._generate.generate, name, "")
            case ["models", name, "versions", version, "generate"]:
                return "POST", partial(self._generate.generate, name, version)
            case ["models", name, "generate_stream"]:
                return "POST", partial(self._generate.stream, name, "")
            case ["models", name, "versions", version, "generate_stream"]:
                return "POST", partial(self._generate.stream, name, version)
            case ["models", "stats"]:
                return "GET", partial(self._statistics, "", "")
            case ["health", "live"]:
                return "GET", self._live
            case ["health", "ready"]:
                return "GET", self._ready
            case []:
                return "GET", self._metadata
            case ["models", name]:
                return "GET", partial(self._model_metadata, name, "")
            case ["models", name, "versions", version]:
                return "GET", partial(self._model_metadata, name, version)
            case ["models", name, "ready"]:
                return "GET", partial(self._model_ready, name, "")
            case ["models", name, "versions", version, "ready"]:
                return "GET", partial(self._model_ready, name, version)
            case ["systemsharedmemory" | "cudasharedmemory" as kind, *rest]:
                return self._shared_memory.find(kind, rest)
            case ["repository", "index"]:
                return "POST", self._repository.index
            case ["repository", "models", name, "load"]:
                return "POST", partial(self._repository.load, name)
            case ["repository", "models", name, "unload"]:
                return "POST", partial(self._repository.unload, name)
            case ["repository", _, "index"] | ["repository", _, "models", _, "load" | "unload"]:
                return "POST", self._repository.named_repository
            case ["models", name, "stats"]:
                return "GET", partial(self._statistics, name, "")
            case ["models", name, "versions", version, "stats"]:
                return "GET", partial(self._statistics, name, version)
            case ["models", name, "config"]:
                return "GET", partial(self._config, name, "")
            case ["models", name, "versions", version, "config"]:
                return "GET", partial(self._config, name, version)
        return "", None

    def _live(self, exchange: Exchange) -> None:
        exchange.respond(200 if self._server.live else 503)

    def _ready(self, exchange: Exchange) -> None:
        stopped = 503 if self._server.exiting else 400
        exchange.respond(200 if self._server.ready else stopped)

    def _metadata(self, exchange: Exchange) -> None:
        answer_json(exchange, server_metadata(self._server, self._version))

    def _model_metadata(self, name: str, version: str, exchange: Exchange) -> None:
        answer_json(exchange, model_metadata(self._server, self._server.find(name, version)))

    def _config(self, name: str, version: str, exchange: Exchange) -> None:
        answer_json(exchange, to_dict(self._server.find(name, version).config))

    def _statistics(self, name: str, version: str, exchange: Exchange) -> None:
        answer_json(exchange, statistics(self._server, name, version))

    def _model_ready(self, name: str, version: str, exchange: Exchange) -> None:
        ready = self._server.model_ready(name, version)
        if not ready or not self._server.find(name, version).checks_ready:
            _say_ready(exchange, ready)
            return
        task = asyncio.get_running_loop().create_task(self._ask_ready(name, version, exchange))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask_ready(self, name: str, version: str, exchange: Exchange) -> None:
        """The model's own code has a say in it."""
        try:
            _say_ready(exchange, await self._server.check_ready(name, version))
        except Exception as error:
            answer_error(exchange, error)


def _say_ready(exchange: Exchange, ready: bool) -> None:
    if ready:
        exchange.respond(200)
    else:
        answer_json(exchange, {"error": "Model version not ready"}, 400)
