"""Which works step together now: equal keys share a forward, keys take turns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from nerite.diffusion.job import Key, Work

_Work = TypeVar("_Work", bound=Work)

# How much of a measured time the next one is: steps of one key take about the same.
_SMOOTH = 0.5


class Plan:
    """Keys share the device's time by the images they run, whatever a step of theirs costs.

    Each key's time is counted, divided by its images; the one that has had the least is next, of
    equals the one served longest ago, of those the one whose work is oldest. A key that comes
    new starts where the least served one stands. A work that would miss its deadline by waiting
    goes first.
    """

    def __init__(self) -> None:
        self._had: dict[Key, float] = {}
        self._served: dict[Key, int] = {}
        self._seconds: dict[Key, float] = {}
        self._turn = 0

    def pick(self, works: Sequence[_Work], now: float = 0.0) -> list[_Work]:
        """The works of the next forward, out of ``works``, oldest first; [] for none."""
        groups: dict[Key, list[_Work]] = {}
        for work in works:
            groups.setdefault(work.key, []).append(work)
        self._remember(groups.keys())
        if not groups:
            return []
        self._turn += 1
        chosen = self._urgent(groups, now)
        if chosen is None:
            chosen = min(groups, key=lambda key: (self._had[key], self._served.get(key, 0)))
        self._served[chosen] = self._turn
        return groups[chosen]

    def charge(self, works: Sequence[Work], seconds: float) -> None:
        """A forward of ``works``, of one key, took so long."""
        key, images = works[0].key, sum(work.rows for work in works)
        self._had[key] = self._had.get(key, 0.0) + seconds / images
        before = self._seconds.get(key, seconds)
        self._seconds[key] = before + _SMOOTH * (seconds - before)

    def seconds(self, key: Key) -> float | None:
        """How long a step of that key takes, None before the first."""
        return self._seconds.get(key)

    def turn_seconds(self) -> float:
        """How long it takes until every key has had a step."""
        return sum(self._seconds.values())

    def _remember(self, keys: Collection[Key]) -> None:
        """Forget keys without works, so that the memory of past sizes does not grow."""
        known = set(keys)
        least = min((self._had[key] for key in known if key in self._had), default=0.0)
        self._had = {key: self._had.get(key, least) for key in known}
        self._served = {key: turn for key, turn in self._served.items() if key in known}
        self._seconds = {key: took for key, took in self._seconds.items() if key in known}

    def _urgent(self, groups: dict[Key, list[_Work]], now: float) -> Key | None:
        """The key of the work with the least time to spare, where it has no turn to spare."""
        least: tuple[float, Key] | None = None
        for key, works in groups.items():
            step = self._seconds.get(key, 0.0)
            for work in works:
                if work.deadline is None:
                    continue
                spare = work.deadline - now - (work.steps - work.index) * step
                # One that is late already would only make others late too.
                if 0 <= spare < self.turn_seconds() and (least is None or spare < least[0]):
                    least = spare, key
        return None if least is None else least[1]
