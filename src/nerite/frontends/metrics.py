"""Prometheus metrics under Triton's names, read from the models' own counts when scraped.

The text format is written here: prometheus_client appends `_total` to every counter, and Triton's
counters have none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nerite.core.custom_metrics import CustomMetrics
from nerite.core.stats import Counts, Duration, Histogram, Look, Sample, Stats
from nerite.frontends.answers import answer_error, not_allowed
from nerite.frontends.http1 import Exchange
from nerite.frontends.machine import Machine
from nerite.model import Model
from nerite.server import Server

log = logging.getLogger(__name__)

_CONTENT_TYPE = b"Content-Type: text/plain; charset=utf-8\r\n"
_COUNTERS: list[tuple[str, str, Callable[[Counts], int]]] = [
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
]
_LATENCIES: list[tuple[str, str, Callable[[Counts], int]]] = [
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
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        lambda counts: counts.input_ns // 1000,
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        lambda counts: counts.infer_ns // 1000,
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds (does not include cached "
        "requests)",
        lambda counts: counts.output_ns // 1000,
    ),
]
_SUMMARIES: list[tuple[str, str, Callable[[Counts], int], Callable[[Sample], int]]] = [
    (
        "nv_inference_request_summary_us",
        "Summary of inference request duration in microseconds (includes cached requests)",
        lambda counts: counts.request_ns,
        lambda sample: sample.request_ns,
    ),
    (
        "nv_inference_queue_summary_us",
        "Summary of inference queuing duration in microseconds (includes cached requests)",
        lambda counts: counts.queue_ns,
        lambda sample: sample.queue_ns,
    ),
    (
        "nv_inference_compute_input_summary_us",
        "Summary of compute input duration in microseconds (does not include cached requests)",
        lambda counts: counts.input_ns,
        lambda sample: sample.input_ns,
    ),
    (
        "nv_inference_compute_infer_summary_us",
        "Summary of compute inference duration in microseconds (does not include cached requests)",
        lambda counts: counts.infer_ns,
        lambda sample: sample.infer_ns,
    ),
    (
        "nv_inference_compute_output_summary_us",
        "Summary of compute output duration in microseconds (does not include cached requests)",
        lambda counts: counts.output_ns,
        lambda sample: sample.output_ns,
    ),
]
_CACHE_SUMMARIES: list[
    tuple[str, str, Callable[[Stats], Iterable[Look]], Callable[[Counts], Duration]]
] = [
    (
        "nv_cache_hit_summary_per_model",
        "Summary of cache hit counts/durations per model, in microseconds.",
        lambda stats: stats.hits,
        lambda counts: counts.cache_hit,
    ),
    (
        "nv_cache_miss_summary_per_model",
        "Summary of cache miss counts/durations per model, in microseconds.",
        lambda stats: stats.misses,
        lambda counts: counts.cache_miss,
    ),
]
_CACHE: list[tuple[str, str, Callable[[Counts], int]]] = [
    (
        "nv_cache_num_hits_per_model",
        "Number of cache hits per model",
        lambda counts: counts.cache_hit.count,
    ),
    (
        "nv_cache_hit_duration_per_model",
        "Total cache hit duration per model, in microseconds",
        lambda counts: counts.cache_hit.ns // 1000,
    ),
    (
        "nv_cache_num_misses_per_model",
        "Number of cache misses per model",
        lambda counts: counts.cache_miss.count,
    ),
    (
        "nv_cache_miss_duration_per_model",
        "Total cache miss (insert+lookup) duration per model, in microseconds",
        lambda counts: counts.cache_miss.ns // 1000,
    ),
]
_REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
_WINDOW_NS = 60_000_000_000  # what a quantile looks back upon

Labels = Mapping[str, str]
# A sample's suffix to the family's name, its labels, its value.
Row = tuple[str, Labels, int | float]


@dataclass(frozen=True)
class MetricsConfig:
    """What `--metrics-config` says of the latencies; histograms and summaries are shown where
    the server's statistics keep them."""

    counters: bool = True
    quantiles: tuple[float, ...] = (0.5, 0.9, 0.95, 0.99, 0.999)

    @classmethod
    def of(cls, config: Iterable[tuple[str, str]]) -> MetricsConfig:
        values = dict(config)
        quantiles = tuple(_quantiles(values.get("summary_quantiles", "")))
        return cls(
            counters=values.get("counter_latencies") != "false",
            quantiles=quantiles or cls.quantiles,
        )


def _quantiles(text: str) -> Iterator[float]:
    """`0.5:0.05,0.9:0.01`: quantiles and the error allowed, which is none here."""
    for pair in filter(None, text.split(",")):
        try:
            quantile = float(pair.split(":")[0])
        except ValueError:
            quantile = -1.0
        if ":" in pair and 0 <= quantile <= 1:
            yield quantile
        else:
            log.error("Invalid option: [%s]. Expected format is <quantile>:<error>", pair)


class Metrics:
    """Answers a scrape; nothing is counted here."""

    def __init__(
        self,
        server: Server,
        config: MetricsConfig | None = None,
        machine: Machine | None = None,
    ) -> None:
        """machine: measured when scraped; None shows the models alone."""
        self._server = server
        self._config = config or MetricsConfig()
        self._machine = machine
        self._measuring: asyncio.Task[None] | None = None
        self._waiting: list[Exchange] = []

    def __call__(self, exchange: Exchange) -> None:
        if exchange.head.method not in ("GET", "HEAD"):
            not_allowed(exchange)
        elif exchange.head.path != "/metrics":
            exchange.respond(200)  # Triton's metrics port says nothing, and says it politely
        elif self._machine is not None and self._machine.stale:
            self._waiting.append(exchange)
            if self._measuring is None:
                self._measuring = asyncio.get_running_loop().create_task(self._measure())
        else:
            self._answer(exchange)

    async def _measure(self) -> None:
        """Ask the machine in a thread: a driver may take its time."""
        assert self._machine is not None
        try:
            await asyncio.to_thread(self._machine.measure)
        except Exception:
            log.exception("the machine cannot be measured")  # what it was before is told
        self._measuring = None
        waiting, self._waiting = self._waiting, []
        for exchange in waiting:
            self._answer(exchange)

    def _answer(self, exchange: Exchange) -> None:
        try:
            text = self.text().encode(errors="backslashreplace")
        except Exception as error:  # a task knows nothing of this exchange
            answer_error(exchange, error)
        else:
            exchange.respond(200, _CONTENT_TYPE, [text])

    def text(self) -> str:
        """All metrics in Prometheus' text format, version 0.0.4."""
        models = [(_labels(model), model, model.stats.counts) for model in self._server.models]
        lines = [
            *_requests(models),
            *_counters(_COUNTERS, models),
            *(_counters(_LATENCIES, models) if self._config.counters else ()),
            *_counters(_CACHE, [one for one in models if one[1].caching is not None]),
            *_gauges(models),
            *_pinned_memory(),
            *_first_responses(models),
            *_summaries(models, self._config.quantiles),
        ]
        lines += _custom(self._server.custom_metrics)
        if self._machine is not None:
            for name, kind, text, values in self._machine.families:
                rows = [("", labels, value) for labels, value in values]
                lines += _family(name, kind, text, rows)
        return "\n".join([*lines, ""])


Models = Sequence[tuple[Labels, Model, Counts]]


def _labels(model: Model) -> Labels:
    tags = {f"_{key}": value for key, value in model.config.metric_tags.items()}
    spaces = {"namespace": model.namespace} if model.namespace else {}
    return {"model": model.name, "version": str(model.version), **spaces, **tags}


def _requests(models: Models) -> Iterator[str]:
    success = [("", labels, counts.requests) for labels, _, counts in models]
    text = "Number of successful inference requests, all batch sizes"
    yield from _family("nv_inference_request_success", "counter", text, success)
    failure = [
        ("", {**labels, "reason": reason}, counts.failures.get(reason, 0))
        for labels, _, counts in models
        for reason in _REASONS
    ]
    text = "Number of failed inference requests, all batch sizes"
    yield from _family("nv_inference_request_failure", "counter", text, failure)


def _counters(
    families: Sequence[tuple[str, str, Callable[[Counts], int]]], models: Models
) -> Iterator[str]:
    for name, text, value in families:
        rows = [("", labels, value(counts)) for labels, _, counts in models]
        yield from _family(name, "counter", text, rows)


def _gauges(models: Models) -> Iterator[str]:
    pending = [("", labels, model.pending) for labels, model, _ in models]
    text = "Instantaneous number of pending requests awaiting execution per-model."
    yield from _family("nv_inference_pending_request_count", "gauge", text, pending)
    loaded = [("", labels, model.load_seconds) for labels, model, _ in models]
    text = "Model load time in seconds"
    yield from _family("nv_model_load_duration_secs", "gauge", text, loaded)


def _pinned_memory() -> Iterator[str]:
    """There is no such pool here; Triton's dashboards have a panel for it."""
    for name, text in (
        ("nv_pinned_memory_pool_total_bytes", "Pinned memory pool total memory size, in bytes"),
        ("nv_pinned_memory_pool_used_bytes", "Pinned memory pool used memory size, in bytes"),
    ):
        yield from _family(name, "gauge", text, [("", {}, 0)])


def _first_responses(models: Models) -> list[str]:
    rows: list[Row] = []
    for labels, model, _ in models:
        if model.stats.first_response is not None:
            rows += _histogram(labels, model.stats.first_response)
    text = "Duration from request to first response in milliseconds"
    return _family("nv_inference_first_response_histogram_ms", "histogram", text, rows)


def _histogram(labels: Labels, histogram: Histogram) -> Iterator[Row]:
    return _buckets(labels, histogram.bounds, histogram.counts, histogram.sum)


def _buckets(
    labels: Labels, bounds: Sequence[float], counts: Sequence[int], total_value: float
) -> Iterator[Row]:
    yield "_count", labels, sum(counts)
    yield "_sum", labels, total_value
    total = 0
    shown = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    for bound, count in zip(shown, counts, strict=True):
        total += count
        yield "_bucket", {**labels, "le": bound}, total


def _custom(metrics: CustomMetrics) -> Iterator[str]:
    """What models measure themselves."""
    for family in metrics.families:
        rows: list[Row] = []
        for metric in family.metrics.values():
            labels = dict(metric.labels)
            if family.kind == "histogram":
                rows += _buckets(labels, metric.bounds, metric.counts, metric.value)
            else:
                rows.append(("", labels, metric.value))
        yield from _family(family.name, family.kind, family.text, rows, always=True)


def _summaries(models: Models, quantiles: Sequence[float]) -> Iterator[str]:
    """Like Triton, without that of whole requests where answers may come from a cache."""
    since = time.monotonic_ns() - _WINDOW_NS
    for name, text, total, value in _SUMMARIES:
        rows: list[Row] = []
        for labels, model, counts in models:
            cached = model.caching is not None and name == _SUMMARIES[0][0]
            if model.stats.samples is None or cached:
                continue
            recent = [value(one) for one in model.stats.samples if one.ended_ns > since]
            whole = Duration(counts.requests, total(counts))
            rows += _summary(labels, recent, whole, quantiles)
        yield from _family(name, "summary", text, rows)
    for name, text, looks, counted in _CACHE_SUMMARIES:
        rows = []
        for labels, model, counts in models:
            if model.stats.samples is None or model.caching is None:
                continue
            recent = [one.ns for one in looks(model.stats) if one.ended_ns > since]
            rows += _summary(labels, recent, counted(counts), quantiles)
        yield from _family(name, "summary", text, rows)


def _summary(
    labels: Labels, recent: list[int], total: Duration, quantiles: Sequence[float]
) -> Iterator[Row]:
    recent.sort()
    yield "_count", labels, total.count
    yield "_sum", labels, total.ns // 1000
    for quantile in quantiles:
        yield "", {**labels, "quantile": f"{quantile:g}"}, _quantile(recent, quantile)


def _quantile(ordered: Sequence[int], quantile: float) -> int | float:
    if not ordered:
        return float("nan")
    return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)] // 1000


def _family(
    name: str, kind: str, text: str, rows: Sequence[Row], *, always: bool = False
) -> list[str]:
    """The lines of one metric; none at all where nothing has it, or with `always` its head."""
    if not rows and not always:
        return []
    lines = [f"# HELP {name} {_escape(text)}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in rows:
        shown = ",".join(f'{key}="{_quotable(labels[key])}"' for key in sorted(labels, key=_order))
        braces = f"{{{shown}}}" if shown else ""
        lines.append(f"{name}{suffix}{braces} {_value(value)}")
    return lines


def _order(label: str) -> tuple[bool, str]:
    """By name, but what Prometheus itself reads comes last, as Triton writes it."""
    return label in ("le", "quantile"), label


def _value(value: int | float) -> str:
    """Without an exponent, which not every reader of Triton's metrics understands."""
    if isinstance(value, int):
        return str(value)
    return "NaN" if value != value else f"{value:.6f}".rstrip("0").rstrip(".")


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quotable(label: str) -> str:
    return _escape(label).replace('"', r"\"")
