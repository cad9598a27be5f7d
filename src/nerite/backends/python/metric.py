"""pb_utils' metrics: a model's own counters, gauges and histograms on the metrics port."""

from __future__ import annotations

import enum
import weakref
from typing import Any, Mapping, Sequence

from nerite.backends.python.errors import TritonModelException, message_of
from nerite.backends.python.surroundings import here
from nerite.core.errors import InferenceError
from nerite.core.home import Outside
from nerite.core.text import sayable


class MetricKind(enum.Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric:
    """One value of a family. Changes are sent and not waited for; `value` waits for all of them.

    All raise TritonModelException for what the kind of metric does not do.
    """

    def __init__(self, outside: Outside, kind: MetricKind, number: int) -> None:
        self._outside = outside
        self._kind = kind
        self._number: int | None = number

    def increment(self, value: float) -> None:
        """Add `value`, which for a counter must not be negative."""
        if self._kind is MetricKind.COUNTER and value < 0:
            raise _failed(
                "increment",
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by "
                "non-negative values.",
            )
        self._tell("increment", value, MetricKind.HISTOGRAM)

    def set(self, value: float) -> None:
        """Make it `value`: of a gauge."""
        self._tell("set", value, MetricKind.COUNTER, MetricKind.HISTOGRAM)

    def observe(self, value: float) -> None:
        """Count `value` in its bucket: of a histogram."""
        self._tell("observe", value, MetricKind.COUNTER, MetricKind.GAUGE)

    def value(self) -> float:
        """What it is now, with what other instances have made of it."""
        self._check("get", "Value", (MetricKind.HISTOGRAM,))
        return float(self._outside.order("metric_value", {"metric": self._number}))

    def _tell(self, what: str, value: float, *kinds: MetricKind) -> None:
        number = float(value)
        self._check(what, what.capitalize(), kinds)
        self._outside.tell(f"metric_{what}", {"metric": self._number, "value": number})

    def _check(self, what: str, verb: str, refusing: Sequence[MetricKind]) -> None:
        if self._number is None:
            raise _failed(
                what,
                "Invalid metric operation as the corresponding 'MetricFamily' has been deleted. "
                "The 'MetricFamily' object should be deleted AFTER its corresponding 'Metric' "
                "objects have been deleted.",
            )
        if self._kind in refusing:
            name = f"TRITONSERVER_METRIC_KIND_{self._kind.name}"
            raise _failed(what, f"{name} does not support {verb}")

    def clear(self) -> None:
        """It goes, as its family or its last holder does."""
        number, self._number = self._number, None
        if number is not None:
            _drop(self._outside, number)

    def __del__(self) -> None:
        if getattr(self, "_number", None) is not None:
            self.clear()


class MetricFamily:
    """Metrics of one name. It must live as long as they do.

    Raises TritonModelException when another kind of metric has that name already.
    """

    COUNTER = MetricKind.COUNTER
    GAUGE = MetricKind.GAUGE
    HISTOGRAM = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        name = message_of(name, "MetricFamily: name")
        description = message_of(description, "MetricFamily: description")
        if not isinstance(kind, MetricKind):
            found = type(kind).__name__
            raise TypeError(f"MetricFamily: kind must be one of MetricFamily's, not {found}")
        self._outside = here().spec.outside
        self._kind = kind
        self._made: list[weakref.ref[Metric]] = []
        arguments = {"name": name, "text": description, "kind": kind.value}
        self._number = int(_create(self._outside, "MetricFamily", "metric_family", arguments))

    def Metric(  # noqa: N802  the name is Triton's
        self, labels: Mapping[str, str] | None = None, buckets: Sequence[float] | None = None
    ) -> Metric:
        """A metric with these labels, the same one wherever they are the same.

        buckets: of a histogram, their upper bounds in ascending order.
        """
        if labels is not None and not isinstance(labels, dict):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        bounds = self._bounds(buckets)
        shown = {str(key): sayable(str(value)) for key, value in (labels or {}).items()}
        arguments = {"family": self._number, "labels": shown, "bounds": bounds}
        number = int(_create(self._outside, "Metric", "metric", arguments))
        metric = Metric(self._outside, self._kind, number)
        self._made.append(weakref.ref(metric))
        return metric

    def _bounds(self, buckets: Sequence[float] | None) -> list[float]:
        if buckets is None:
            if self._kind is MetricKind.HISTOGRAM:
                raise TritonModelException("Failed to create metric. Missing required buckets.")
            return []
        if not isinstance(buckets, list):
            raise TritonModelException("Failed to create metric. Buckets must be a list.")
        if self._kind is not MetricKind.HISTOGRAM:
            raise TritonModelException("Failed to create metric. Unexpected buckets found.")
        bounds = [float(bound) for bound in buckets]
        if any(low >= high for low, high in zip(bounds, bounds[1:])):
            text = f"Failed to create metric. Buckets {bounds} are not in ascending order."
            raise TritonModelException(text)
        return bounds

    def __del__(self) -> None:
        if not hasattr(self, "_number"):
            return
        for made in self._made:
            metric = made()
            if metric is not None:
                metric.clear()
        _drop(self._outside, self._number)


def _create(outside: Outside, what: str, order: str, arguments: Mapping[str, Any]) -> Any:
    try:
        return outside.order(order, arguments)
    except InferenceError as error:
        raise TritonModelException(f"Error when creating {what}: {error.message}") from None


def _drop(outside: Outside, number: int) -> None:
    outside.tell("metric_drop", {"numbers": [number]})


def _failed(what: str, why: str) -> TritonModelException:
    return TritonModelException(f"Failed to {what} metric value: {why}")
