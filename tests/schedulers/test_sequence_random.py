"""Whatever happens, every call ends once, and a sequence's calls are executed in their order."""

import asyncio
import random

import pytest

from nerite.core.call import Call
from nerite.schedulers.batch import Batching
from nerite.schedulers.direct import Direct
from nerite.schedulers.oldest import Oldest
from nerite.schedulers.slots import Sequence

from .desk import OLDEST, SECOND, Desk

MILLISECOND = SECOND // 1000
STRATEGIES = [
    Direct(),
    Direct(alike=Batching(equal_shape=("in",))),
    Direct(delay_ns=MILLISECOND, utilization=0.6),
    OLDEST,
    Oldest(Batching(max_size=3, preferred=(2,)), preserve_ordering=True),
    Oldest(Batching(max_size=4, preferred=(4,), delay_ns=MILLISECOND)),
]


class Chance:
    """A desk at which anything may happen next."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        pick = self._random.choice
        self.iterative = self._random.random() < 0.3
        self.desk = Desk(
            pick(STRATEGIES),
            slots=pick([1, 2, 4]),
            places=pick([1, 2, 3]),
            idle_ns=pick([2 * MILLISECOND, 60 * SECOND]),
            iterative=self.iterative,
        )
        self.sequences: dict[Call, Sequence] = {}
        self._enqueue = self.desk.scheduler._enqueue
        self.desk.scheduler._enqueue = self._note  # type: ignore[method-assign]
        self._live: set[int] = set()

    def _note(self, sequence: Sequence, call: Call) -> None:
        self.sequences[call] = sequence
        self._enqueue(sequence, call)

    async def step(self) -> None:
        chance = self._random.random()
        place = self._random.choice(self.desk.places)
        if chance < 0.5:
            self._ask()
        elif chance < 0.8 and place.running:
            again = self.iterative and self._random.random() < 0.5
            place.reschedule() if again else place.finish()
        elif 0.8 <= chance < 0.87 and self.desk.calls:
            self._random.choice(self.desk.calls).cancel()
        elif 0.87 <= chance < 0.9:
            place.die()
            if self._random.random() < 0.5:
                self.desk.scheduler.dispatch()
        elif 0.9 <= chance < 0.95:
            self.revive()
        elif chance >= 0.95:
            await asyncio.sleep(0.003)

    def _ask(self) -> None:
        pick = self._random.choice
        id = self._random.randint(0 if self.iterative else 1, 6)
        starts = id not in self._live or self._random.random() < 0.1
        ends = self._random.random() < 0.25
        (self._live.discard if ends else self._live.add)(id)
        flags = ("start " if starts else "") + ("end" if ends else "")
        width, timeout_us = pick([2, 2, 3]), pick([0, 500, 10**7])
        self.desk.ask(str(len(self.desk.calls)), id, flags, width=width, timeout_us=timeout_us)

    def revive(self) -> None:
        for place in self.desk.places:
            place.ready = True
        self.desk.scheduler.dispatch()

    async def finish(self) -> None:
        """Nothing more is asked, and the sequences end; all that is open is executed."""
        self.revive()
        for number in range(2000):
            for place in self.desk.places:
                if place.running:
                    place.finish()
            if all(call.ended for call in self.desk.calls):
                return
            if number % 20 == 0:
                await asyncio.sleep(0.002)
                for id in list(self.desk.scheduler._seats.open):
                    self.desk.ask("last", id, "end")


@pytest.mark.parametrize("seed", range(60))
async def test_every_call_ends_once(seed: int) -> None:
    chance = Chance(seed)
    desk = chance.desk
    for _ in range(100):
        await chance.step()
    await chance.finish()
    assert [call.request.id for call in desk.calls if not call.ended] == []
    assert len(desk.ended) + desk.failures == len(desk.calls)
    assert desk.scheduler.pending() == 0
    if not chance.iterative:
        for place in desk.places:
            last: dict[Sequence, int] = {}
            for batch in place.batches:
                calls = [call for call in batch if call.request.slot >= 0]
                assert len({call.request.slot for call in calls}) == len(calls)
                for call in calls:
                    number = desk.calls.index(call)
                    assert last.get(chance.sequences[call], -1) < number
                    last[chance.sequences[call]] = number
    desk.close()
