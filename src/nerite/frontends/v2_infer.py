"""KServe v2 over HTTP: inference, from a body to its answer.

What a head says of the body behind it is found out once, and kept with the head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request
from nerite.frontends.answers import JSON, answer_error
from nerite.frontends.asking import ask
from nerite.frontends.http1 import Exchange, Head
from nerite.frontends.intake import Intake
from nerite.frontends.packed import respond, unpack
from nerite.frontends.regions import Regions
from nerite.frontends.v2_request import raw_request
from nerite.frontends.v2_response import OutputForm, Target, encode, placed, target_of
from nerite.frontends.v2_templates import Templates
from nerite.model import Model
from nerite.server import Server

_OCTETS = b"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n"
_HEADER_LENGTH = "inference-header-content-length"


class InferDoor:
    """Answers `/v2/models/NAME/infer`."""

    def __init__(self, server: Server, regions: Regions, intake: Intake) -> None:
        self.server = server
        self.regions = regions
        self.intake = intake
        self.templates = Templates(regions)
        self.raw_form = OutputForm({}, True)

    def route(self, name: str, version: str, head: Head) -> Callable[[Exchange], None]:
        """What answers requests with this head."""
        return _Route(self, name, version, head)


class _Route:
    """length: the value of Inference-Header-Content-Length, None when absent or no number."""

    def __init__(self, door: InferDoor, name: str, version: str, head: Head) -> None:
        self._server = door.server
        self._regions = door.regions
        self._limit = door.intake.limit
        self._forward = door.intake.forward
        self._raw_form = door.raw_form
        self._name, self._version = name, version
        self._kept = door.templates.of(name, version)
        self._encoded = "content-encoding" in head.headers
        self._accepts = "accept-encoding" in head.headers
        self._length_text = head.headers.get(_HEADER_LENGTH)
        self._length = _number(self._length_text)

    def __call__(self, exchange: Exchange) -> None:
        if len(exchange.body) > self._limit:
            self._check_size(exchange)
        if self._encoded:
            unpack(exchange, self._limit, self._submit)
        else:
            self._submit(exchange)

    def _submit(self, exchange: Exchange) -> None:
        model = self._server.taking(self._name, self._version)
        if model.decoupled:
            text = "HTTP end point doesn't support models with decoupled transaction policy"
            raise InferenceError(Status.UNSUPPORTED, text)
        request, form = self._decode(exchange, model)
        if self._forward.active:
            request = self._forward(request, exchange.head.pairs)
        target = target_of(model, form, self._regions)
        request = placed(request, target)
        deliver = partial(_deliver, exchange, target, self._accepts)
        ask(model, self._server.tracer, exchange, request, deliver, "HTTP")

    def _decode(self, exchange: Exchange, model: Model) -> tuple[Request, OutputForm]:
        body, length = exchange.body, self._length
        if length is None:
            if self._length_text is not None:
                text = f"Unable to parse Inference-Header-Content-Length, got: {self._length_text}"
                raise invalid(text)
            return self._kept.of_json(body)
        if not 0 <= length <= len(body):
            raise invalid(
                f"inference header size should be in range (0, {len(body)}), got: {length}"
            )
        if length:
            return self._kept.of_binary(body, length)
        return raw_request(model, self._version, body), self._raw_form

    def _check_size(self, exchange: Exchange) -> None:
        """Of what is larger than the limit, the tensors behind an inference's JSON may be."""
        if exchange.head.headers.get("content-encoding", "identity") != "identity":
            return  # its decompressed size counts
        size, length = len(exchange.body), self._length
        if length is None and self._length_text is None:
            raise too_large(size, self._limit)
        if length is None or not 0 <= length <= size:
            return  # refused for that
        if length == 0:
            raise invalid(
                f"Raw input has a byte_size ({size} bytes) that exceeds the maximum allowed value "
                f"{_hint(self._limit)}"
            )
        if length > self._limit:
            raise too_large(length, self._limit)


def too_large(size: int, limit: int) -> InferenceError:
    return invalid(
        f"request JSON size of {size} bytes exceeds the maximum allowed input size {_hint(limit)}"
    )


def _hint(limit: int) -> str:
    return f"of {limit} bytes. Use --http-max-input-size to increase the limit."


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


@lru_cache(1024)
def _octets(length: int) -> bytes:
    """The header lines of an answer with tensors behind `length` bytes of JSON."""
    return _OCTETS % length


def _deliver(exchange: Exchange, target: Target, accepts: bool, call: Call, answer: Answer) -> None:
    """The model's answer, on the loop. accepts: the client has said what encodings it takes."""
    if isinstance(answer, InferenceError):
        answer_error(exchange, answer)
        return
    if not answer.final and answer.error is None:  # how far it is, which a stream would be told
        return
    try:
        parts, length = encode(call.request, answer, target)
    except Exception as error:  # whoever delivers knows nothing of this exchange
        answer_error(exchange, error)
        return
    headers = JSON if length is None else _octets(length)
    if accepts:
        respond(exchange, headers, parts)
    else:
        exchange.respond(200, headers, parts)
