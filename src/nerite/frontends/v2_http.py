"""KServe v2 over HTTP: health, metadata, configuration, inference."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.frontends.answers import JSON, answer_error, answer_json, not_allowed, not_found
from nerite.frontends.asking import ask
from nerite.frontends.http1 import Exchange, Head
from nerite.frontends.intake import Intake
from nerite.frontends.packed import respond, unpack
from nerite.frontends.regions import Regions
from nerite.frontends.v2_generate import GenerateDoor
from nerite.frontends.v2_metadata import model_metadata, server_metadata
from nerite.frontends.v2_repository import RepositoryDoor
from nerite.frontends.v2_request import Templates, raw_request
from nerite.frontends.v2_response import OutputForm, Target, encode
from nerite.frontends.v2_settings import SettingsDoor
from nerite.frontends.v2_shared_memory import SharedMemoryDoor
from nerite.frontends.v2_statistics import statistics
from nerite.repository.config import to_dict
from nerite.server import Server

log = logging.getLogger(__name__)

_OCTETS = b"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n"
_HEADER_LENGTH = "inference-header-content-length"
Route = Callable[[Exchange], None]


class V2Http:
    """Answers everything below /v2. Belongs to the server's loop."""

    def __init__(self, server: Server, version: str, regions: Regions, intake: Intake) -> None:
        self._input_limit = intake.limit
        self._forward = intake.forward
        self._server = server
        self._asking: set[asyncio.Task[None]] = set()
        self._version = version
        self._regions = regions
        self._templates = Templates(regions)
        self._raw_form = OutputForm({}, True)
        self._shared_memory = SharedMemoryDoor(regions)
        self._repository = RepositoryDoor(server)
        self._generate = GenerateDoor(server, intake.forward)
        self._settings = SettingsDoor(server)

    def __call__(self, exchange: Exchange) -> None:
        head = exchange.head
        if head.route is None:
            head.route = self._route(head)
        try:
            if len(exchange.body) > self._input_limit:
                _check_size(exchange, self._input_limit)
            head.route(exchange)
        except InferenceError as error:
            answer_error(exchange, error)

    def _route(self, head: Head) -> Route:
        """What answers this method and path; kept with the head, which clients repeat."""
        setting = self._settings.find(head.method, head.path)
        if setting is not None:
            return setting
        method, route = self._find(head.path)
        if route is None:
            return not_found
        return route if head.method == method else not_allowed

    def _find(self, path: str) -> tuple[str, Route | None]:
        match path.split("/")[2:]:
            case ["models", name, "infer"]:
                return "POST", partial(self._infer, name, "")
            case ["models", name, "versions", version, "infer"]:
                return "POST", partial(self._infer, name, version)
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
        except InferenceError as error:
            answer_error(exchange, error)

    def _infer(self, name: str, version: str, exchange: Exchange) -> None:
        if "content-encoding" in exchange.head.headers:
            unpack(exchange, self._input_limit, partial(self._submit, name, version))
        else:
            self._submit(name, version, exchange)

    def _submit(self, name: str, version: str, exchange: Exchange) -> None:
        model = self._server.find(name, version)
        if model.decoupled:
            text = "HTTP end point doesn't support models with decoupled transaction policy"
            raise InferenceError(Status.UNSUPPORTED, text)
        length = _header_length(exchange)
        if length == 0:
            request, form = raw_request(model, version, exchange.body), self._raw_form
        else:
            request, form = self._templates.decode(name, version, exchange.body, length)
        if self._forward.active:
            request = self._forward(request, exchange.head.pairs)
        target = Target(model, form, form.places(self._regions))
        ask(self._server, exchange, request, partial(self._deliver, exchange, target))

    @staticmethod
    def _deliver(exchange: Exchange, target: Target, call: Call, answer: Answer) -> None:
        """The model's answer, on the loop."""
        if isinstance(answer, InferenceError):
            answer_error(exchange, answer)
            return
        try:
            parts, length = encode(call.request, answer, target)
        except InferenceError as error:
            answer_error(exchange, error)
            return
        except Exception:  # whoever delivers knows nothing of this exchange
            log.exception("the answer of model '%s' cannot be written", call.request.model)
            exchange.fail()
            return
        headers = JSON if length is None else _OCTETS % length
        if "accept-encoding" in exchange.head.headers:
            respond(exchange, headers, parts)
        else:
            exchange.respond(200, headers, parts)


def _say_ready(exchange: Exchange, ready: bool) -> None:
    if ready:
        exchange.respond(200)
    else:
        answer_json(exchange, {"error": "Model version not ready"}, 400)


def _check_size(exchange: Exchange, limit: int) -> None:
    """Of what is larger than `limit`, the tensors behind an inference's JSON may be."""
    size, length = len(exchange.body), None
    if exchange.head.path.endswith("/infer"):
        if exchange.head.headers.get("content-encoding", "identity") != "identity":
            return  # its decompressed size counts
        length = _header_length(exchange)
    hint = f"of {limit} bytes. Use --http-max-input-size to increase the limit."
    if length == 0:
        raise invalid(
            f"Raw input has a byte_size ({size} bytes) that exceeds the maximum allowed value "
            f"{hint}"
        )
    if length is None or length > limit:
        raise invalid(
            f"request JSON size of {length or size} bytes exceeds the maximum allowed input size "
            f"{hint}"
        )


def _header_length(exchange: Exchange) -> int | None:
    text = exchange.head.headers.get(_HEADER_LENGTH)
    if text is None:
        return None
    try:
        length = int(text)
    except ValueError:
        raise invalid(f"Unable to parse Inference-Header-Content-Length, got: {text}") from None
    if not 0 <= length <= len(exchange.body):
        raise invalid(
            f"inference header size should be in range (0, {len(exchange.body)}), got: {length}"
        )
    return length
