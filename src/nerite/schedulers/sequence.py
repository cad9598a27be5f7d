"""Triton's sequence batching: all requests of a sequence go, in order, to one instance.

Who sits where is kept by Seats; what a bench of slots executes, and when, is its strategy's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from nerite.core.call import Answer, Call, Deliver
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request
from nerite.schedulers.base import Pool
from nerite.schedulers.controls import Controls
from nerite.schedulers.direct import Direct, DirectBatch
from nerite.schedulers.hooks import HOLD, HOLD_BACKLOG, held
from nerite.schedulers.oldest import Oldest, OldestBatch
from nerite.schedulers.queue import cancelled
from nerite.schedulers.slots import Bench, Reason, Seats, Sequence, Slot

log = logging.getLogger(__name__)


class Sequencing(NamedTuple):
    """How sequences are scheduled.

    slots: sequences that one instance holds at a time. idle_ns: after so long without a request a
    sequence is over. iterative: a request is a sequence of its own, whose next step the model asks
    for by rescheduling it.
    """

    slots: int
    idle_ns: int
    strategy: Direct | Oldest = Direct()
    controls: Controls = Controls()
    iterative: bool = False


class _Batch(Protocol):
    """What a strategy makes of one instance's slots."""

    def wake(self, slot: Slot) -> None: ...

    def landed(self, call: Call) -> None: ...

    def lose(self, reason: Reason) -> None: ...

    def pending(self) -> int: ...

    def dispatch(self) -> None: ...


class SequenceScheduler:
    """Belongs to the server's loop. `on_execute` is told of every execution."""

    def __init__(
        self, pool: Pool, on_execute: Callable[[list[Call]], None], sequencing: Sequencing
    ) -> None:
        self._pool = pool
        self._sequencing = sequencing
        self._controls = sequencing.controls
        self._seats = Seats([Bench(one, sequencing.slots) for one in pool.each()])
        self._batches = {bench: self._batch(bench, on_execute) for bench in self._seats.benches}
        self._numbers = 0
        self._closed = False
        self._idle: asyncio.TimerHandle | None = None
        direct = isinstance(sequencing.strategy, Direct)
        self._held = held(HOLD) if direct else 0
        self._held_backlog = held(HOLD_BACKLOG)

    def _batch(self, bench: Bench, on_execute: Callable[[list[Call]], None]) -> _Batch:
        strategy = self._sequencing.strategy
        common = (bench, self._seats, self._controls, on_execute)
        if isinstance(strategy, Direct):
            watch = self._watch if self._sequencing.iterative else None
            return DirectBatch(*common, strategy, watch)
        return OldestBatch(*common, strategy, self._watch)

    def submit(self, call: Call) -> None:
        try:
            sequence = self._admit(call)
        except InferenceError as error:
            call.fail(error)
            return
        if self._sequencing.iterative and not call.request.sequence_end:
            call.again = partial(self._again, sequence)
        self._enqueue(sequence, call)

    def _admit(self, call: Call) -> Sequence:
        """The sequence of a call; InferenceError where there can be none."""
        if call.batch_size > 1:
            raise invalid(
                f"inference request to model '{call.request.model}' must specify batch-size 1 due "
                "to requirements of sequence batcher"
            )
        if self._sequencing.iterative and not call.request.sequence_id:
            call.request = call.request._replace(sequence_id=self._number(), sequence_start=True)
        request = call.request
        self._controls.check(request)
        if not request.sequence_id:
            raise invalid(
                f"inference request to model '{request.model}' must specify a non-zero or "
                "non-empty correlation ID"
            )
        if self._closed and request.sequence_start:
            text = "Server is stopping, scheduler for model has stopped accepting new inference "
            raise InferenceError(Status.UNAVAILABLE, f"{text}requests")
        sequence = self._seats.open.get(request.sequence_id)
        if sequence is None:
            if not request.sequence_start:
                raise _unstarted(request)
            return self._seats.begin(request.sequence_id)
        if request.sequence_start:
            text = "sequence %s for model '%s' starts anew before it has ended"
            log.warning(text, sequence.id, request.model)
        return sequence

    def _number(self) -> int | str:
        """The correlation ID of a request that is an iterative sequence of its own."""
        while True:
            self._numbers += 1
            number = str(self._numbers) if self._controls.by_text else self._numbers
            if number not in self._seats.open:
                return number

    def _enqueue(self, sequence: Sequence, call: Call) -> None:
        sequence.calls.append(call)
        if call.request.sequence_end:
            self._seats.end(sequence)
        else:
            self._seats.touch(sequence)
            self._watch_idle(self._sequencing.idle_ns)
        call.on_cancel(partial(self._cancelled, sequence))
        if sequence.slot is None:
            self._wait(sequence, call)
        if self._held:
            self._release()
        elif sequence.slot is not None:
            self._wake(sequence.slot)

    def _wake(self, slot: Slot) -> None:
        if not self._held:
            self._batches[slot.bench].wake(slot)

    def _wait(self, sequence: Sequence, call: Call) -> None:
        """In the backlog the request's time-out counts; there none can be seated any more where
        no instance comes back."""
        if self._pool.broken is not None:
            self._seats.drop(sequence, _broken(self._pool.broken))
            return
        timeout_us = call.request.timeout_us
        if not timeout_us:
            return
        expires = time.monotonic_ns() + timeout_us * 1000
        if sequence.timer is not None:
            if sequence.expires_ns <= expires:
                return
            sequence.timer.cancel()
        sequence.expires_ns = expires
        loop = asyncio.get_running_loop()
        sequence.timer = loop.call_later(timeout_us / 1e6, self._seats.drop, sequence, _expired)

    def _release(self) -> None:
        """Triton's test hook: start when so many requests wait."""
        seated = sum(len(sequence.calls) for sequence in self._seats)
        backlog = sum(len(sequence.calls) for sequence in self._seats.backlog)
        if seated >= self._held and backlog >= self._held_backlog:
            self._held = 0
            self.dispatch()

    def _watch(self, sequence: Sequence, deliver: Deliver) -> Deliver:
        """For a batch to redirect a call through that leaves its slot for the first time."""

        def pass_on(call: Call, answer: Answer) -> None:
            if isinstance(answer, InferenceError) or answer.final:
                self._ended(sequence, call)
            deliver(call, answer)

        return pass_on

    def _ended(self, sequence: Sequence, call: Call) -> None:
        assert sequence.slot is not None
        self._batches[sequence.slot.bench].landed(call)
        if self._sequencing.iterative:
            self._seats.end(sequence)
            self._wake(sequence.slot)

    def _again(self, sequence: Sequence, call: Call) -> None:
        """A model has rescheduled a request: it is the next of its sequence."""
        call.request = call.request._replace(sequence_start=False, sequence_end=False)
        if sequence.open:
            self._enqueue(sequence, call)
        else:
            call.fail(_unstarted(call.request))

    def _cancelled(self, sequence: Sequence) -> None:
        """A call was cancelled; while it waits that is the end of its sequence."""
        if sequence.slot is not None:
            self._wake(sequence.slot)
        elif any(call.cancelled for call in sequence.calls):
            self._seats.drop(sequence, cancelled)

    def _watch_idle(self, nanoseconds: int) -> None:
        if self._idle is None:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(nanoseconds / 1e9, self._end_idle)

    def _end_idle(self) -> None:
        """End the sequences that have sat for too long without a request."""
        self._idle = None
        now = time.monotonic_ns()
        for sequence in list(self._seats.open.values()):
            left = sequence.used_ns + self._sequencing.idle_ns - now
            if left > 0:
                self._watch_idle(left)
                return
            if sequence.slot is not None:
                self._seats.end(sequence)
                self._wake(sequence.slot)
        if self._seats.open:
            self._watch_idle(self._sequencing.idle_ns)

    def dispatch(self) -> None:
        for bench in self._seats.benches:
            if bench.up and not bench.pool.ready:
                self._lose(bench, _lost)
            elif bench.pool.broken is not None:
                self._lose(bench, _broken(bench.pool.broken))
            bench.up = bench.pool.ready
        if self._pool.broken is not None:
            for sequence in list(self._seats.backlog):
                self._seats.drop(sequence, _broken(self._pool.broken))
        if self._held:
            return
        self._seats.fill()
        for batch in self._batches.values():
            batch.dispatch()

    def _lose(self, bench: Bench, reason: Reason) -> None:
        """An instance has died, and what its model knew of the sequences."""
        for slot in bench.slots:
            if slot.sequence is not None:
                self._seats.drop(slot.sequence, reason)
                self._seats.settle(slot)
        self._batches[bench].lose(reason)

    def pending(self) -> int:
        waiting = sum(len(sequence.calls) for sequence in (*self._seats, *self._seats.backlog))
        return waiting + sum(batch.pending() for batch in self._batches.values())

    def close(self) -> None:
        self._closed = True


def _unstarted(request: Request) -> InferenceError:
    return invalid(
        f"inference request for sequence {request.sequence_id} to model '{request.model}' must "
        "specify the START flag on the first request of the sequence"
    )


def _expired(call: Call) -> InferenceError:
    text = "timeout of the corresponding sequence has been expired"
    return InferenceError(Status.UNAVAILABLE, text)


def _lost(call: Call) -> InferenceError:
    text = (
        f"{call.request.label}sequence {call.request.sequence_id} is lost: the instance of model "
        f"'{call.request.model}' that it was on died. Start it again."
    )
    return InferenceError(Status.UNAVAILABLE, text)


def _broken(error: InferenceError) -> Reason:
    return lambda call: error
