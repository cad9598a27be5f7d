"""A job as the server tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from nerite.client.errors import UnexpectedAnswer
from nerite.client.picture import Picture, pictures
from nerite.client.settings import told_of

Status: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Job:
    """Work that the server keeps, also over a restart.

    created_at: seconds since 1970. queue_position: 0 once it runs. progress: from 0 to 1.
    eta_seconds: until it is done. None where the server does not say. request: what was asked
    for. error: why it failed. pictures: when it has succeeded.
    """

    id: str
    status: Status
    created_at: float
    progress: float
    queue_position: int | None = None
    eta_seconds: float | None = None
    error: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = field(default=(), repr=False)

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in FINAL

    @classmethod
    def read(cls, document: Any) -> Job:
        """From the server's JSON. Raises UnexpectedAnswer."""
        try:
            request = document.get("request") or {}
            result, error = document.get("result"), document.get("error")
            return cls(
                id=document["id"],
                status=document["status"],
                created_at=document["created_at"],
                progress=document.get("progress") or 0.0,
                queue_position=document.get("queue_position"),
                eta_seconds=document.get("eta_seconds"),
                error=error.get("message") if isinstance(error, dict) else error,
                request=request,
                pictures=tuple(pictures(result, _told(request))) if result else (),
            )
        except (AttributeError, KeyError, TypeError) as fault:
            raise UnexpectedAnswer("the server's answer is not a job.") from fault


def _told(request: Mapping[str, Any]) -> dict[str, Any]:
    simple = (str, int, float)
    return {k: v for k, v in told_of(request).items() if isinstance(v, simple)}
