"""A desk for sequences, on real pools of instances that finish or die when the test says."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.core.turn import Turn
from nerite.instances.base import Pool
from nerite.schedulers.batch import Batching
from nerite.schedulers.controls import Control, Controls, Correlation
from nerite.schedulers.direct import Direct
from nerite.schedulers.oldest import Oldest
from nerite.schedulers.sequence import SequenceScheduler, Sequencing

SECOND = 10**9


def control(name: str) -> Control:
    return Control(name, np.zeros((1, 1), np.int32), np.ones((1, 1), np.int32))


CONTROLS = Controls(
    (1, 1), control("START"), control("END"), control("READY"), Correlation("CORRID", "UINT32")
)


class Place:
    """An instance that answers when the test says."""

    memory_bytes = 0
    waiting: tuple[Call, ...] = ()

    def __init__(self) -> None:
        self.ready = True
        self.broken: InferenceError | None = None
        self.in_flight = 0
        self.capacity = 1
        self.batches: list[list[Call]] = []
        self.running: list[tuple[list[Call], Callable[[], None]]] = []

    async def start(self, changed: Callable[[], None]) -> Mapping[str, Any]:
        return {}

    def execute(self, calls: list[Call], done: Callable[[], None]) -> None:
        self.in_flight += 1
        self.batches.append(calls)
        self.running.append((calls, done))

    def holds(self, call: Call) -> bool:
        return any(call in calls for calls, _ in self.running)

    async def close(self) -> None: ...

    def finish(self) -> None:
        """Answer the batch that runs, after saying that there is room again, as a worker does."""
        calls, done = self.running.pop(0)
        self.in_flight -= 1
        done()
        for call in calls:
            call.send(Response())

    def reschedule(self) -> None:
        """Let go of the batch that runs, to see its requests again."""
        calls, done = self.running.pop(0)
        self.in_flight -= 1
        done()
        for call in calls:
            call.put_back()

    def die(self) -> None:
        self.ready, self.in_flight = False, 0
        running, self.running = self.running, []
        for calls, _ in running:
            for call in calls:
                call.fail(InferenceError(Status.UNAVAILABLE, "died"))

    @property
    def rows(self) -> list[str]:
        """The requests' names of each batch, a dash for a row that is filled up."""
        return ["".join(call.request.id or "-" for call in batch) for batch in self.batches]


class Desk:
    def __init__(
        self,
        strategy: Direct | Oldest = Direct(),  # noqa: B008  immutable
        *,
        slots: int = 2,
        places: int = 1,
        idle_ns: int = 60 * SECOND,
        controls: Controls = CONTROLS,
        iterative: bool = False,
    ) -> None:
        self.places = [Place() for _ in range(places)]
        self.ended: list[str] = []
        self.errors: dict[str, InferenceError] = {}
        self.failures = 0
        self.counted: list[list[Call]] = []
        self.calls: list[Call] = []
        self.told: Callable[[str], None] = lambda name: None
        sequencing = Sequencing(slots, idle_ns, strategy, controls, iterative)
        self.scheduler = SequenceScheduler(
            Pool(Turn(), self.places), self.counted.append, sequencing
        )

    def ask(
        self, name: str, id: int | str, flags: str = "", *, width: int = 2, **more: Any
    ) -> Call:
        tensor = np.full((1, width), len(self.calls) + 1, np.float32)
        request = Request(
            "m",
            {"in": tensor},
            id=name,
            sequence_id=id,
            sequence_start="start" in flags,
            sequence_end="end" in flags,
            **more,
        )
        call = Call(request, self._deliver)
        self.calls.append(call)
        self.scheduler.submit(call)
        return call

    def _deliver(self, call: Call, answer: Answer) -> None:
        if isinstance(answer, InferenceError):
            self.errors[call.request.id] = answer
            self.failures += 1
            self.told(call.request.id)
        elif answer.final:
            self.ended.append(call.request.id)

    @property
    def rows(self) -> list[str]:
        return self.places[0].rows

    def finish(self) -> None:
        self.places[0].finish()

    def text(self, name: str) -> str:
        return self.errors[name].message

    def close(self) -> None:
        """End what is open, so that no dropped call complains."""
        for call in self.calls:
            call.fail(InferenceError(Status.UNAVAILABLE, "end"))
        for place in self.places:
            for batch in place.batches:
                for call in batch:
                    call.send(Response())


OLDEST = Oldest(Batching(max_size=4, preferred=(4,)))
