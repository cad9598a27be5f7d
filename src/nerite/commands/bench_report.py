"""What `nerite bench` says: throughput, latencies, failures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nerite.commands.bench_load import Sample

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Report:
    """seconds: from the first request to the last answer. batch: pictures a request."""

    samples: Sequence[Sample]
    seconds: float
    batch: int
    rate: float | None

    @property
    def painted(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.error is None]

    @property
    def failures(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.error is not None]

    @property
    def latencies(self) -> list[float]:
        return sorted(sample.latency for sample in self.painted)

    @property
    def previews(self) -> list[float]:
        waits = (sample.wait_for_preview for sample in self.painted)
        return sorted(wait for wait in waits if wait is not None)

    @staticmethod
    def quantiles(values: Sequence[float]) -> dict[str, float]:
        """By name: p50, p90, p99 and the largest; empty of no values."""
        if not values:
            return {}
        cuts = statistics.quantiles(values, n=100, method="inclusive") if values[1:] else []
        named = {f"p{one}": cuts[one - 1] if cuts else values[0] for one in PERCENTILES}
        return named | {"max": values[-1]}

    def lines(self) -> list[str]:
        """The lines of the tutorial's client, then ours."""
        lines = [self._client(client) for client in sorted({one.client for one in self.samples})]
        lines.append(f"Throughput: {len(self.painted) / self.seconds} Total Time: {self.seconds}")
        pictures = len(self.painted) * self.batch
        lines.append(f"Pictures: {pictures}, {pictures / self.seconds:.2f} a second")
        lines.append(f"Latency: {_seconds(self.quantiles(self.latencies))}")
        if self.previews:
            lines.append(f"First preview: {_seconds(self.quantiles(self.previews))}")
        for text, count in Counter(str(one.error) for one in self.failures).items():
            lines.append(f"Failed: {count} of {len(self.samples)}: {text}")
        return lines

    def _client(self, client: int) -> str:
        """One client's throughput runs from the first request's due time to its own last end."""
        own = [sample for sample in self.painted if sample.client == client]
        if not own:
            return f"Client: {client} Throughput: 0.0 Avg. Latency: nan"
        seconds = max(one.done for one in own) - min(one.due for one in self.samples)
        average = statistics.fmean(one.latency for one in own)
        return f"Client: {client} Throughput: {len(own) / seconds} Avg. Latency: {average}"

    def document(self) -> dict[str, Any]:
        """For programs: seconds everywhere."""
        return {
            "requests": len(self.samples),
            "failed": len(self.failures),
            "pictures": len(self.painted) * self.batch,
            "seconds": self.seconds,
            "requests_per_second": len(self.painted) / self.seconds,
            "pictures_per_second": len(self.painted) * self.batch / self.seconds,
            "arrivals_per_second": self.rate,
            "latency": self.quantiles(self.latencies),
            "first_preview": self.quantiles(self.previews) or None,
            "latencies": self.latencies,
        }


def _seconds(quantiles: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f} s" for name, value in quantiles.items())
