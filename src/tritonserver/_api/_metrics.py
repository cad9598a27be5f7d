"""Metrics of the host program's own, told together with the server's."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator

from tritonserver._api._errors import InvalidArgumentError, UnsupportedError
from tritonserver._api._kinds import MetricKind

# Triton's families belong to the process and not to a server; they live as long as their owner.
_families: weakref.WeakSet[MetricFamily] = weakref.WeakSet()


class MetricFamily:
    """A name, its sentence and what kind of number it is; it has a value per Metric."""

    def __init__(self, kind: MetricKind, name: str, description: str) -> None:
        self.kind = kind
        self.name = name
        self.description = description
        self.metrics: weakref.WeakSet[Metric] = weakref.WeakSet()
        _families.add(self)


class Metric:
    """One number of a family, told by its labels. Safe from any thread."""

    def __init__(self, family: MetricFamily, labels: dict[str, str] | None = None) -> None:
        self._family = family
        self._value = 0.0
        self._lock = threading.Lock()
        self.labels = dict(labels or {})
        family.metrics.add(self)

    @property
    def kind(self) -> MetricKind:
        return self._family.kind

    @property
    def value(self) -> float:
        return self._value

    def increment(self, value: float) -> None:
        """Add to it. Raises InvalidArgumentError where a counter would fall."""
        if self.kind is MetricKind.COUNTER and value < 0:
            raise InvalidArgumentError(
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by "
                "non-negative values."
            )
        with self._lock:
            self._value += value

    def set_value(self, value: float) -> None:
        """Raises UnsupportedError for a counter."""
        if self.kind is MetricKind.COUNTER:
            raise UnsupportedError("TRITONSERVER_METRIC_KIND_COUNTER does not support Set")
        self._value = value


def own_metrics() -> str:
    """All of the process's own metrics in Prometheus' text format."""
    return "".join(
        f"{line}\n"
        for family in sorted(_families, key=lambda one: one.name)
        for line in _lines(family)
    )


def _lines(family: MetricFamily) -> Iterator[str]:
    metrics = sorted(family.metrics, key=lambda one: sorted(one.labels.items()))
    if not metrics:
        return
    yield f"# HELP {family.name} {family.description}"
    yield f"# TYPE {family.name} {family.kind.name.lower()}"
    for metric in metrics:
        labels = ",".join(f'{key}="{_escape(text)}"' for key, text in metric.labels.items())
        yield f"{family.name}{f'{{{labels}}}' if labels else ''} {metric.value:g}"


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
