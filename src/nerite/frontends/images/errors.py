"""Errors as OpenAI's clients read them: four keys, and headers that say whether to try again."""

from __future__ import annotations

import re
from typing import Any

from nerite.core.errors import InferenceError, Status
from nerite.frontends.complaints import openai_error

_STATUS = {
    Status.NOT_FOUND: 404,
    Status.UNAVAILABLE: 503,
    Status.UNSUPPORTED: 400,
    Status.INTERNAL: 500,
    Status.UNKNOWN: 500,
    Status.CANCELLED: 503,
}
_FULL = "Exceeds maximum queue size"
# What a model calls the things that a request calls otherwise.
_NAMES = {"width": "size", "height": "size", "num_images": "n"}
_OWN = (
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "guidance_scale",
    "scheduler",
    "strength",
    "image",
    "mask",
)
_FIRST = re.compile(r"(?:input |parameter )?'?(\w+)'?")


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """retry_after: seconds; None where trying again cannot help."""
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    @property
    def document(self) -> dict[str, Any]:
        return openai_error(self.status, self.message, self.param, self.code)

    @property
    def headers(self) -> dict[str, str]:
        if self.retry_after is None:
            return {"x-should-retry": "false"}
        return {"retry-after": str(self.retry_after)}


def bad(message: str, param: str | None, code: str | None = None) -> ApiError:
    """The commonest: what was asked cannot be served."""
    return ApiError(400, message, param=param, code=code or "invalid_value")


def of_inference(error: InferenceError, label: str = "") -> ApiError:
    """What a model or the server said of a request; `label` is the one at its head."""
    message = error.message.removeprefix(label)
    if _FULL in message:
        text = "the model's queue is full: try again when some of it is painted"
        return ApiError(429, text, code="queue_full", retry_after=2)
    status = _STATUS.get(error.status, 400)
    if status == 503:
        return ApiError(503, message, code="unavailable", retry_after=1)
    if status != 400:
        return ApiError(status, message)
    found = _FIRST.match(message)
    word = _NAMES.get(found[1], found[1]) if found else ""
    param = word if word in _OWN or word in _NAMES.values() else None
    return bad(message, param)
