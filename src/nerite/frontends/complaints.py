"""Errors that are answered before a door hears of a request, in that door's form."""

from __future__ import annotations

import secrets
from typing import Any

import orjson

from nerite.frontends.http1_head import Head, Reply

_JSON = b"Content-Type: application/json\r\n"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 413: "request_too_large"}


def openai_error(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """OpenAI's form, in which clients look for all four keys."""
    usual = "server_error" if status >= 500 else "invalid_request_error"
    kind = _TYPES.get(status, usual)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def is_openai(head: Head) -> bool:
    """Whether a request is for /v1, which is OpenAI's."""
    return head.path.startswith("/v1/")


def limit_body(head: Head, limit: int) -> None:
    """Take no more than so many bytes with this request."""
    head.limit = limit
    if head.length > limit and head.reply is None:
        text = (
            f"the request has {head.length} bytes; at most {limit} are taken. "
            "Use --http-max-input-size to increase the limit."
        )
        head.reply = complaint(head, 413, text)


def complaint(head: Head | None, status: int, text: str, headers: bytes = b"") -> Reply:
    """head: None where it could not be read."""
    if head is None or not is_openai(head):
        return Reply(status, headers + _JSON, orjson.dumps({"error": text}))
    id = b"x-request-id: req_%s\r\nx-should-retry: false\r\n" % secrets.token_hex(12).encode()
    document = openai_error(status, text, code=_CODES.get(status))
    return Reply(status, headers + _JSON + id, orjson.dumps(document))
