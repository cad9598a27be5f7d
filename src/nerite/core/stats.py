"""What one model version has done so far, counted once and read by metrics and statistics.

Counting happens once per request, on the loop's thread: a few additions. What costs more, the
samples behind summaries and histograms, is kept only where the server was asked for it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from nerite.core.call import Answer, Call, error_of
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Response

# Triton's bounds of nv_inference_first_response_histogram_ms.
FIRST_RESPONSE_MS = (100.0, 500.0, 2000.0, 5000.0)
_SAMPLES = 4096  # behind the quantiles of a summary


class Recording(NamedTuple):
    """What is kept beyond counts: the first-response histogram, samples for the summaries."""

    histograms: bool = False
    summaries: bool = False


COUNTS_ONLY = Recording()


@dataclass
class Batches:
    """Executions of one batch size."""

    count: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0


@dataclass
class Duration:
    """How often, and how long altogether."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns


@dataclass
class ResponseCounts:
    """The responses that decoupled models gave as their first, second… of a request."""

    infer: Duration = field(default_factory=Duration)
    output: Duration = field(default_factory=Duration)
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    empty: Duration = field(default_factory=Duration)
    cancel: Duration = field(default_factory=Duration)


class Histogram:
    """Observations by their upper bounds; `counts` has one more, for what is above all."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0

    def observe(self, value: int) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Look(NamedTuple):
    """One answer that was in the cache, or was put there, for the summaries."""

    ended_ns: int
    ns: int


class Sample(NamedTuple):
    """One successful request, for the summaries; ended_ns is of the monotonic clock."""

    ended_ns: int
    request_ns: int
    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int


@dataclass
class Counts:
    """Requests, inferences (batch items) and executions; durations in nanoseconds.

    The durations are Triton's: request = queue + input + infer + output. last_ns: when the last
    request ended, of the monotonic clock, 0 when there was none.
    """

    requests: int = 0
    inferences: int = 0
    executions: int = 0
    request_ns: int = 0
    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    failure_ns: int = 0
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    batches: dict[int, Batches] = field(default_factory=dict)
    responses: list[ResponseCounts] = field(default_factory=list)
    last_ns: int = 0

    @property
    def last_inference_ms(self) -> int:
        """When the last request ended, in milliseconds of the epoch."""
        if not self.last_ns:
            return 0
        return (time.time_ns() - time.monotonic_ns() + self.last_ns) // 1_000_000


class Stats:
    """Counts of one loaded model version. Belongs to the thread of the server's loop.

    counts: as they are now; they go on counting.
    """

    def __init__(
        self,
        recording: Recording = COUNTS_ONLY,
        first_response_ms: tuple[float, ...] = FIRST_RESPONSE_MS,
    ) -> None:
        self.counts = Counts()
        self.first_response = Histogram(first_response_ms) if recording.histograms else None
        self.samples: deque[Sample] | None = None
        self.hits: deque[Look] = deque(maxlen=_SAMPLES)
        self.misses: deque[Look] = deque(maxlen=_SAMPLES)
        if recording.summaries:
            self.samples = deque(maxlen=_SAMPLES)

    def count_execution(self, calls: list[Call]) -> None:
        """`calls` go to an instance together; counted when the first of them ends."""
        first = calls[0]
        if first.execution_size:  # it has been executed before, and was rescheduled
            self._count_execution(first, 0)
        size = first.batch_size
        first.execution_size = size if len(calls) == 1 else sum([one.batch_size for one in calls])

    def count(self, call: Call, answer: Answer) -> None:
        """Count the end of a call."""
        counts = self.counts
        taken, ended = call.taken_ns, call.ended_ns
        input_ns, infer_ns = call.input_ns, call.infer_ns
        output_ns = max(0, ended - taken - input_ns - infer_ns)
        if call.execution_size:
            self._count_execution(call, output_ns)
        counts.last_ns = ended
        total = ended - call.received_ns
        if self.first_response is not None and not call.answers:
            self.first_response.observe(total // 1_000_000)
        if isinstance(answer, InferenceError):
            reason = _reason(call, answer)
            counts.failures[reason] = counts.failures.get(reason, 0) + 1
            counts.failure_ns += total
            return
        queue_ns = taken - call.received_ns
        counts.requests += 1
        counts.inferences += call.batch_size
        counts.request_ns += total
        counts.queue_ns += queue_ns
        counts.input_ns += input_ns
        counts.infer_ns += infer_ns
        counts.output_ns += output_ns
        if self.samples is not None and call.batch_size:
            sample = Sample(ended, total, queue_ns, input_ns, infer_ns, output_ns)
            self.samples.append(sample)

    def _count_execution(self, call: Call, output_ns: int) -> None:
        counts = self.counts
        counts.executions += 1
        batch = counts.batches.get(call.execution_size)
        if batch is None:
            batch = counts.batches[call.execution_size] = Batches()
        batch.count += 1
        batch.input_ns += call.input_ns
        batch.infer_ns += call.infer_ns
        batch.output_ns += output_ns

    def count_hit(self, looked_ns: int) -> None:
        """The answer of a call that `count` is told of next was found in the cache."""
        self.counts.cache_hit.add(looked_ns)
        self.counts.queue_ns -= looked_ns
        if self.samples is not None:
            self.hits.append(Look(time.monotonic_ns(), looked_ns))

    def count_miss(self, looked_ns: int) -> None:
        """An answer was computed and put into the cache; looking it up and that took so long."""
        self.counts.cache_miss.add(looked_ns)
        self.counts.request_ns += looked_ns
        if self.samples is not None:
            self.misses.append(Look(time.monotonic_ns(), looked_ns))

    def count_answer(self, call: Call, answer: Answer) -> None:
        """Count one of a decoupled model's many answers, the last one too; before `count`."""
        if not call.taken_ns:
            return
        index = call.answers
        now = call.ended_ns or time.monotonic_ns()
        if not index and self.first_response is not None:
            self.first_response.observe((now - call.received_ns) // 1_000_000)
        responses = self.counts.responses
        if index == len(responses):
            responses.append(ResponseCounts())
        started = call.answered_ns or call.taken_ns + call.input_ns
        call.answers = index + 1
        call.answered_ns = now
        _count_response(responses[index], call, answer, started, now)


def _count_response(
    counts: ResponseCounts, call: Call, answer: Answer, started: int, now: int
) -> None:
    """started: when work on this answer began, which is when the one before it was given."""
    error = error_of(answer)
    if error is not None and error.status is Status.CANCELLED:
        counts.cancel.add(now - started)
        return
    computed = call.taken_ns + call.input_ns + call.infer_ns if call.infer_ns else now
    computed = min(max(computed, started), now)
    counts.infer.add(computed - started)
    if isinstance(answer, Response) and error is None and not answer.outputs:
        counts.empty.add(now - started)
        return
    counts.output.add(now - computed)
    (counts.success if error is None else counts.fail).add(now - started)


def _reason(call: Call, error: InferenceError) -> str:
    """Triton's label for a failure (nv_inference_request_failure)."""
    if error.status is Status.CANCELLED:
        return "CANCELED"
    if call.taken_ns:
        return "BACKEND"
    return "REJECTED" if error.status is Status.UNAVAILABLE else "OTHER"
