"""The statistics extension: what the models' own counts say, in the one form that both the HTTP
and the gRPC door give it (KServe's ModelStatisticsResponse as JSON)."""

from __future__ import annotations

from typing import Any

from nerite.core.errors import invalid
from nerite.core.stats import Batches, Counts, Duration, ResponseCounts
from nerite.model import Model
from nerite.server import Server


def statistics(server: Server, name: str = "", version: str = "") -> dict[str, Any]:
    """Of one version, of all ready versions of a model, or of all models.

    Raises InferenceError with Triton's texts: a model that is not ready is a bad request.
    """
    models = [model for model in server.models if not name or model.name == name]
    if name and not models:
        raise invalid(f"requested model '{name}' is not available")
    if version:
        number = _version(version)
        models = [model for model in models if model.version == number]
        if not models:
            raise invalid(f"requested model version is not available for model '{name}'")
    return {"model_stats": [_model(model) for model in models]}


def _version(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise invalid(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0"
        ) from None


def _model(model: Model) -> dict[str, Any]:
    counts = model.stats.counts
    held = model.memory_bytes
    return {
        "name": model.name,
        "version": str(model.version),
        "last_inference": counts.last_inference_ms,
        "inference_count": counts.inferences,
        "execution_count": counts.executions,
        "inference_stats": _requests(counts),
        "response_stats": {
            str(index): _responses(one) for index, one in enumerate(counts.responses)
        },
        "batch_stats": [_batches(size, one) for size, one in sorted(counts.batches.items())],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": held}] if held else [],
    }


def _requests(counts: Counts) -> dict[str, Any]:
    computed = counts.requests - counts.cache_hit.count
    return {
        "success": _duration(counts.requests, counts.request_ns),
        "fail": _duration(sum(counts.failures.values()), counts.failure_ns),
        "queue": _duration(counts.requests, counts.queue_ns),
        "compute_input": _duration(computed, counts.input_ns),
        "compute_infer": _duration(computed, counts.infer_ns),
        "compute_output": _duration(computed, counts.output_ns),
        "cache_hit": _of(counts.cache_hit),
        "cache_miss": _of(counts.cache_miss),
    }


def _batches(size: int, counts: Batches) -> dict[str, Any]:
    return {
        "batch_size": size,
        "compute_input": _duration(counts.count, counts.input_ns),
        "compute_infer": _duration(counts.count, counts.infer_ns),
        "compute_output": _duration(counts.count, counts.output_ns),
    }


def _responses(counts: ResponseCounts) -> dict[str, Any]:
    return {
        "compute_infer": _of(counts.infer),
        "compute_output": _of(counts.output),
        "success": _of(counts.success),
        "fail": _of(counts.fail),
        "empty_response": _of(counts.empty),
        "cancel": _of(counts.cancel),
    }


def _of(duration: Duration) -> dict[str, int]:
    return _duration(duration.count, duration.ns)


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
