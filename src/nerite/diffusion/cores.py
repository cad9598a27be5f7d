"""How many cores this process may use, which in a container is fewer than the machine has.

The engine's own: it imports nothing of nerite, and a worker, whose Python may be an older one,
nothing of the engine.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """By its affinity and its control group's `quota`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        time, period = quota.read_text().split()
        return max(1, min(cores or 1, math.ceil(int(time) / int(period))))
    except (OSError, ValueError):  # no limit is written as "max"
        return cores or 1
