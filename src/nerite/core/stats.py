"""What one model has done so far, counted once and read by the metrics and statistics doors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status

# Triton's failure reasons (nv_inference_request_failure).
_REASONS = {Status.CANCELLED: "CANCELED", Status.UNAVAILABLE: "REJECTED"}


@dataclass
class Counts:
    """Requests, inferences (batch items) and executions; durations in nanoseconds.

    The durations are Triton's: request = queue + input + infer + output and what lies between.
    last_inference_ms: of the epoch.
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
    last_inference_ms: int = 0


class Stats:
    """Counts of one loaded model version. Belongs to the thread of the server's loop."""

    def __init__(self) -> None:
        self._counts = Counts()

    def count(self, call: Call, answer: Answer) -> None:
        """Count the end of a call."""
        counts = self._counts
        total = call.ended_ns - call.received_ns
        if isinstance(answer, InferenceError):
            other = "BACKEND" if call.taken_ns else "OTHER"
            reason = _REASONS.get(answer.status, other)
            counts.failures[reason] = counts.failures.get(reason, 0) + 1
            counts.failure_ns += total
            return
        taken = call.taken_ns
        counts.requests += 1
        counts.inferences += call.batch_size
        counts.request_ns += total
        counts.queue_ns += taken - call.received_ns
        counts.input_ns += call.input_ns
        counts.infer_ns += call.infer_ns
        counts.output_ns += max(0, call.ended_ns - taken - call.input_ns - call.infer_ns)
        counts.last_inference_ms = time.time_ns() // 1_000_000

    def count_execution(self) -> None:
        self._counts.executions += 1

    def snapshot(self) -> Counts:
        return replace(self._counts, failures=dict(self._counts.failures))
