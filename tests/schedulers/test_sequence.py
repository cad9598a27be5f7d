"""Who sits where, what goes together, and what ends a sequence, on real pools of instances that
finish when the test says."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor
from nerite.schedulers.batch import Batching
from nerite.schedulers.controls import Controls, Correlation
from nerite.schedulers.direct import Direct
from nerite.schedulers.oldest import Oldest

from .desk import OLDEST, SECOND, Desk


def inputs(call: Call) -> dict[str, list[Any]]:
    tensors: Mapping[str, Tensor] = call.request.inputs
    return {name: tensor.reshape(-1).tolist() for name, tensor in tensors.items()}


async def test_a_sequence_keeps_its_row() -> None:
    desk = Desk(slots=3)
    desk.ask("a", 1, "start")
    desk.ask("b", 2, "start")
    desk.ask("c", 3, "start")
    desk.ask("C", 3)
    desk.ask("A", 1, "end")
    assert desk.rows == ["a"]
    desk.finish()
    assert desk.rows == ["a", "Abc"]
    desk.finish()
    assert desk.rows == ["a", "Abc", "--C"]
    desk.finish()
    assert desk.ended == ["a", "A", "b", "c", "C"]
    desk.close()


async def test_controls() -> None:
    desk = Desk(slots=2)
    desk.ask("a", 7, "start")
    desk.ask("A", 7)
    desk.ask("b", 8, "start,end")
    desk.finish()
    desk.finish()
    (alone,), (first, second) = desk.places[0].batches
    assert inputs(alone) == {"in": [1, 1], "START": [1], "END": [0], "READY": [1], "CORRID": [7]}
    assert inputs(first) == {"in": [2, 2], "START": [0], "END": [0], "READY": [1], "CORRID": [7]}
    assert inputs(second) == {"in": [3, 3], "START": [1], "END": [1], "READY": [1], "CORRID": [8]}
    assert alone.request.inputs["CORRID"].dtype == np.uint32
    assert [first.request.slot, second.request.slot] == [0, 1]
    desk.close()


async def test_rows_that_are_filled_up() -> None:
    desk = Desk(slots=2)
    desk.ask("a", 1, "start")
    desk.ask("b", 2, "start", outputs=("out",))
    desk.finish()
    _, (filling, real) = desk.places[0].batches
    assert inputs(filling) == {"in": [0, 0], "START": [0], "END": [0], "READY": [0], "CORRID": [0]}
    assert filling.request.slot == -1
    assert filling.request.outputs == ("out",)
    # Whoever counts executions counts them by their first call, which must be one that ends.
    assert desk.counted[1] == [real, filling]
    desk.close()


async def test_unlike_shapes_wait_for_each_other() -> None:
    desk = Desk(Direct(alike=Batching(equal_shape=("in",))), slots=4)
    desk.ask("x", 9, "start,end")
    for name, width in (("a", 2), ("b", 3), ("c", 2)):
        desk.ask(name, ord(name), "start", width=width)
    desk.finish()
    assert desk.rows == ["x", "a-c"]
    desk.finish()
    assert desk.rows == ["x", "a-c", "-b"]
    desk.close()


async def test_ragged_inputs_go_together() -> None:
    desk = Desk(Direct())
    desk.ask("x", 9, "start,end")
    desk.ask("a", 1, "start", width=2)
    desk.ask("b", 2, "start", width=3)
    desk.finish()
    assert desk.rows == ["x", "ab"]
    desk.close()


async def test_new_sequences_spread_over_the_instances() -> None:
    desk = Desk(slots=2, places=2)
    for name, number in (("a", 1), ("b", 2), ("c", 3), ("d", 4)):
        desk.ask(name, number, "start")
    desk.places[0].finish()
    desk.places[1].finish()
    assert [place.rows for place in desk.places] == [["a", "-c"], ["b", "-d"]]
    desk.close()


async def test_the_backlog_follows_in_order() -> None:
    desk = Desk(slots=1)
    desk.ask("a", 1, "start")
    desk.ask("b", 2, "start")
    desk.ask("B", 2, "end")
    desk.ask("c", 3, "start,end")
    assert desk.scheduler.pending() == 3
    desk.ask("A", 1, "end")
    for _ in range(5):
        desk.finish()
    assert desk.rows == ["a", "A", "b", "B", "c"]
    assert desk.scheduler.pending() == 0
    desk.close()


async def test_one_id_twice_in_the_backlog() -> None:
    desk = Desk(slots=1)
    desk.ask("a", 1, "start,end")
    desk.ask("b", 1, "start,end")
    desk.ask("c", 1, "start,end")
    for _ in range(3):
        desk.finish()
    assert desk.rows == ["a", "b", "c"]


async def test_a_start_without_an_end_before() -> None:
    desk = Desk(slots=1)
    desk.ask("a", 1, "start")
    desk.ask("b", 1, "start")
    desk.finish()
    desk.finish()
    assert desk.rows == ["a", "b"]
    assert inputs(desk.calls[1])["START"] == [1]


async def test_what_is_refused() -> None:
    desk = Desk()
    desk.ask("a", 0, "start")
    desk.ask("b", "", "start")
    desk.ask("c", 5)
    desk.ask("d", "text", "start")
    large = Call(Request("m", {}, id="e", sequence_id=1, sequence_start=True), desk._deliver, 2)
    desk.scheduler.submit(large)
    none = "inference request to model 'm' must specify a non-zero or non-empty correlation ID"
    assert desk.text("a") == none
    assert desk.text("c") == (
        "inference request for sequence 5 to model 'm' must specify the START flag on the first "
        "request of the sequence"
    )
    assert desk.text("d") == (
        "[request id: d] sequence batching control 'CORRID' data-type is 'BYTES', but model 'm' "
        "expects 'UINT32'"
    )
    assert "must specify batch-size 1 due to requirements of sequence batcher" in desk.text("e")
    assert {error.status for error in desk.errors.values()} == {Status.INVALID_ARG}
    untyped = Desk(controls=Controls())
    untyped.ask("b", "", "start")
    assert untyped.text("b") == none


async def test_ids_of_text() -> None:
    desk = Desk(controls=Controls((1,), correlation=Correlation("CORRID", "BYTES")))
    desk.ask("a", "é", "start")
    desk.ask("b", "", "start")
    assert desk.calls[0].request.inputs["CORRID"].tolist() == ["é".encode()]
    desk.ask("c", 5, "start")
    assert desk.text("c").endswith("'CORRID' data-type is 'UINT64', but model 'm' expects 'BYTES'")
    desk.close()


async def test_ids_wrap_as_tritons_do() -> None:
    desk = Desk(controls=Controls((1,), correlation=Correlation("CORRID", "INT32")))
    desk.ask("a", 2**32 + 5, "start")
    assert desk.calls[0].request.inputs["CORRID"].tolist() == [5]
    desk.close()


async def test_an_idle_sequence_is_over() -> None:
    desk = Desk(slots=1, idle_ns=50_000_000)
    desk.ask("a", 1, "start")
    desk.ask("b", 2, "start")
    desk.finish()
    assert desk.rows == ["a"]
    await asyncio.sleep(0.2)
    assert desk.rows == ["a", "b"]
    desk.ask("A", 1)
    assert "must specify the START flag" in desk.text("A")
    desk.close()


async def test_requests_keep_a_sequence_alive() -> None:
    desk = Desk(slots=1, idle_ns=300_000_000)
    desk.ask("a", 1, "start")
    for _ in range(5):
        desk.finish()
        await asyncio.sleep(0.1)
        desk.ask("a", 1)
    assert not desk.errors
    desk.close()


async def test_a_timeout_counts_in_the_backlog() -> None:
    desk = Desk(slots=1)
    desk.ask("a", 1, "start", timeout_us=1)
    desk.ask("b", 2, "start", timeout_us=10_000_000)
    desk.ask("B", 2, timeout_us=20_000)
    desk.ask("c", 3, "start")
    await asyncio.sleep(0.1)
    assert desk.text("b") == "timeout of the corresponding sequence has been expired"
    assert desk.errors["B"].status is Status.UNAVAILABLE
    assert set(desk.errors) == {"b", "B"}
    desk.ask("BB", 2)
    assert "must specify the START flag" in desk.text("BB")
    desk.close()


async def test_a_seat_ends_the_timeout() -> None:
    desk = Desk(slots=1)
    desk.ask("a", 1, "start,end")
    desk.ask("b", 2, "start", timeout_us=30_000)
    await asyncio.sleep(0.1)
    assert not desk.errors
    desk.close()


@pytest.mark.parametrize("strategy", [Direct(), OLDEST])
async def test_a_cancelled_request_ends_its_sequence(strategy: Direct | Oldest) -> None:
    desk = Desk(strategy, slots=1)
    desk.ask("a", 1, "start")
    waiting = desk.ask("A", 1)
    desk.ask("AA", 1)
    desk.ask("b", 2, "start")
    waiting.cancel()
    assert desk.errors["A"].status is desk.errors["AA"].status is Status.CANCELLED
    desk.ask("AAA", 1)
    assert "must specify the START flag" in desk.text("AAA")
    desk.finish()
    assert desk.ended == ["a"]
    assert desk.rows == ["a", "b"]
    desk.close()


@pytest.mark.parametrize("strategy", [Direct(), OLDEST])
async def test_who_is_told_of_an_error_may_ask_at_once(strategy: Direct | Oldest) -> None:
    desk = Desk(strategy, slots=2)
    desk.ask("x", 9, "start,end")
    desk.ask("a", 1, "start")
    behind = desk.ask("A", 1)
    desk.ask("b", 2, "start")
    desk.told = lambda name: None if name != "A" else desk.ask("B", 2, "end") and None
    behind.cancel()
    for _ in range(3):
        desk.finish()
    assert desk.errors["A"].status is Status.CANCELLED
    assert desk.ended == ["x", "a", "b", "B"]
    assert desk.scheduler.pending() == 0


async def test_a_cancelled_request_in_the_backlog() -> None:
    desk = Desk(slots=1)
    desk.ask("a", 1, "start")
    desk.ask("b", 2, "start")
    desk.ask("B", 2).cancel()
    desk.ask("c", 3, "start")
    assert desk.errors["b"].status is desk.errors["B"].status is Status.CANCELLED
    desk.ask("A", 1, "end")
    desk.finish()
    desk.finish()
    assert desk.rows == ["a", "A", "c"]
    desk.close()


async def test_a_batch_waits_for_enough_slots() -> None:
    desk = Desk(Direct(delay_ns=60 * SECOND, utilization=0.5), slots=4)
    desk.ask("a", 1, "start")
    assert desk.rows == []
    desk.ask("b", 2, "start")
    assert desk.rows == ["ab"]
    desk.close()


async def test_or_for_the_delay() -> None:
    desk = Desk(Direct(delay_ns=50_000_000, utilization=1.0))
    desk.ask("a", 1, "start")
    assert desk.rows == []
    await asyncio.sleep(0.2)
    assert desk.rows == ["a"]
    desk.close()


async def test_a_delay_without_utilization_is_none() -> None:
    desk = Desk(Direct(delay_ns=60 * SECOND))
    desk.ask("a", 1, "start")
    assert desk.rows == ["a"]
    desk.close()


async def test_triton_s_hooks_hold_until_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONSERVER_DELAY_SCHEDULER", "2")
    monkeypatch.setenv("TRITONSERVER_BACKLOG_DELAY_SCHEDULER", "1")
    desk = Desk(slots=1)
    desk.ask("a", 1, "start")
    desk.ask("A", 1, "end")
    assert desk.rows == []
    desk.ask("b", 2, "start,end")
    for _ in range(3):
        desk.finish()
    assert desk.rows == ["a", "A", "b"]


async def test_hooks_that_are_no_numbers_hold_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITONSERVER_DELAY_SCHEDULER", "")
    monkeypatch.setenv("TRITONSERVER_BACKLOG_DELAY_SCHEDULER", "some")
    desk = Desk(slots=1)
    desk.ask("a", 1, "start,end")
    assert desk.rows == ["a"]
    desk.close()


async def test_oldest_takes_one_of_each_sequence() -> None:
    desk = Desk(OLDEST, slots=4)
    desk.ask("x", 9, "start,end")
    desk.ask("y", 8, "start,end")
    for name in "abc":
        desk.ask(name, ord(name), "start")
        desk.ask(name.upper(), ord(name), "end")
    assert desk.rows == ["x"]
    for _ in range(3):
        desk.finish()
    assert desk.rows == ["x", "yabc", "ABC"]
    assert desk.ended == list("xyabcABC")
    desk.close()


async def test_oldest_has_its_own_number_of_slots() -> None:
    desk = Desk(OLDEST, slots=2)
    for name in "abc":
        desk.ask(name, ord(name), "start")
    desk.finish()
    desk.finish()
    assert desk.rows == ["a", "b"]
    desk.ask("A", ord("a"), "end")
    desk.finish()
    assert desk.rows == ["a", "b", "A", "c"]
    desk.close()


async def test_oldest_keeps_the_order_of_answers() -> None:
    desk = Desk(Oldest(Batching(max_size=1), preserve_ordering=True), slots=2)
    desk.places[0].capacity = 2
    first = desk.ask("a", 1, "start")
    desk.ask("b", 2, "start")
    (_, done_a), (_, done_b) = desk.places[0].running
    desk.calls[1].send(Response())
    assert desk.ended == []
    first.send(Response())
    assert desk.ended == ["a", "b"]
    done_a()
    done_b()
    desk.close()


async def test_a_decoupled_sequence_goes_on_before_its_last_answer() -> None:
    desk = Desk(OLDEST, slots=1)
    first = desk.ask("a", 1, "start")
    desk.ask("A", 1, "end")
    _, done = desk.places[0].running.pop(0)
    desk.places[0].in_flight -= 1
    done()
    assert desk.rows == ["a", "A"]
    assert not first.ended
    desk.close()


@pytest.mark.parametrize("strategy", [Direct(), Oldest(Batching(max_size=1))])
async def test_a_dead_instance_loses_its_sequences(strategy: Direct | Oldest) -> None:
    desk = Desk(strategy, places=2, slots=2)
    for name, number in (("a", 1), ("b", 2), ("c", 3)):
        desk.ask(name, number, "start")
    desk.ask("A", 1)
    desk.places[0].die()
    desk.scheduler.dispatch()
    assert desk.text("a") == "died"
    assert desk.text("A") == (
        "[request id: A] sequence 1 is lost: the instance of model 'm' that it was on died. "
        "Start it again."
    )
    assert "c" in desk.errors and "b" not in desk.errors
    assert desk.scheduler.pending() == 0
    desk.ask("AA", 1)
    assert "must specify the START flag" in desk.text("AA")
    desk.ask("n", 4, "start")  # goes where there is life
    desk.places[1].finish()
    assert [row.strip("-") for row in desk.places[1].rows] == ["b", "n"]
    desk.places[0].ready = True
    desk.scheduler.dispatch()
    desk.ask("o", 5, "start")
    assert desk.places[0].rows[-1] == "o"
    desk.close()


async def test_broken_instances_fail_what_waits() -> None:
    desk = Desk(slots=1)
    desk.ask("a", 1, "start")
    desk.ask("b", 2, "start")
    desk.places[0].die()
    desk.places[0].broken = InferenceError(Status.UNAVAILABLE, "gone")
    desk.scheduler.dispatch()
    assert desk.text("b") == "gone"
    desk.ask("c", 3, "start")
    assert desk.text("c") == "gone"


async def test_a_closed_scheduler_lets_sequences_end() -> None:
    desk = Desk()
    desk.ask("a", 1, "start")
    desk.scheduler.close()
    desk.ask("b", 2, "start")
    desk.ask("A", 1, "end")
    assert desk.errors["b"].status is Status.UNAVAILABLE
    assert "has stopped accepting new inference requests" in desk.text("b")
    desk.finish()
    desk.finish()
    assert desk.ended == ["a", "A"]


@pytest.mark.parametrize("strategy", [Direct(), OLDEST])
async def test_a_rescheduled_request_comes_again(strategy: Direct | Oldest) -> None:
    desk = Desk(strategy, slots=1, iterative=True)
    desk.ask("a", 0)
    desk.ask("b", 0)
    assert inputs(desk.calls[0])["START"] == [1]
    assert inputs(desk.calls[0])["CORRID"] == [1]
    desk.places[0].reschedule()
    assert inputs(desk.calls[0])["START"] == [0]
    assert inputs(desk.calls[0])["CORRID"] == [1]
    desk.finish()
    assert desk.ended == ["a"]
    desk.finish()
    assert desk.rows == ["a", "a", "b"]
    assert desk.ended == ["a", "b"]
    desk.close()


async def test_an_idle_iterative_sequence_cannot_be_rescheduled() -> None:
    desk = Desk(slots=1, iterative=True, idle_ns=20_000_000)
    desk.ask("a", 0)
    await asyncio.sleep(0.1)
    desk.places[0].reschedule()
    assert "must specify the START flag" in desk.text("a")


async def test_only_iterative_sequences_can_be_rescheduled() -> None:
    desk = Desk(slots=1)
    desk.ask("a", 1, "start")
    desk.places[0].reschedule()
    assert "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE" in desk.text("a")


async def test_a_request_that_is_cancelled_while_rescheduled() -> None:
    desk = Desk(slots=1, iterative=True)
    desk.ask("a", 0).cancel()
    desk.places[0].reschedule()
    assert desk.errors["a"].status is Status.CANCELLED
    desk.ask("b", 0)
    assert desk.rows == ["a", "b"]
    desk.close()
