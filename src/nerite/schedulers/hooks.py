"""Triton's hooks for tests: a scheduler that finds one waits until so many requests have come."""

from __future__ import annotations

import os
import re

HOLD = "TRITONSERVER_DELAY_SCHEDULER"
HOLD_BACKLOG = "TRITONSERVER_BACKLOG_DELAY_SCHEDULER"  # with HOLD, in the backlog of sequences


def held(variable: str) -> int:
    """How many; as C's atoi, by which Triton reads it, 0 where there is no number."""
    number = re.match(r"\s*([+-]?[0-9]+)", os.environ.get(variable, ""))
    return int(number[1]) if number else 0
