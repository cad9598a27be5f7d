"""Queue: the jobs of one model that wait, in the order in which they were accepted."""

from __future__ import annotations

import bisect

from nerite.frontends.jobs.live import Live

_MEMORY = 0.2  # of the newest measurement in the mean


def _number(live: Live) -> int:
    return live.job.number


class Queue:
    """Lets as many images run at a time that those who wait for an answer find room as well."""

    def __init__(self, at_once: int) -> None:
        """at_once: images that run; a job of more of them runs when no other does."""
        self.paused_until = 0.0  # of the monotonic clock
        self._at_once = at_once
        self._waiting: list[Live] = []
        self._running = 0
        self._seconds: float | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, live: Live) -> None:
        bisect.insort(self._waiting, live, key=_number)

    def remove(self, live: Live) -> None:
        """Of one that waits."""
        self._waiting.remove(live)

    def peek(self) -> Live | None:
        """The next, if there is room for it."""
        if not self._waiting:
            return None
        head = self._waiting[0]
        if self._running and self._running + head.job.images > self._at_once:
            return None
        return head

    def start(self, live: Live) -> None:
        self._waiting.remove(live)
        self._running += live.job.images

    def end(self, live: Live, seconds: float | None = None) -> None:
        """One that was started runs no longer. seconds: how long a success has taken."""
        self._running -= live.job.images
        if seconds is not None:
            old = self._seconds
            self._seconds = seconds if old is None else old + _MEMORY * (seconds - old)

    def place(self, live: Live) -> int:
        """From 1 on."""
        return bisect.bisect_left(self._waiting, live.job.number, key=_number) + 1

    def eta(self, live: Live) -> float | None:
        """Seconds until it is painted; None before the first was."""
        if self._seconds is None:
            return None
        before = sum(one.job.images for one in self._waiting[: self.place(live) - 1])
        rounds = 1 + (before + self._running) / self._at_once
        return round(self._seconds * rounds, 3)

    @property
    def pause(self) -> float:
        """Seconds until there may be room for another, at least one."""
        return max(1.0, self._seconds or 1.0)
