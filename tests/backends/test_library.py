"""The backends in Python that come with nerite, each served as Triton's configs name them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nerite

IDENTITY = """
    name: "identity" backend: "identity" max_batch_size: 8 instance_group { count: 2 }
    input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] },
            { name: "INPUT1" data_type: TYPE_STRING dims: [ 2 ] optional: true } ]
    output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] },
             { name: "OUTPUT1" data_type: TYPE_STRING dims: [ 2 ] } ]
    parameters { key: "execute_delay_ms" value { string_value: "1" } }
"""
REPEAT = """
    name: "repeat" backend: "repeat" model_transaction_policy { decoupled: true }
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] },
            { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] },
            { name: "WAIT" data_type: TYPE_UINT32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },
             { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] } ]
"""
SQUARE = """
    name: "square" backend: "square" model_transaction_policy { decoupled: true }
    input { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }
    parameters { key: "CUSTOM_EMPTY_COUNT" value { string_value: "1" } }
"""
QUERY = """
    name: "query" backend: "query"
    input { name: "INPUT" data_type: TYPE_UINT8 dims: [ 1 ] }
    output [ { name: "OUTPUT0" data_type: TYPE_UINT8 dims: [ -1 ] },
             { name: "OUTPUT1" data_type: TYPE_UINT8 dims: [ -1 ] } ]
"""
SEQUENCE = """
    name: "sequence" backend: "sequence" max_batch_size: 4
    sequence_batching { direct { } control_input [
        { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } },
        { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } } ] }
    input { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }
    instance_group { kind: KIND_CPU }
"""
DYNA_SEQUENCE = """
    name: "dyna_sequence" backend: "dyna_sequence" max_batch_size: 4
    sequence_batching { oldest { max_candidate_sequences: 4 } control_input [
        { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } },
        { name: "END" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } },
        { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } },
        { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } } ] }
    input { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }
    instance_group { kind: KIND_CPU }
"""
ITERATIVE_SEQUENCE = """
    name: "iterative_sequence" backend: "iterative_sequence"
    model_transaction_policy { decoupled: true }
    sequence_batching { iterative_sequence: true }
    input { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }
    instance_group { kind: KIND_CPU }
"""
IMPLICIT_STATE = """
    name: "implicit_state" backend: "implicit_state"
    sequence_batching {
        control_input { name: "START"
            control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
        state { input_name: "INPUT_STATE" output_name: "OUTPUT_STATE"
                data_type: TYPE_INT32 dims: 1 } }
    input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] },
            { name: "TEST_CASE" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }
    instance_group { kind: KIND_CPU }
"""
CONFIGS = {
    "sequence": SEQUENCE,
    "dyna_sequence": DYNA_SEQUENCE,
    "iterative_sequence": ITERATIVE_SEQUENCE,
    "implicit_state": IMPLICIT_STATE,
    "identity": IDENTITY,
    "repeat": REPEAT,
    "square": SQUARE,
    "query": QUERY,
}


def write(folder: Path, name: str, config: str) -> None:
    (folder / name / "1").mkdir(parents=True)
    (folder / name / "config.pbtxt").write_text(config)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[nerite.SyncServer]:
    folder = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        write(folder, name, config)
    with nerite.SyncServer(folder) as server:
        yield server


def test_identity(server: nerite.SyncServer) -> None:
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    answer = server.infer(nerite.Request("identity", {"INPUT0": numbers})).one()
    np.testing.assert_array_equal(answer.outputs["OUTPUT0"], numbers)
    assert answer.outputs["OUTPUT1"].tolist() == [[b"", b""]] * 2  # left out, so zero
    assert answer.parameters["param1"] == 42
    texts = np.array([[b"a", b"b"]] * 2, dtype=object)
    both = nerite.Request("identity", {"INPUT0": numbers, "INPUT1": texts}, outputs=("OUTPUT1",))
    assert server.infer(both).one().outputs["OUTPUT1"].tolist() == texts.tolist()


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (
            'name: "OUTPUT0" data_type: TYPE_FP32',
            'name: "OUTPUT0" data_type: TYPE_FP16',
            "datatype",
        ),
        ('name: "INPUT0"', 'name: "IN0"', "expected input name to follow INPUT<index> pattern"),
        ('name: "OUTPUT0"', 'name: "OUTPUT7"', "expected input and output indices to match"),
    ],
)
def test_identity_refuses_what_does_not_pair(
    tmp_path: Path, before: str, after: str, text: str
) -> None:
    write(tmp_path, "identity", IDENTITY.replace(before, after))
    with nerite.SyncServer(tmp_path) as server:
        (state,) = server.index()
    assert text in state.reason


def test_repeat(server: nerite.SyncServer) -> None:
    inputs = {
        "IN": np.array([4, 2], np.int32),
        "DELAY": np.array([0, 5], np.uint32),
        "WAIT": np.array([0], np.uint32),
    }
    answers = list(server.infer(nerite.Request("repeat", inputs)))
    found = [tuple(int(one.outputs[name][0]) for name in ("OUT", "IDX")) for one in answers[:-1]]
    assert found == [(4, 0), (2, 1)]
    assert not answers[-1].outputs
    unequal = {**inputs, "DELAY": inputs["DELAY"][:1]}
    with pytest.raises(nerite.InferenceError, match=r"got \[2\] and \[1\]"):
        list(server.infer(nerite.Request("repeat", unequal)))


def test_square(server: nerite.SyncServer) -> None:
    three = nerite.Request("square", {"IN": np.array([3], np.int32)})
    answers = list(server.infer(three))
    assert [one.outputs["OUT"].tolist() for one in answers[:-1]] == [[3], [3]]  # one left empty


def test_query(server: nerite.SyncServer) -> None:
    answer = server.infer(nerite.Request("query", {"INPUT": np.zeros(1, np.uint8)})).one()
    assert {name: one.shape for name, one in answer.outputs.items()} == {
        "OUTPUT0": (2,),
        "OUTPUT1": (2,),
    }


def steps(
    server: nerite.SyncServer, model: str, number: int, *values: int, **more: int
) -> list[int]:
    """The OUTPUT of each step of one sequence."""
    found = []
    shape = (1, 1) if "sequence" in model else (1,)
    for index, value in enumerate(values):
        inputs = {"INPUT": np.full(shape, value, np.int32)}
        inputs |= {name: np.full(shape, one, np.int32) for name, one in more.items()}
        request = nerite.Request(
            model,
            inputs,
            sequence_id=number,
            sequence_start=index == 0,
            sequence_end=index == len(values) - 1,
        )
        found.append(int(server.infer(request).one().outputs["OUTPUT"].flat[0]))
    return found


def test_sums_of_sequences(server: nerite.SyncServer) -> None:
    assert steps(server, "sequence", 7, 1, 2, 3) == [1, 3, 6]
    assert steps(server, "sequence", 7, 5, 5) == [5, 10]
    assert steps(server, "dyna_sequence", 40, 1, 2, 3) == [1, 3, 46]  # and the id at the end


def test_implicit_state(server: nerite.SyncServer) -> None:
    assert steps(server, "implicit_state", 3, 1, 2, 3, TEST_CASE=1) == [1, 2, 3]
    assert steps(server, "implicit_state", 3, 1, 2, 3, TEST_CASE=2) == [1, 3, 6]


def test_iterative_sequence(server: nerite.SyncServer) -> None:
    request = nerite.Request("iterative_sequence", {"INPUT": np.array([2], np.int32)})
    answers = [one for one in server.infer(request) if one.outputs]
    assert [one.outputs["OUTPUT"].tolist() for one in answers] == [[1], [0]]
