"""A job as its clients see it."""

from __future__ import annotations

from typing import Any

import orjson

from nerite.frontends.jobs.live import Preview, View


def document(view: View, lifetime: float) -> dict[str, Any]:
    """For `orjson.dumps`: what is JSON already is copied and not read."""
    job = view.job
    ends = job.finished + lifetime if job.finished else 0.0
    return {
        "id": job.id,
        "object": "image.job",
        "status": job.status,
        "model": job.model,
        "created_at": int(job.created),
        "finished_at": int(job.finished) or None,
        "expires_at": int(ends) or None,
        "queue_position": view.queue_position,
        "progress": view.progress,
        "eta_seconds": view.eta_seconds,
        "request": orjson.Fragment(job.shown),
        "result": job.result and orjson.Fragment(job.result),
        "error": job.error and orjson.Fragment(job.error),
    }


def event(told: View | Preview, lifetime: float) -> bytes:
    """As a server-sent event."""
    if isinstance(told, Preview):
        return b"event: job.preview\ndata: " + orjson.dumps(told) + b"\n\n"
    return b"event: job.updated\ndata: " + orjson.dumps(document(told, lifetime)) + b"\n\n"
