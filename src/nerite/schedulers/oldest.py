"""Triton's oldest strategy: of each sequence that sits on an instance one request at a time goes
into that instance's dynamic batches.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from nerite.core.call import Call
from nerite.core.errors import InferenceError
from nerite.schedulers.base import Executor, Pool
from nerite.schedulers.batch import Batching, BatchScheduler
from nerite.schedulers.controls import Controls
from nerite.schedulers.order import Order
from nerite.schedulers.slots import Bench, Reason, Seats, Slot, Watch


class Oldest(NamedTuple):
    """batching: of the requests that go together. preserve_ordering: answers come in the order
    in which the requests went to the instance."""

    batching: Batching
    preserve_ordering: bool = False


class OldestBatch:
    """What one instance executes. Belongs to the server's loop."""

    def __init__(
        self,
        bench: Bench,
        seats: Seats,
        controls: Controls,
        on_execute: Callable[[list[Call]], None],
        oldest: Oldest,
        watch: Watch,
    ) -> None:
        self._bench = bench
        self._seats = seats
        self._controls = controls
        self._order = Order() if oldest.preserve_ordering else None
        self._watch = watch
        self._away: dict[Call, Slot] = {}  # those of which the next has to wait
        self._busy: set[Slot] = set()
        self._batcher = BatchScheduler(
            _Watched(bench.pool, self.landed), on_execute, oldest.batching
        )

    def wake(self, slot: Slot) -> None:
        """Look again: something has changed in a slot."""
        if slot not in self._busy:
            self._seats.settle(slot)
        elif slot.sequence is not None:
            self._seats.drop_cancelled(slot.sequence)
        if slot in self._busy or not slot.waits:
            return
        sequence, call = slot.take()
        self._busy.add(slot)
        self._away[call] = slot
        if not call.taken_ns:  # a rescheduled one has its place, and is watched
            if self._order is not None:
                call.redirect(self._order.place)
            call.redirect(partial(self._watch, sequence))
        inputs = {**call.request.inputs, **self._controls.of(call.request)}
        call.request = call.request._replace(inputs=inputs, slot=slot.row)
        self._batcher.submit(call)

    def landed(self, call: Call) -> None:
        """A call has been executed, or has ended without that: its slot's next may go."""
        slot = self._away.pop(call, None)
        if slot is not None:
            self._busy.discard(slot)
            self.wake(slot)

    def lose(self, reason: Reason) -> None:
        """The instance has died, and with it the sequences of those that still wait for it."""
        for call in self._batcher.drain():
            call.fail(reason(call))

    def pending(self) -> int:
        """Calls that have left their slot and wait for the instance."""
        return self._batcher.pending()

    def dispatch(self) -> None:
        """Look again at all: the instance has room, is back, or is broken."""
        for slot in self._bench.slots:
            if slot.sequence is not None:
                self.wake(slot)
        self._batcher.dispatch()


class _Watched:
    """A pool of one instance that tells which calls it has done."""

    def __init__(self, pool: Pool, landed: Callable[[Call], None]) -> None:
        self.turn = pool.turn
        self._pool = pool
        self._landed = landed
        self._landing = False

    @property
    def ready(self) -> bool:
        return self._pool.ready

    @property
    def hungry(self) -> bool:
        return self._pool.hungry

    @property
    def broken(self) -> InferenceError | None:
        return self._pool.broken

    def each(self) -> list[Pool]:
        return [self]

    def take(self, most: int | None = None) -> Executor | None:
        # Those whose turn comes by one execution's end shall go together.
        instance = None if self._landing else self._pool.take(most)
        return None if instance is None else _WatchedInstance(instance, self)

    def done(self, calls: list[Call], done: Callable[[], None]) -> None:
        self._landing = True
        try:
            for call in calls:
                self._landed(call)
        finally:
            self._landing = False
        done()


class _WatchedInstance:
    def __init__(self, instance: Executor, pool: _Watched) -> None:
        self._instance = instance
        self._pool = pool

    def execute(self, calls: list[Call], done: Callable[[], None]) -> None:
        self._instance.execute(calls, partial(self._pool.done, calls, done))
