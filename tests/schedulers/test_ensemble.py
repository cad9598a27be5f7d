"""Graphs of steps whose models answer when the test says."""

import gc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from nerite.core.call import Answer, Call, Deliver
from nerite.core.errors import InferenceError, Status
from nerite.core.layout import Packed, aligned
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor
from nerite.schedulers.ensemble import EnsembleScheduler, Graph
from nerite.schedulers.plan import Step

ONE = np.ones((1, 4), np.float32)
TWO = np.ones((2, 4), np.float32)


class Model:
    """Holds what it is asked until the test answers."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.refusal: InferenceError | None = None
        self.at_once: Response | None = None

    def submit(self, request: Request, deliver: Deliver) -> Call:
        if self.refusal is not None:
            raise self.refusal
        call = Call(request, deliver)
        call.taken_ns = call.received_ns
        if self.at_once is not None:
            call.send(self.at_once)
        else:
            self.calls.append(call)
        return call

    def answer(self, final: bool = True, **outputs: Tensor) -> None:
        """Answer what was asked first."""
        call = self.calls.pop(0) if final else self.calls[0]
        call.send(Response(outputs, final=final))


def step(
    model: Model,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    *,
    dims: tuple[int, ...] = (4,),
    batches: bool = True,
    decoupled: bool = False,
) -> Step:
    shapes = dict.fromkeys(inputs, dims)
    return Step(model.submit, "m", "", inputs, outputs, shapes, batches, decoupled)


class Desk:
    """An ensemble, and what came of each request."""

    def __init__(
        self,
        *steps: Step,
        inputs: tuple[str, ...] = ("in",),
        outputs: tuple[str, ...] = ("out",),
        batches: bool = True,
        max_inflight: int = 0,
    ) -> None:
        shapes = dict.fromkeys(outputs, (4,))
        decoupled = any(one.decoupled for one in steps)
        graph = Graph("e", steps, inputs, shapes, batches, decoupled, max_inflight)
        self.scheduler = EnsembleScheduler(graph)
        self.answers: dict[str, list[Answer]] = {}

    def ask(self, id: str = "1", **more: Any) -> Call:
        inputs = more.pop("inputs", {"in": ONE})
        answers = self.answers[id] = []

        def deliver(call: Call, answer: Answer) -> None:
            answers.append(answer)

        size = next(iter(inputs.values())).shape[0] if inputs else 1
        call = Call(Request("e", inputs, id=id, **more), deliver, size)
        self.scheduler.submit(call)
        return call

    def one(self, id: str = "1") -> Mapping[str, Tensor]:
        (answer,) = self.answers[id]
        assert isinstance(answer, Response) and answer.final
        return answer.outputs

    def error(self, id: str = "1") -> InferenceError:
        answer = self.answers[id][-1]
        assert isinstance(answer, InferenceError)
        return answer


def chain() -> tuple[Model, Model, Desk]:
    first, second = Model(), Model()
    desk = Desk(
        step(first, {"a": "in"}, {"b": "between"}), step(second, {"c": "between"}, {"d": "out"})
    )
    return first, second, desk


def test_a_tensor_goes_on_as_the_array_that_came() -> None:
    first, second, desk = chain()
    desk.ask()
    assert first.calls[0].request.inputs["a"] is ONE
    assert not second.calls
    between = ONE * 2
    first.answer(b=between)
    assert second.calls[0].request.inputs["c"] is between
    out = ONE * 3
    second.answer(d=out)
    assert desk.one()["out"] is out


def packed(**tensors: np.ndarray) -> Packed:
    placed = [(name, "FP32", one.shape, one.nbytes) for name, one in tensors.items()]
    return Packed(aligned(placed), b"".join(one.tobytes() for one in tensors.values()))


def test_tensors_in_bytes_go_on_as_they_lie() -> None:
    first, second = Model(), Model()
    desk = Desk(
        step(first, {"a": "in"}, {"b": "mid", "e": "more"}),
        step(second, {"y": "more", "x": "mid"}, {"d": "out"}),
    )
    layouts = []
    for id in ("1", "2"):
        desk.ask(id, inputs=packed(**{"in": ONE}))
        assert type(first.calls[0].request.inputs) is Packed
        answer = packed(b=ONE, e=2 * ONE)
        answer.layout = layouts[0][0] if layouts else answer.layout
        first.calls.pop(0).send(Response(answer))
        inputs = second.calls[-1].request.inputs
        assert isinstance(inputs, Packed) and inputs.data is answer.data
        assert (inputs["x"].tolist(), inputs["y"].tolist()) == ([[1] * 4], [[2] * 4])
        layouts.append((answer.layout, inputs.layout))
    assert layouts[0] == layouts[1]


def test_tensors_in_bytes_of_which_some_are_needed() -> None:
    first, second = Model(), Model()
    desk = Desk(
        step(first, {"a": "in"}, {"b": "mid", "e": "more"}),
        step(second, {"x": "mid"}, {"d": "out"}),
    )
    desk.ask(inputs=packed(**{"in": ONE}))
    first.calls.pop().send(Response(packed(b=ONE, e=2 * ONE)))
    inputs = second.calls[0].request.inputs
    assert list(inputs) == ["x"] and inputs["x"].tolist() == [[1] * 4]


def test_steps_are_asked_as_the_client_asked() -> None:
    first, second, desk = chain()
    told = {"priority": 3, "timeout_us": 7, "parameters": {"k": "v"}, "sequence_id": "s"}
    desk.ask("id", sequence_start=True, **told)
    first.answer(b=ONE)
    for model in (first, second):
        for call in model.calls:
            request = call.request
            assert (request.id, request.priority, request.timeout_us) == ("id", 3, 7)
            assert request.parameters == {"k": "v"}
            assert (request.sequence_id, request.sequence_start) == ("s", True)
    second.answer(d=ONE)
    answer = desk.answers["id"][0]
    assert isinstance(answer, Response)
    assert answer.parameters == {"sequence_id": "s", "sequence_start": True, "sequence_end": False}


def test_a_step_can_say_which_sequence_goes_on() -> None:
    first, second, desk = chain()
    desk.ask(sequence_id=1, sequence_start=True)
    parameters = {"sequence_id": 9, "sequence_end": True}
    first.calls[0].send(Response({"b": ONE}, parameters))
    request = second.calls[0].request
    assert (request.sequence_id, request.sequence_start, request.sequence_end) == (9, False, True)
    second.answer(d=ONE)
    desk.ask("2")
    first.calls[-1].send(Response({"b": ONE}, {"sequence_start": "yes"}))
    assert "'sequence_start' to be TRITONSERVER_PARAMETER_BOOL" in desk.error("2").message


def test_branches_are_asked_together_and_joined() -> None:
    left, right, join = Model(), Model(), Model()
    desk = Desk(
        step(left, {"a": "in"}, {"b": "l"}),
        step(right, {"a": "in"}, {"b": "r"}),
        step(join, {"x": "l", "y": "r", "z": "in"}, {"d": "out"}),
    )
    desk.ask()
    assert len(left.calls) == len(right.calls) == 1
    right.answer(b=ONE * 2)
    assert not join.calls
    left.answer(b=ONE * 3)
    inputs = join.calls[0].request.inputs
    assert (inputs["x"][0, 0], inputs["y"][0, 0], inputs["z"][0, 0]) == (3, 2, 1)
    join.answer(d=ONE)
    assert desk.one()


def test_only_what_is_asked_for_is_computed() -> None:
    first, second = Model(), Model()
    desk = Desk(
        step(first, {"a": "in"}, {"b": "p", "unused": "q"}),
        step(second, {"a": "in"}, {"b": "r"}),
        outputs=("p", "q", "r"),
    )
    desk.ask(outputs=("q",))
    assert not second.calls
    assert first.calls[0].request.outputs == ("unused",)
    first.answer(unused=ONE)
    assert list(desk.one()) == ["q"]


def test_the_answers_of_a_decoupled_step_go_on_one_by_one() -> None:
    source, double, join = Model(), Model(), Model()
    desk = Desk(
        step(source, {"a": "in"}, {"b": "s", "c": "t"}, decoupled=True),
        step(double, {"a": "s"}, {"b": "u"}),
        step(join, {"x": "t", "y": "u"}, {"d": "out"}),
    )
    desk.ask()
    for value in range(3):
        source.answer(False, b=ONE * value, c=ONE * value)
    # The second is done first: it meets what belongs to it all the same.
    double.calls.insert(0, double.calls.pop(1))
    for value in (1, 0, 2):
        double.answer(b=ONE * value)
    for call in join.calls:
        assert call.request.inputs["x"][0, 0] == call.request.inputs["y"][0, 0]
    join.answer(d=ONE)
    source.answer()
    assert [one.final for one in desk.answers["1"]] == [False]  # type: ignore[union-attr]
    join.answer(d=ONE)
    join.answer(d=ONE)
    finals = [one.final for one in desk.answers["1"]]  # type: ignore[union-attr]
    assert finals == [False, False, True]


def test_a_decoupled_step_may_answer_nothing() -> None:
    source, desk = Model(), None
    desk = Desk(step(source, {"a": "in"}, {"b": "out"}, decoupled=True))
    desk.ask()
    source.answer()
    assert desk.one() == {}


def test_what_a_step_leaves_out_is_left_out_downstream() -> None:
    first, second = Model(), Model()
    desk = Desk(
        step(first, {"a": "in", "o": "optional"}, {"b": "p", "c": "q"}),
        step(second, {"x": "p", "y": "q"}, {"d": "r"}),
        inputs=("in", "optional"),
        outputs=("q", "r"),
    )
    desk.ask()
    assert list(first.calls[0].request.inputs) == ["a"]
    first.answer(b=ONE)
    assert list(second.calls[0].request.inputs) == ["x"]
    second.answer(d=ONE)
    assert list(desk.one()) == ["r"]


def test_a_late_end_of_a_whole_answer() -> None:
    first, second, desk = chain()
    desk.ask()
    first.answer(False, b=ONE)
    first.answer()
    assert len(second.calls) == 1
    second.answer(d=ONE)
    assert desk.one()


@pytest.mark.parametrize(
    ("batches", "model_batches", "sent", "asked"),
    [
        (True, True, (2, 4), (2, 4)),
        (False, True, (4,), (1, 4)),
        (True, False, (1, 4), (4,)),
        (False, False, (4,), (4,)),
        (True, False, (2, 4), (2, 4)),
    ],
)
def test_the_batch_dimension(
    batches: bool, model_batches: bool, sent: tuple[int, ...], asked: tuple[int, ...]
) -> None:
    model = Model()
    dims = (2, 4) if asked == (2, 4) and not model_batches else (4,)
    desk = Desk(
        step(model, {"a": "in"}, {"b": "out"}, dims=dims, batches=model_batches), batches=batches
    )
    desk.ask(inputs={"in": np.zeros(sent, np.float32)})
    assert model.calls[0].request.inputs["a"].shape == asked
    model.answer(b=np.zeros(asked, np.float32))
    assert desk.one()["out"].shape == sent


def test_a_failure_ends_the_request_once_and_cancels_the_others() -> None:
    left, right = Model(), Model()
    desk = Desk(
        step(left, {"a": "in"}, {"b": "p"}),
        step(right, {"a": "in"}, {"b": "q"}),
        outputs=("p", "q"),
    )
    call = desk.ask()
    left.calls.pop().fail(InferenceError(Status.NOT_FOUND, "no such thing"))
    assert desk.error().status is Status.NOT_FOUND
    assert desk.error().message == "in ensemble 'e', no such thing"
    assert right.calls[0].cancelled
    right.answer(b=ONE)
    assert len(desk.answers["1"]) == 1
    assert call.ended


def test_a_step_that_refuses_and_a_step_that_drops() -> None:
    first, _, desk = chain()
    first.refusal = InferenceError(Status.INVALID_ARG, "not like this")
    desk.ask()
    assert desk.error().message == "in ensemble 'e', not like this"
    first.refusal = None
    desk.ask("2")
    first.calls.clear()
    gc.collect()
    assert "dropped" in desk.error("2").message


def test_a_client_that_leaves_cancels_the_open_steps() -> None:
    first, second, desk = chain()
    call = desk.ask()
    call.cancel()
    assert first.calls[0].cancelled
    assert desk.error().status is Status.CANCELLED
    first.answer(b=ONE)
    assert not second.calls
    assert len(desk.answers["1"]) == 1


def test_an_ensemble_refuses_when_it_closes_and_ends_what_it_has() -> None:
    first, second, desk = chain()
    desk.ask("old")
    desk.scheduler.close()
    desk.ask("new")
    assert desk.error("new").status is Status.UNAVAILABLE
    first.answer(b=ONE)
    second.answer(d=ONE)
    assert desk.one("old")


def test_the_time_of_an_ensemble_is_that_of_its_steps() -> None:
    first, second, desk = chain()
    call = desk.ask(inputs={"in": TWO})
    for model, out in ((first, "b"), (second, "d")):
        asked = model.calls[0]
        asked.input_ns, asked.infer_ns = 1, 2
        model.answer(**{out: TWO})
    assert (call.input_ns, call.infer_ns, call.execution_size) == (2, 4, 2)
    assert call.received_ns <= call.taken_ns <= call.ended_ns


def test_no_more_than_max_inflight_are_open_at_a_step() -> None:
    source, slow = Model(), Model()
    desk = Desk(
        step(source, {"a": "in"}, {"b": "s"}, decoupled=True),
        step(slow, {"a": "s"}, {"b": "out"}),
        max_inflight=2,
    )
    calls = [desk.ask(str(number)) for number in range(3)]
    assert len(source.calls) == 2  # the limit holds at each step, for all requests together
    for _ in range(3):
        source.answer(False, b=ONE)
    source.answer()
    assert len(source.calls) == 2
    assert len(slow.calls) == 2
    assert desk.scheduler.pending() == 1
    slow.answer(b=ONE)
    assert len(slow.calls) == 2
    calls[0].cancel()
    assert all(call.cancelled for call in slow.calls)
    slow.answer(b=ONE)
    slow.answer(b=ONE)
    assert desk.scheduler.pending() == 0
    source.answer(False, b=ONE)
    assert len(slow.calls) == 1  # the cancelled one left no place taken
    for model in (source, source, slow):
        model.answer(b=ONE)


def test_a_decoupled_step_waits_while_its_answers_do() -> None:
    source, slow = Model(), Model()
    feeding = step(source, {"a": "in"}, {"b": "s"}, decoupled=True)._replace(holds=True)
    desk = Desk(feeding, step(slow, {"a": "s"}, {"b": "out"}), max_inflight=1)
    told: list[bool] = []
    desk.ask()
    source.calls[0].hold = told.append
    source.answer(False, b=ONE)
    assert told == []
    source.answer(False, b=ONE)
    source.answer(False, b=ONE)
    assert told == [True]
    slow.answer(b=ONE)
    assert told == [True]
    slow.answer(b=ONE)
    assert told == [True, False]
    source.answer()
    slow.answer(b=ONE)
    assert [one.final for one in desk.answers["1"]] == [False, False, True]  # type: ignore[union-attr]


def test_a_long_line_at_a_gate_does_not_recurse() -> None:
    model = Model()
    desk = Desk(step(model, {"a": "in"}, {"b": "out"}), max_inflight=1)
    for number in range(5000):
        desk.ask(str(number))
    model.at_once = Response({"b": ONE})  # as a cache does
    model.answer(b=ONE)
    assert all(desk.one(str(number)) for number in range(5000))
