"""Who sits where: the sequences of one model, the slots of its instances, and the backlog of
sequences for which there is no slot yet.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several

from nerite.core.call import Call, Deliver
from nerite.core.errors import InferenceError
from nerite.schedulers.base import Pool
from nerite.schedulers.queue import cancelled

Id = int | str
Reason = Callable[[Call], InferenceError]


class Sequence:
    """The calls of one correlation ID that wait, in their order.

    open: more may come. slot: where it sits, None in the backlog. used_ns: when its last call
    came. expires_ns, timer: when it leaves the backlog unserved, where a call set a time-out.
    """

    __slots__ = ("calls", "expires_ns", "id", "open", "slot", "timer", "used_ns")

    def __init__(self, id: Id) -> None:
        self.id = id
        self.calls: deque[Call] = deque()
        self.open = True
        self.slot: Slot | None = None
        self.used_ns = 0
        self.expires_ns = 0
        self.timer: asyncio.TimerHandle | None = None


# What the answers of a sequence's call are to pass through, made of where they went so far.
Watch = Callable[[Sequence, Deliver], Deliver]


class Slot:
    """A place for one sequence. row: which of its instance's; bench: those of its instance."""

    __slots__ = ("bench", "row", "sequence")

    def __init__(self, bench: Bench, row: int) -> None:
        self.bench = bench
        self.row = row
        self.sequence: Sequence | None = None

    @property
    def waits(self) -> bool:
        """Whether its sequence has a call for it."""
        return self.sequence is not None and bool(self.sequence.calls)

    @property
    def head(self) -> Call:
        """The call that is next, of a slot that `waits`."""
        assert self.sequence is not None
        return self.sequence.calls[0]

    def take(self) -> tuple[Sequence, Call]:
        """Take the `head`, and tell whose it is."""
        assert self.sequence is not None
        return self.sequence, self.sequence.calls.popleft()


class Bench:
    """The slots of one instance, of which `free` are the rows that nobody sits in, as a heap."""

    def __init__(self, pool: Pool, size: int) -> None:
        self.pool = pool
        self.slots = [Slot(self, row) for row in range(size)]
        self.free = list(range(size))
        self.up = pool.ready


class Seats:
    """The sequences of one model and their slots. Belongs to the server's loop."""

    def __init__(self, benches: Several[Bench]) -> None:
        self.benches = benches
        self.backlog: deque[Sequence] = deque()
        # Those that more calls may come for; the one whose last call is longest ago comes first.
        self.open: OrderedDict[Id, Sequence] = OrderedDict()

    def __iter__(self) -> Iterator[Sequence]:
        """Those that sit."""
        for bench in self.benches:
            for slot in bench.slots:
                if slot.sequence is not None:
                    yield slot.sequence

    def begin(self, id: Id) -> Sequence:
        """A new sequence, in a slot or in the backlog."""
        sequence = self.open[id] = Sequence(id)
        bench = self._bench()
        if bench is None:
            self.backlog.append(sequence)
        else:
            self._sit(sequence, bench.slots[heapq.heappop(bench.free)])
        return sequence

    def touch(self, sequence: Sequence) -> None:
        """An open sequence is in use: its idle time begins anew."""
        sequence.used_ns = time.monotonic_ns()
        self.open.move_to_end(sequence.id)

    def end(self, sequence: Sequence) -> None:
        """No more calls come for it; those that wait go on."""
        sequence.open = False
        if self.open.get(sequence.id) is sequence:
            del self.open[sequence.id]

    def drop(self, sequence: Sequence, reason: Reason) -> None:
        """End it, and fail the calls that wait."""
        self.end(sequence)
        calls, sequence.calls = sequence.calls, deque()
        if sequence.slot is None and sequence in self.backlog:
            self.backlog.remove(sequence)
            _disarm(sequence)
        for call in calls:
            call.fail(reason(call))

    def settle(self, slot: Slot) -> None:
        """A sequence that is over makes room for another.

        Who is told of a cancelled call may ask at once, so anything may have changed after this.
        """
        while slot.sequence is not None:
            sequence = slot.sequence
            self.drop_cancelled(sequence)
            if sequence.calls or sequence.open:
                return
            if slot.sequence is sequence:
                self._leave(slot)

    def drop_cancelled(self, sequence: Sequence) -> None:
        """A sequence is over when the call that is next was cancelled."""
        if sequence.calls and sequence.calls[0].cancelled:
            self.drop(sequence, cancelled)

    def fill(self) -> None:
        """Seat those of the backlog for whom there is room again."""
        while self.backlog:
            bench = self._bench()
            if bench is None:
                return
            self._sit(self.backlog.popleft(), bench.slots[heapq.heappop(bench.free)])

    def _bench(self) -> Bench | None:
        """Where the next sequence sits: the lowest row wins, so that all benches grow alike."""
        having_room = (one for one in self.benches if one.free and one.pool.broken is None)
        return min(having_room, key=lambda one: (not one.pool.ready, one.free[0]), default=None)

    def _leave(self, slot: Slot) -> None:
        slot.sequence = None
        if self.backlog and slot.bench.pool.ready:
            self._sit(self.backlog.popleft(), slot)
        else:
            heapq.heappush(slot.bench.free, slot.row)

    def _sit(self, sequence: Sequence, slot: Slot) -> None:
        _disarm(sequence)
        slot.sequence, sequence.slot = sequence, slot
        if sequence.open:
            self.touch(sequence)


def _disarm(sequence: Sequence) -> None:
    if sequence.timer is not None:
        sequence.timer.cancel()
        sequence.timer = None
