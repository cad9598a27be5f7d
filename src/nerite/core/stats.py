"""What one model has done so far, counted once and read by the metrics and statistics doors."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Response

# Triton's failure reasons (nv_inference_request_failure).
_REASONS = {Status.CANCELLED: "CANCELED", Status.UNAVAILABLE: "REJECTED"}


@dataclass
class Counts:
    """Requests, inferences (batch items) and executions; durations in nanoseconds.

    The durations are Triton's: request = queue + input + infer + output and what lies between.
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


class Stats:
    """Counts of one loaded model version. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()

    def observe(self, call: Call, answer: Answer, batch_size: int) -> None:
        """Count the end of a call; answers before the last are not counted."""
        if isinstance(answer, Response) and not answer.final:
            return
        timing, counts = call.timing, self._counts
        total = timing.ended - timing.received
        with self._lock:
            if isinstance(answer, InferenceError):
                reason = _REASONS.get(answer.status, "OTHER" if timing.taken == 0 else "BACKEND")
                counts.failures[reason] = counts.failures.get(reason, 0) + 1
                counts.failure_ns += total
                return
            counts.requests += 1
            counts.inferences += batch_size
            counts.request_ns += total
            counts.queue_ns += timing.taken - timing.received
            counts.infer_ns += timing.ended - timing.taken

    def count_execution(self) -> None:
        with self._lock:
            self._counts.executions += 1

    def snapshot(self) -> Counts:
        with self._lock:
            values = {item.name: getattr(self._counts, item.name) for item in fields(Counts)}
        values["failures"] = dict(values["failures"])
        return Counts(**values)
