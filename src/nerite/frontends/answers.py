"""What all HTTP doors say in the same way: JSON, and errors with Triton's status codes."""

from __future__ import annotations

import logging
from typing import Any

import orjson

from nerite.core.errors import InferenceError, Status
from nerite.core.text import sayable
from nerite.frontends.compression import UnsupportedEncoding
from nerite.frontends.http1 import Exchange

log = logging.getLogger(__name__)

# Triton's map from error codes to HTTP; whatever is not here is a 400.
_HTTP_STATUS = {
    Status.INTERNAL: 500,
    Status.NOT_FOUND: 404,
    Status.UNAVAILABLE: 503,
    Status.UNSUPPORTED: 501,
}
JSON = b"Content-Type: application/json\r\n"


def answer_json(exchange: Exchange, document: Any, status: int = 200) -> None:
    exchange.respond(status, JSON, [json_of(document)])


def answer_error(exchange: Exchange, error: Exception) -> None:
    """Of what is none of our errors a client is told only that there was one."""
    if not isinstance(error, InferenceError):
        log.error("%s %s failed", exchange.head.method, exchange.head.path, exc_info=error)
        exchange.fail()
        return
    log.debug("HTTP request failed: %s", error.message)
    headers = JSON + error.headers if isinstance(error, UnsupportedEncoding) else JSON
    exchange.respond(http_status(error), headers, [json_of({"error": error.message})])


def json_of(document: Any) -> bytes:
    """Also of texts with halves of surrogate pairs, which a model may say and UTF-8 cannot.

    Raises TypeError for what is not JSON.
    """
    try:
        return orjson.dumps(document)
    except TypeError:
        return orjson.dumps(_sayable(document))


def _sayable(value: Any) -> Any:
    if isinstance(value, str):
        return sayable(value)
    if isinstance(value, dict):
        return {_sayable(key): _sayable(one) for key, one in value.items()}
    return [_sayable(one) for one in value] if isinstance(value, (list, tuple)) else value


def http_status(error: InferenceError) -> int:
    return _HTTP_STATUS.get(error.status, 400)


def not_found(exchange: Exchange) -> None:
    answer_json(exchange, {"error": "Not Found"}, 404)


def not_allowed(exchange: Exchange) -> None:
    answer_json(exchange, {"error": "Method Not Allowed"}, 405)
