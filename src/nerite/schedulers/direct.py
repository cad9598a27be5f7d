"""Triton's direct strategy: a slot is a row of its instance's batches, and a sequence keeps it.

So the rows of a batch are those of the slots, and rows without a request are filled up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from nerite.core.call import Answer, Call
from nerite.core.request import Request
from nerite.core.tensor import Tensor
from nerite.schedulers.batch import ALONE, Batching
from nerite.schedulers.controls import Controls
from nerite.schedulers.slots import Bench, Reason, Seats, Slot, Watch


class Direct(NamedTuple):
    """delay_ns: how long the first of a batch waits for more, unless this part of the instance's
    slots, `utilization`, has a request. alike: what must be equal for requests to go together.
    """

    delay_ns: int = 0
    utilization: float = 0.0
    alike: Batching = ALONE


class DirectBatch:
    """What one instance executes, a batch at a time. Belongs to the server's loop."""

    def __init__(
        self,
        bench: Bench,
        seats: Seats,
        controls: Controls,
        on_execute: Callable[[list[Call]], None],
        direct: Direct,
        watch: Watch | None,
    ) -> None:
        self._bench = bench
        self._seats = seats
        self._controls = controls
        self._on_execute = on_execute
        self._direct = direct
        self._watch = watch
        self._timer: asyncio.TimerHandle | None = None

    def wake(self, slot: Slot) -> None:
        """Look again: something has changed in a slot."""
        self.dispatch()

    def landed(self, call: Call) -> None:
        """A call has ended. Rows are free when their execution is done, so this is no news."""

    def lose(self, reason: Reason) -> None:
        """The instance has died; what was with it has failed, and nothing waits but in slots."""

    def pending(self) -> int:
        """Calls that have left their slot and wait for the instance."""
        return 0

    def dispatch(self) -> None:
        """Execute what waits, if the instance is free and enough of it is there."""
        slots = self._bench.slots
        self._settle()
        waiting = [slot for slot in slots if slot.waits]
        if not waiting or self._defers([slot.head for slot in waiting]):
            return
        instance = self._bench.pool.take(1)
        if instance is None:
            return
        calls = self._batch(slots[: waiting[-1].row + 1], waiting[0].head.request)
        now = time.monotonic_ns()
        for call in calls:
            call.taken_ns = now
        # Rows that are filled up count as items of the batch; whoever counts listens to real ones.
        self._on_execute(sorted(calls, key=lambda call: call.request.slot < 0))
        instance.execute(calls, self.dispatch)
        self._settle()

    def _settle(self) -> None:
        for slot in self._bench.slots:
            self._seats.settle(slot)

    def _defers(self, calls: list[Call]) -> bool:
        """Whether to wait for more; then `dispatch` will be called when it has been long enough."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delay = self._direct.delay_ns
        if not delay or len(calls) >= self._direct.utilization * len(self._bench.slots):
            return False
        oldest = min(call.taken_ns or call.received_ns for call in calls)
        left = oldest + delay - time.monotonic_ns()
        if left <= 0:
            return False
        self._timer = asyncio.get_running_loop().call_later(left / 1e9, self.dispatch)
        return True

    def _batch(self, slots: list[Slot], first: Request) -> list[Call]:
        """A call for each row; those that are unlike the first stay in their slots."""
        alike = self._direct.alike.likeness
        like = alike(first)
        filling = _zeros(first)
        calls = []
        for slot in slots:
            if slot.waits and alike(slot.head.request) == like:
                sequence, call = slot.take()
                if self._watch is not None and not call.taken_ns:  # else it is watched already
                    call.redirect(partial(self._watch, sequence))
                inputs = {**call.request.inputs, **self._controls.of(call.request)}
                call.request = call.request._replace(inputs=inputs, slot=slot.row)
            else:
                inputs = {**filling, **self._controls.idle()}
                request = Request(first.model, inputs, outputs=first.outputs, slot=-1)
                call = Call(request, _nowhere)
            calls.append(call)
        return calls


def _zeros(request: Request) -> dict[str, Tensor]:
    return {
        name: np.full(tensor.shape, b"" if tensor.dtype.kind == "O" else 0, tensor.dtype)
        for name, tensor in request.inputs.items()
    }


def _nowhere(call: Call, answer: Answer) -> None:
    """Where the answers of rows go that nobody asked for."""
