"""Gathering, priorities, time-outs and order, with instances that finish when the test says."""

import asyncio
import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status
from nerite.core.layout import Packed, tight
from nerite.core.request import Request, Response
from nerite.core.turn import Turn
from nerite.schedulers.batch import Batching, BatchScheduler
from nerite.schedulers.order import Order
from nerite.schedulers.queue import Levels, QueuePolicy


class Executor:
    """Holds what it is given until `finish`."""

    def __init__(self) -> None:
        self.batches: list[list[Call]] = []
        self.dones: list[Callable[[], None]] = []

    def execute(self, calls: list[Call], done: Callable[[], None]) -> None:
        self.batches.append(calls)
        self.dones.append(done)

    @property
    def names(self) -> list[str]:
        return ["".join(call.request.id for call in batch) for batch in self.batches]


class Pool:
    """One executor that takes `room` executions at a time."""

    def __init__(self, room: int = 1) -> None:
        self.executor = Executor()
        self.room = room
        self.turn = Turn()
        self.hungry = False
        self.broken: InferenceError | None = None

    def take(self, most: int | None = None) -> Executor | None:
        room = self.room if most is None else min(self.room, most)
        return self.executor if len(self.executor.dones) < room else None

    def finish(self) -> None:
        self.executor.dones.pop(0)()


class Desk:
    """A scheduler with its pool, and what became of the calls."""

    def __init__(self, batching: Batching, levels: Levels = Levels(), room: int = 1) -> None:  # noqa: B008
        self.pool = Pool(room)
        self.errors: dict[str, InferenceError] = {}
        self.scheduler = BatchScheduler(self.pool, lambda calls: None, batching, levels)

    def ask(self, name: str, size: int = 1, width: int = 2, **more: int) -> Call:
        tensor = np.zeros((size, width), np.float32)
        request = Request("m", {"in": tensor}, id=name, **more)  # type: ignore[arg-type]
        return self.submit(request, size)

    def submit(self, request: Request, size: int = 1) -> Call:
        call = Call(request, self._deliver, size)
        self.scheduler.submit(call)
        return call

    def _deliver(self, call: Call, answer: Answer) -> None:
        if isinstance(answer, InferenceError):
            self.errors[call.request.id] = answer

    @property
    def sent(self) -> list[str]:
        return self.pool.executor.names

    def close(self) -> None:
        """End what is open, so that no dropped call complains."""
        for batch in self.pool.executor.batches:
            for call in batch:
                call.send(Response())
        self.scheduler._fail_all(InferenceError(Status.UNAVAILABLE, "end"))


async def test_alone() -> None:
    desk = Desk(Batching())
    for name in "abc":
        desk.ask(name)
    assert desk.sent == ["a"]
    desk.pool.finish()
    desk.pool.finish()
    assert desk.sent == ["a", "b", "c"]
    desk.close()


async def test_what_waits_goes_together() -> None:
    desk = Desk(Batching(max_size=4, preferred=(4,)))
    for name in "abcdefg":
        desk.ask(name)
    assert desk.sent == ["a"]
    desk.pool.finish()
    assert desk.sent == ["a", "bcde"]
    desk.pool.finish()
    assert desk.sent == ["a", "bcde", "fg"]
    desk.close()


async def test_what_comes_in_one_turn_goes_together_but_for_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nerite.schedulers.batch._PATIENCE_NS", 10**12)
    desk = Desk(Batching(max_size=4, preferred=(4,)), room=4)
    for name in "abc":
        desk.ask(name)
    assert desk.sent == ["a"]
    await asyncio.sleep(0)
    assert desk.sent == ["a", "bc"]
    desk.close()


async def test_of_many_half_goes_first_to_who_has_little_to_do() -> None:
    desk = Desk(Batching(max_size=8), room=0)
    for name in "abcdefg":
        desk.ask(name)
    desk.pool.room, desk.pool.hungry = 2, True
    desk.scheduler.dispatch()
    assert desk.sent == ["abcd", "efg"]
    for name in "hij":
        desk.ask(name)
    desk.pool.finish()
    assert desk.sent == ["abcd", "efg", "hij"]
    desk.close()


async def test_a_full_batch_is_not_halved() -> None:
    desk = Desk(Batching(max_size=4, preferred=(4,)), room=0)
    for name in "abcd":
        desk.ask(name)
    desk.pool.room, desk.pool.hungry = 2, True
    desk.scheduler.dispatch()
    assert desk.sent == ["abcd"]
    desk.close()


async def test_a_long_turn_is_not_waited_for() -> None:
    desk = Desk(Batching(max_size=8), room=3)
    for name in "ab":
        desk.ask(name)
    time.sleep(0.001)
    desk.ask("c")
    assert desk.sent == ["a", "bc"]
    desk.close()


async def test_items_count_and_not_requests() -> None:
    desk = Desk(Batching(max_size=4, preferred=(4,)), room=0)
    for name, size in (("a", 3), ("b", 2), ("c", 1)):
        desk.ask(name, size)
    desk.pool.room = 9
    desk.scheduler.dispatch()
    assert desk.sent == ["a", "bc"]
    desk.close()


async def test_preferred_sizes_are_sent_at_once() -> None:
    desk = Desk(Batching(max_size=8, preferred=(2, 4), delay_ns=10**10), room=9)
    desk.ask("a")
    assert desk.sent == []
    desk.ask("b")
    assert desk.sent == ["ab"]
    desk.close()


async def test_the_delay_of_the_first_sends_all() -> None:
    desk = Desk(Batching(max_size=8, preferred=(8,), delay_ns=500_000_000), room=9)
    desk.ask("a")
    await asyncio.sleep(0.01)
    desk.ask("b")
    assert desk.sent == []
    await asyncio.sleep(0.6)
    assert desk.sent == ["ab"]
    desk.close()


async def sent(batching: Batching, *inputs: Mapping[str, np.ndarray]) -> list[str]:
    """How requests with these inputs, named a, b…, are gathered."""
    desk = Desk(batching, room=0)
    for name, tensors in zip("abcdef", inputs, strict=False):
        desk.submit(Request("m", tensors, id=name))
    desk.pool.room = 9
    desk.scheduler.dispatch()
    gathered = desk.sent
    desk.close()
    return gathered


def tensor(width: int, value: float = 0) -> np.ndarray:
    return np.full((1, width), value, np.float32)


async def test_shapes_that_differ_part_a_batch() -> None:
    inputs = [{"in": tensor(width)} for width in (2, 2, 3, 2)]
    batching = Batching(max_size=8, preferred=(8,), equal_shape=("in",))
    assert await sent(batching, *inputs) == ["ab", "c", "d"]
    layouts = [tight([("in", "FP32", one["in"].shape, one["in"].nbytes)]) for one in inputs]
    packed = [Packed(layout, bytes(layout.size)) for layout in layouts]
    assert await sent(batching, *packed) == ["ab", "c", "d"]
    assert await sent(batching._replace(equal_shape=()), *inputs) == ["abcd"]


async def test_contents_that_differ_part_a_batch() -> None:
    inputs = [{"in": tensor(2, value)} for value in (1, 1, 2)]
    batching = Batching(max_size=8, preferred=(8,), equal_shape=("in",), equal_content=("in",))
    assert await sent(batching, *inputs) == ["ab", "c"]


async def test_requests_with_the_same_optional_inputs_go_together() -> None:
    both, one = {"in": tensor(2), "more": tensor(2)}, {"in": tensor(2)}
    batching = Batching(max_size=8, preferred=(8,), optional=True)
    assert await sent(batching, both, both, one, {"more": tensor(2)}) == ["ab", "c", "d"]


async def test_priorities() -> None:
    desk = Desk(Batching(), Levels(number=3, default=2), room=0)
    for name, priority in (("a", 3), ("b", 0), ("c", 1), ("d", 9), ("e", 1)):
        desk.ask(name, priority=priority)
    desk.pool.room = 9
    desk.scheduler.dispatch()
    for _ in range(5):
        desk.pool.finish()
    assert desk.sent == ["c", "e", "b", "d", "a"]
    desk.close()


async def test_a_full_queue_refuses() -> None:
    desk = Desk(Batching(), Levels(policy=QueuePolicy(max_size=2)))
    for name in "abcd":
        desk.ask(name)
    assert desk.errors["d"].status is Status.UNAVAILABLE
    assert desk.errors["d"].message == "[request id: d] Exceeds maximum queue size"
    assert desk.scheduler.pending() == 2
    desk.close()


@pytest.mark.parametrize("largest", [1, 4])
async def test_what_a_policy_holds_for_is_not_handed_ahead(largest: int) -> None:
    desk = Desk(Batching(max_size=largest), Levels(policy=QueuePolicy(max_size=2)), room=9)
    for name in "abcde":
        desk.ask(name)
    assert desk.sent == ["a"]
    assert [*desk.errors] == ["d", "e"]
    desk.close()


async def test_what_waits_too_long_is_refused_in_time() -> None:
    desk = Desk(Batching(), Levels(policy=QueuePolicy(timeout_ns=30_000_000)))
    desk.ask("a")
    desk.ask("b")
    await asyncio.sleep(0.1)
    assert desk.errors["b"].message == "Request timeout expired"
    assert desk.sent == ["a"]
    desk.close()


async def test_an_idle_instance_does_not_make_a_late_call_early() -> None:
    policy = QueuePolicy(timeout_ns=10**9, override=True)
    desk = Desk(Batching(max_size=4), Levels(policy=policy))
    desk.ask("a", timeout_us=1)
    assert desk.errors["a"].message == "Request timeout expired"
    desk.ask("b", timeout_us=10**6)
    assert desk.sent == ["b"]
    desk.close()


async def test_or_it_goes_behind() -> None:
    policy = QueuePolicy(timeout_ns=20_000_000, override=True, delay=True)
    desk = Desk(Batching(), Levels(policy=policy))
    desk.ask("a")
    desk.ask("b", timeout_us=1)
    await asyncio.sleep(0.01)
    desk.ask("c")
    desk.pool.finish()
    assert desk.sent == ["a", "c"]
    desk.pool.finish()
    assert desk.sent == ["a", "c", "b"]
    desk.close()


async def test_a_cancelled_call_leaves_the_queue() -> None:
    desk = Desk(Batching(max_size=4, preferred=(4,)))
    desk.ask("a")
    desk.ask("b").cancel()
    desk.ask("c")
    desk.pool.finish()
    assert desk.sent == ["a", "c"]
    assert desk.errors["b"].status is Status.CANCELLED
    desk.close()


async def test_broken_instances_fail_what_waits() -> None:
    desk = Desk(Batching())
    desk.ask("a")
    desk.ask("b")
    desk.pool.broken = InferenceError(Status.UNAVAILABLE, "gone")
    desk.scheduler.dispatch()
    assert desk.errors["b"].message == "gone"
    desk.close()


async def test_a_closed_scheduler_refuses() -> None:
    desk = Desk(Batching())
    desk.scheduler.close()
    desk.ask("a")
    assert desk.errors["a"].status is Status.UNAVAILABLE
    assert desk.sent == []


async def test_tritons_hook_holds_until_so_many_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONSERVER_DELAY_SCHEDULER", "3")
    desk = Desk(Batching(max_size=2, preferred=(2,)), room=9)
    desk.ask("a")
    desk.ask("b")
    assert desk.sent == []
    desk.ask("c")
    assert desk.sent == ["ab", "c"]
    desk.close()


@pytest.mark.parametrize(("text", "sent"), [("", ["a"]), ("many", ["a"]), (" 2 or so", [])])
async def test_tritons_hook_is_read_as_by_atoi(
    monkeypatch: pytest.MonkeyPatch, text: str, sent: list[str]
) -> None:
    monkeypatch.setenv("TRITONSERVER_DELAY_SCHEDULER", text)
    desk = Desk(Batching(max_size=2))
    desk.ask("a")
    assert desk.sent == sent
    desk.close()


def test_answers_keep_the_order_of_requests() -> None:
    order = Order()
    told: list[str] = []
    calls = []
    for name in "abc":
        deliver = order.place(lambda call, answer: told.append(call.request.id))
        calls.append(Call(Request("m", {}, id=name), deliver))
    a, b, c = calls
    c.send(Response())
    b.send(Response(final=False))
    assert told == []
    a.send(Response())
    assert told == ["a", "b"]
    b.fail(InferenceError(Status.INTERNAL, "no"))
    assert told == ["a", "b", "b", "c"]
