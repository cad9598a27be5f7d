"""Which jobs step together now: equal keys share a forward, keys take turns."""

from __future__ import annotations

from collections.abc import Sequence

from nerite.diffusion.job import Job, Key


class Plan:
    """A round robin between keys: the one served longest ago is next.

    A key that was never served comes first, and of several such the one whose job is oldest.
    """

    def __init__(self) -> None:
        self._served: dict[Key, int] = {}
        self._turn = 0

    def pick(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs of the next forward, out of ``jobs``, oldest first; [] for none."""
        groups: dict[Key, list[Job]] = {}
        for job in jobs:
            groups.setdefault(job.key, []).append(job)
        # Keys without jobs are forgotten, so that the memory of past sizes does not grow.
        self._served = {key: self._served[key] for key in self._served if key in groups}
        if not groups:
            return []
        self._turn += 1
        chosen = min(groups, key=lambda key: self._served.get(key, 0))
        self._served[chosen] = self._turn
        return groups[chosen]
