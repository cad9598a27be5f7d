"""CustomMetrics: what models measure themselves, kept in the server and read when scraped."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Tuple

from nerite.core.errors import InferenceError, Status

Labels = Tuple[Tuple[str, str], ...]  # noqa: UP006  evaluated, and workers may run on 3.8

# What the names begin with that the server itself has at /metrics.
OWN_NAMES = (
    *("nv_inference_", "nv_cache_", "nv_model_", "nv_pinned_memory_"),
    *("nv_cpu_", "nv_gpu_", "nv_energy_"),
)
_NAME = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")


class Family:
    """Metrics of one name. kind: "counter", "gauge" or "histogram"; users: who holds it."""

    def __init__(self, name: str, text: str, kind: str) -> None:
        self.name = name
        self.text = text
        self.kind = kind
        self.users = 0
        self.metrics: dict[Labels, Metric] = {}


class Metric:
    """One value, or for a histogram the counts of its buckets (one more than `bounds`)."""

    def __init__(self, family: Family, labels: Labels, bounds: Sequence[float]) -> None:
        self.family = family
        self.labels = labels
        self.bounds = tuple(bounds)
        self.users = 0
        self.value = 0.0
        self.counts = [0] * (len(bounds) + 1)


class CustomMetrics:
    """Belongs to the server's loop. Families of one name are one, as are metrics of a family
    with the same labels; they go when the last model that made them does."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._held: dict[int, Family | Metric] = {}
        self._numbers = count(1)

    @property
    def families(self) -> list[Family]:
        return list(self._families.values())

    def family(self, name: str, text: str, kind: str) -> int:
        """A number for a family, new or known.

        InferenceError when it is of another kind, and for a name that Prometheus does not take, or
        that is the server's own.
        """
        _check_name(name)
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Family(name, text, kind)
        elif family.kind != kind:
            raise _invalid(
                f"metric family '{name}' is a {family.kind} already, and cannot be a {kind} too"
            )
        return self._hold(family)

    def metric(self, family: int, labels: Mapping[str, str], bounds: Sequence[float]) -> int:
        """A number for a metric, new or known. InferenceError for a label that Prometheus does not
        take."""
        of = self._held[family]
        assert isinstance(of, Family)
        for label in labels:
            _check_label(label, of.kind)
        key = tuple(sorted(labels.items()))
        metric = of.metrics.get(key)
        if metric is None:
            metric = of.metrics[key] = Metric(of, key, bounds)
        return self._hold(metric)

    def increment(self, metric: int, value: float) -> None:
        self._metric(metric).value += value

    def set(self, metric: int, value: float) -> None:
        self._metric(metric).value = value

    def observe(self, metric: int, value: float) -> None:
        known = self._metric(metric)
        known.counts[bisect_left(known.bounds, value)] += 1
        known.value += value

    def value(self, metric: int) -> float:
        return self._metric(metric).value

    def drop(self, numbers: Iterable[int]) -> None:
        """Their holder has no more use for them."""
        for number in numbers:
            held = self._held.pop(number, None)
            if held is None:
                continue
            held.users -= 1
            if held.users:
                continue
            if isinstance(held, Metric):
                held.family.metrics.pop(held.labels, None)
            else:
                self._families.pop(held.name, None)

    def _hold(self, held: Family | Metric) -> int:
        number = next(self._numbers)
        held.users += 1
        self._held[number] = held
        return number

    def _metric(self, number: int) -> Metric:
        held = self._held.get(number)
        if not isinstance(held, Metric):
            raise _invalid("the metric has been deleted")
        return held


def _check_name(name: str) -> None:
    rule = "a name has letters, digits, '_' and ':', and no digit first"
    if _NAME.fullmatch(name):
        own = next((one for one in OWN_NAMES if name.startswith(one)), None)
        if own is None:
            return
        rule = f"those that begin with '{own}' are the server's own"
    raise _invalid(f"Invalid metric name '{name}': {rule}")


def _check_label(label: str, kind: str) -> None:
    rule = "a label has letters, digits and '_', and no digit first"
    if _LABEL.fullmatch(label):
        if not label.startswith("__") and (label, kind) != ("le", "histogram"):
            return
        rule = "Prometheus itself has 'le' of a histogram, and those that begin with '__'"
    raise _invalid(f"Invalid label name '{label}': {rule}")


def _invalid(text: str) -> InferenceError:
    return InferenceError(Status.INVALID_ARG, text)
