"""Buckets: variants of a network for one shape each, made in the background and then used."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from nerite.diffusion.space import Array, Space

_log = logging.getLogger(__name__)

Feeds = Mapping[str, Array]
Run = Callable[[Feeds], Sequence[Array]]
Shape = tuple[tuple[str, tuple[int, ...]], ...]


class Remembered(Protocol):
    """The shapes for which variants were made, from one start to the next."""

    def known(self) -> list[Feeds]:
        """Feeds of those shapes, the latest first."""
        ...

    def add(self, feeds: Feeds) -> None: ...


_AFTER = 4  # forwards of a shape show that it stays
_STALE = 256  # forwards without it show that it went
_FULLER = 1.25  # times as many rows cost less than what a variant saves


class Buckets:
    """Runs what is faster for a shape than the network that takes all of them.

    ``make`` makes a variant for the shapes of the feeds that it is given; where it raises, that
    shape is left alone. It runs in a thread of its own, but in the caller's and at first sight
    where ``at_once`` wants a shape's bytes to be the same at all times. There are ``most``
    variants at a time. Rows that are missing to the next variant are filled up with the first.
    ``memory`` knows those of the last start, which are made first.
    """

    def __init__(
        self,
        make: Callable[[Feeds], Run],
        space: Space,
        *,
        most: int,
        at_once: bool = False,
        memory: Remembered | None = None,
    ) -> None:
        self._make = make
        self._space = space
        self._most = most
        self._at_once = at_once
        self._memory = memory
        self._lock = threading.Lock()  # guards everything below
        self._made: OrderedDict[Shape, Run] = OrderedDict()
        self._seen: dict[Shape, int] = {}
        self._used: dict[Shape, int] = {}
        self._count = 0
        self._thread: threading.Thread | None = None
        known = memory.known()[:most] if memory is not None and not at_once else []
        if known:
            self._start(lambda: self._add_all(known))

    def run(self, feeds: Feeds) -> Sequence[Array] | None:
        """The outputs; None where no variant fits and the network itself should run."""
        shape = _shape(feeds)
        found = self._find(shape)
        if found is None and self._at_once and self._wants(shape):
            self._add(shape, feeds)
            found = self._find(shape)
        elif found is None or found[1] != _rows(shape):
            self._make_later(shape, feeds)
        if found is None:
            return None
        run, rows = found
        have = _rows(shape)
        if rows == have:
            return run(feeds)
        concat = self._space.concat
        full = {name: concat([one, *[one[:1]] * (rows - have)]) for name, one in feeds.items()}
        return [output[:have] for output in run(full)]

    def wait(self) -> None:
        """Until what is being made is there."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def _find(self, shape: Shape) -> tuple[Run, int] | None:
        """The variant to run and its rows, which may be a few more than there are."""
        rows = _rows(shape)
        with self._lock:
            self._count += 1
            fitting = [
                one
                for one in self._made
                if one == shape or (not self._at_once and _fills(one, shape, rows))
            ]
            if not fitting:
                return None
            nearest = min(fitting, key=_rows)
            self._used[nearest] = self._count
            self._made.move_to_end(nearest)
            return self._made[nearest], _rows(nearest)

    def _wants(self, shape: Shape) -> bool:
        """Whether a variant is worth making now; counts who asks."""
        with self._lock:
            if len(self._seen) > 64 * max(1, self._most):
                self._seen.clear()
            self._seen[shape] = self._seen.get(shape, 0) + 1
            if self._at_once:
                return self._most > 0
            if self._seen[shape] < _AFTER or self._thread is not None or not self._most:
                return False
            if len(self._made) < self._most:
                return True
            oldest = next(iter(self._made))
            return self._count - self._used.get(oldest, 0) > _STALE

    def _make_later(self, shape: Shape, feeds: Feeds) -> None:
        if not self._wants(shape):
            return
        self._start(lambda: self._add(shape, feeds))

    def _start(self, work: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=work, name="diffusion-buckets", daemon=True)
        self._thread.start()

    def _add_all(self, known: Sequence[Feeds]) -> None:
        for feeds in known:
            self._add(_shape(feeds), feeds, last=feeds is known[-1])

    def _add(self, shape: Shape, feeds: Feeds, *, last: bool = True) -> None:
        run: Run | None = None
        try:
            run = self._make(feeds)
        except Exception as error:
            text = "no faster variant for %s can be made: %s: %s"
            _log.warning(text, dict(shape), type(error).__name__, error)
        if run is not None and self._memory is not None:
            self._memory.add(feeds)
        with self._lock:
            if last:
                self._thread = None
            if run is None:
                self._most = 0  # what fails once would fail each time
            if run is None or not self._most:
                return
            while len(self._made) >= self._most:
                gone, _ = self._made.popitem(last=False)
                self._used.pop(gone, None)
            self._made[shape] = run
            self._used[shape] = self._count


def _shape(feeds: Feeds) -> Shape:
    return tuple((name, tuple(one.shape)) for name, one in sorted(feeds.items()))


def _rows(shape: Shape) -> int:
    """How many rows all inputs have; 0 where they do not agree."""
    counts = {sides[0] if sides else 0 for _, sides in shape}
    return counts.pop() if len(counts) == 1 else 0


def _fills(one: Shape, wanted: Shape, rows: int) -> bool:
    """Whether ``wanted`` with a few rows more is ``one``."""
    if not 0 < rows <= _rows(one) <= rows * _FULLER:
        return False
    return [(name, sides[1:]) for name, sides in one] == [
        (name, sides[1:]) for name, sides in wanted
    ]
