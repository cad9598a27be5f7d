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
CONFIGS = {"identity": IDENTITY, "repeat": REPEAT, "square": SQUARE, "query": QUERY}


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
