"""Prometheus metrics under Triton's names, read from the models' own counts when scraped.

The text format is written here: prometheus_client appends `_total` to every counter, and Triton's
counters have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from nerite.core.stats import Counts
from nerite.frontends.answers import not_allowed
from nerite.frontends.http1 import Exchange
from nerite.server import Server

_CONTENT_TYPE = b"Content-Type: text/plain; charset=utf-8\r\n"
_COUNTERS: list[tuple[str, str, Callable[[Counts], int]]] = [
    (
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
        lambda counts: counts.requests,
    ),
    (
        "nv_inference_count",
        "Number of inferences performed (does not include cached requests)",
        lambda counts: counts.inferences,
    ),
    (
        "nv_inference_exec_count",
        "Number of model executions performed (does not include cached requests)",
        lambda counts: counts.executions,
    ),
    (
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds (includes cached requests)",
        lambda counts: counts.request_ns // 1000,
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        lambda counts: counts.queue_ns // 1000,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        lambda counts: counts.infer_ns // 1000,
    ),
]
_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")

Sample = tuple[Mapping[str, str], int]


class Metrics:
    """Answers a scrape; nothing is counted here."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __call__(self, exchange: Exchange) -> None:
        if exchange.head.method not in ("GET", "HEAD"):
            not_allowed(exchange)
        elif exchange.head.path != "/metrics":
            exchange.respond(200)  # Triton's metrics port says nothing, and says it politely
        else:
            exchange.respond(200, _CONTENT_TYPE, [self.text().encode()])

    def text(self) -> str:
        """All metrics in Prometheus' text format, version 0.0.4."""
        models = [
            ({"model": model.name, "version": str(model.version)}, model)
            for model in self._server.models
        ]
        counts = [(labels, model.stats.snapshot()) for labels, model in models]
        lines: list[str] = []
        for name, text, value in _COUNTERS:
            lines += _family(name, "counter", text, ((at, value(count)) for at, count in counts))
        lines += _family(
            "nv_inference_request_failure",
            "counter",
            "Number of failed inference requests, all batch sizes",
            (
                ({**labels, "reason": reason}, count.failures.get(reason, 0))
                for labels, count in counts
                for reason in _REASONS
            ),
        )
        lines += _family(
            "nv_inference_pending_request_count",
            "gauge",
            "Instantaneous number of pending requests awaiting execution per-model.",
            ((labels, model.pending) for labels, model in models),
        )
        return "\n".join([*lines, ""])


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> list[str]:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        shown = ",".join(f'{key}="{_escape(label)}"' for key, label in sorted(labels.items()))
        lines.append(f"{name}{{{shown}}} {value}")
    return lines


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
