"""What can go wrong, by class. Each message is a sentence for a person.

NeriteError
  ConnectionFailed      no server answers, or it hung up (also a ConnectionError)
  TimedOut              the call's time is up (also a TimeoutError)
  UnexpectedAnswer      what answers there is no images API
  JobFailed             the job that was waited for failed or was cancelled
  ApiError              the server says no
    BadRequest            400, 413, 415, 422 and others: `param` names the field
    Unauthorized          401: no API key, or a wrong one
    Forbidden             403
    NotFound              404: no such model or job
    Conflict              409
    TooManyRequests       429: `retry_after` says in how many seconds to come back
    ServerFault           500 and above
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerite.client.job import Job

_REQUEST_ID = re.compile(r"^\[request id: [^]]*\] ")  # Triton's, of no use in a sentence


class NeriteError(Exception):
    """Whatever a call of the client may raise; `str()` is a sentence for a person."""


class ConnectionFailed(NeriteError, ConnectionError):
    """No server answers at the address, or it closed the connection before it had answered."""


class TimedOut(NeriteError, TimeoutError):
    """The call took longer than its `timeout`; the server has been told to stop working on it."""


class UnexpectedAnswer(NeriteError):
    """Something answers at the address, and it is not a server of the images API."""


class JobFailed(NeriteError):
    """A job that was waited for did not succeed; `job` is what became of it."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} {job.status}{f': {job.error}' if job.error else '.'}")
        self.job = job


class ApiError(NeriteError):
    """The server refused; the fields are those of OpenAI's errors.

    status: of HTTP. param: the field that is wrong. request_id: to be found in the server's log.
    retry_after: seconds, where the server names a time. may_retry: False where asking again is
    of no use, as the server says.
    """

    def __init__(self, message: str, status: int, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        fields = fields or {}
        self.message = message
        self.status = status
        self.type: str | None = fields.get("type")
        self.param: str | None = fields.get("param")
        self.code: str | None = fields.get("code")
        self.request_id: str | None = None
        self.retry_after: float | None = None
        self.may_retry = True


class BadRequest(ApiError):
    """The request is wrong; `param` names the field, where it is one field's fault."""


class Unauthorized(ApiError):
    """The server wants an API key, or does not know this one."""


class Forbidden(ApiError):
    """The server does not let this client do that."""


class NotFound(ApiError):
    """There is no such model or job."""


class Conflict(ApiError):
    """The request does not fit what the server has or does at the moment."""


class TooManyRequests(ApiError):
    """The server's queue is full; `retry_after` says when to come back."""


class ServerFault(ApiError):
    """The server could not, through no fault of the request."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: TooManyRequests,
}


def refusal(status: int, headers: Mapping[str, str], document: Any) -> ApiError | None:
    """The error in an answer, OpenAI's or KServe's; None when there is none to be found."""
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, str):
        error = {"message": _REQUEST_ID.sub("", error)}
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    kind = _BY_STATUS.get(status, ServerFault if status >= 500 else BadRequest)
    found = kind(error["message"], status, error)
    found.request_id = headers.get("x-request-id")
    found.retry_after = _seconds(headers.get("retry-after"))
    found.may_retry = headers.get("x-should-retry") != "false"
    return found


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:  # a date, which our server does not send
        return None
