"""Bytes of memory that a process holds; 0 where that is not known."""

from __future__ import annotations

import os


def resident(process: int) -> int:
    """Of the process with this id, which may just have ended."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # it is gone, or this is not Linux
        return 0
