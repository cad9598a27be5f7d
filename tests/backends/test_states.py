"""Implicit state: what each request of a sequence finds, and what may be written about it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nerite.backends.base import Config, ModelSpec
from nerite.backends.states import StatefulBackend, states_of, with_states
from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError
from nerite.core.request import Request, Response

STATE: dict[str, Any] = {
    "input_name": "before",
    "output_name": "after",
    "data_type": "TYPE_INT32",
    "dims": [2],
}


def spec(folder: Path, *states: dict[str, Any], batch: int = 0) -> ModelSpec:
    config = {
        "max_batch_size": batch,
        "output": [{"name": "sum"}],
        "sequence_batching": {"state": list(states)},
    }
    return ModelSpec("m", 1, folder, "m_0", "cpu", 0, config)


class Adder:
    """sum = before + in, which is also the state; a request without `in` puts out no state."""

    def load(self, spec: ModelSpec) -> Config:
        return spec.config

    def execute(self, calls: list[Call]) -> None:
        self.calls = calls
        for call in calls:
            inputs = call.request.inputs
            outputs = {"sum": inputs["before"]}
            if "in" in inputs:
                total = inputs["before"] + inputs["in"]
                outputs = {"sum": total, "after": total}
            call.send(Response(outputs))

    def unload(self) -> None: ...


class Asked:
    def __init__(self, backend: StatefulBackend) -> None:
        self.backend = backend
        self.answers: list[Any] = []

    def __call__(self, *requests: Request) -> list[Any]:
        self.answers = []
        self.backend.execute([Call(request, self._deliver) for request in requests])
        return self.answers

    def _deliver(self, call: Call, answer: Answer) -> None:
        assert isinstance(answer, Response)
        self.answers.append({name: one.tolist() for name, one in answer.outputs.items()})


def ask(value: int | None, slot: int = 0, **more: Any) -> Request:
    inputs = {} if value is None else {"in": np.full(2, value, np.int32)}
    return Request("m", inputs, slot=slot, **more)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    backend = with_states(Adder(), spec(tmp_path, STATE).config)
    assert isinstance(backend, StatefulBackend)
    backend.load(spec(tmp_path, STATE))
    return Asked(backend)


def test_a_model_without_states_has_no_wrapper(tmp_path: Path) -> None:
    adder = Adder()
    assert with_states(adder, {"sequence_batching": {"state": []}}) is adder
    assert with_states(adder, {}) is adder


def test_a_sequence_finds_what_it_left(asked: Asked) -> None:
    assert asked(ask(1, sequence_start=True)) == [{"sum": [1, 1]}]
    assert asked(ask(10, slot=1, sequence_start=True), ask(2)) == [
        {"sum": [10, 10]},
        {"sum": [3, 3]},
    ]
    assert asked(ask(None)) == [{"sum": [3, 3]}]
    assert asked(ask(4, sequence_end=True)) == [{"sum": [7, 7]}]
    assert asked(ask(5, sequence_start=True)) == [{"sum": [5, 5]}]
    assert asked(ask(20, slot=1)) == [{"sum": [30, 30]}]


def test_a_client_gets_what_it_asked_for(asked: Asked) -> None:
    both = asked(ask(1, sequence_start=True, outputs=("sum", "after")))
    assert both == [{"sum": [1, 1], "after": [1, 1]}]
    assert asked(ask(1, outputs=("sum",))) == [{"sum": [2, 2]}]


def test_a_row_that_is_filled_up_has_a_state_of_the_same_shape(asked: Asked) -> None:
    asked(ask(1, sequence_start=True))
    assert asked(ask(0, slot=-1), ask(1)) == [{"sum": [0, 0]}, {"sum": [2, 2]}]
    assert asked(ask(1)) == [{"sum": [3, 3]}]


def test_a_model_may_change_what_it_was_given(asked: Asked) -> None:
    class Careless(Adder):
        def execute(self, calls: list[Call]) -> None:
            for call in calls:
                call.request.inputs["before"][:] += 1
                call.send(Response({"sum": call.request.inputs["before"]}))

    asked.backend._backend = Careless()
    assert asked(ask(1, sequence_start=True)) == [{"sum": [1, 1]}]
    assert asked(ask(1, sequence_start=True)) == [{"sum": [1, 1]}]


def initial(**fields: Any) -> dict[str, Any]:
    return {
        **STATE,
        "initial_state": [{"data_type": "TYPE_INT32", "name": "n", "dims": [2], **fields}],
    }


def test_initial_values(tmp_path: Path) -> None:
    folder = tmp_path / "initial_state"
    folder.mkdir()
    (folder / "data").write_bytes(np.array([3, 4, 5], np.int32).tobytes())
    (found,) = states_of(spec(tmp_path, initial(data_file="data"), batch=4))
    assert found.initial.tolist() == [[3, 4]]
    (found,) = states_of(spec(tmp_path, initial(zero_data=True)))
    assert found.initial.tolist() == [0, 0]
    text = {**STATE, "data_type": "TYPE_STRING", "dims": [-1]}
    (found,) = states_of(spec(tmp_path, text))
    assert found.initial.tolist() == [b""]
    (folder / "text").write_bytes(b"\2\0\0\0hi\1\0\0\0!")
    values = {"data_type": "TYPE_STRING", "name": "n", "dims": [2], "data_file": "text"}
    (found,) = states_of(spec(tmp_path, {**text, "initial_state": [values]}))
    assert found.initial.tolist() == [b"hi", b"!"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"data_type": "TYPE_FP32"}, "does not match the state data type"),
        (
            {"name": ""},
            "Field 'name' must be set when using initial_state for state input 'before'",
        ),
        ({"dims": [2, 2]}, "Number of dimensions in 'initial_state' doesn't match the size of"),
        ({"dims": [-1]}, "'initial_state' field for state input name 'before' contains variable"),
        ({"dims": [3]}, "doesn't match 'state' dim description. 3 != 2"),
        ({}, "initial_state setting expects state'before' to have state_data set"),
        (
            {"data_file": "short"},
            "expects 8 bytes, but the data provided from short only has 4 bytes",
        ),
        ({"data_file": "none"}, "No such file"),
        ({"data_file": "../secret"}, "is not in the folder"),
    ],
)
def test_initial_states_that_are_refused(
    tmp_path: Path, fields: dict[str, Any], expected: str
) -> None:
    (tmp_path / "initial_state").mkdir()
    (tmp_path / "initial_state" / "short").write_bytes(bytes(4))
    (tmp_path / "secret").write_bytes(bytes(8))
    with pytest.raises(InferenceError) as refused:
        states_of(spec(tmp_path, initial(**fields)))
    assert expected in refused.value.message


def test_states_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="specified more than once"):
        states_of(spec(tmp_path, STATE, STATE))
    twice = initial(zero_data=True)
    twice["initial_state"] *= 2
    with pytest.raises(InferenceError, match="exactly one or zero element. Found '2' elements"):
        states_of(spec(tmp_path, twice))
