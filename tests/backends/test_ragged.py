"""Ragged batches: what a model gets of several requests, and what each gets back."""

from typing import Any

import numpy as np
import pytest

from nerite.backends.ragged import Ragged
from nerite.core.errors import InferenceError
from nerite.core.request import Request

INPUT = {"name": "in", "data_type": "TYPE_FP32", "dims": [-1], "allow_ragged_batch": True}


def requests(*shapes: tuple[int, ...]) -> list[Request]:
    return [Request("m", {"in": np.full(shape, sum(shape), np.float32)}) for shape in shapes]


def made(kind: str, *shapes: tuple[int, ...], data_type: str = "TYPE_INT32") -> np.ndarray:
    entry = {"kind": kind, "data_type": data_type, "target_name": ["x"], "source_input": ["in"]}
    ragged = Ragged.of({"input": [INPUT], "batch_input": [entry]})
    assert ragged is not None
    return ragged.join(requests(*shapes))["x"]


@pytest.mark.parametrize(
    ("kind", "shapes", "expected"),
    [
        ("BATCH_ELEMENT_COUNT", [(1, 2), (2, 4), (1, 1)], [2, 8, 1]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT", [(1, 2), (1, 4), (1, 1)], [2, 6, 7]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", [(1, 2), (1, 4)], [0, 2, 6]),
        ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", [(1, 2), (1, 4), (1, 1)], [0, 0, 0, 0]),
        ("BATCH_ITEM_SHAPE", [(2, 1, 2), (1, 3, 4)], [[1, 2], [1, 2], [3, 4]]),
        ("BATCH_ITEM_SHAPE_FLATTEN", [(2, 1, 2), (1, 3, 4)], [1, 2, 1, 2, 3, 4]),
        ("BATCH_ELEMENT_COUNT", [(1, 3)], [3]),
    ],
)
def test_what_is_made_of_a_batch(kind: str, shapes: Any, expected: list[Any]) -> None:
    for data_type, dtype in (("TYPE_INT32", np.int32), ("TYPE_FP32", np.float32)):
        found = made(kind, *shapes, data_type=data_type)
        assert found.dtype == dtype
        assert found.tolist() == expected


def test_ragged_inputs_lie_one_behind_the_other() -> None:
    ragged = Ragged.of({"input": [INPUT, {"name": "whole", "dims": [2]}]})
    assert ragged is not None
    asked = [
        Request("m", {"in": np.ones((1, 2)), "whole": np.zeros((1, 2))}),
        Request("m", {"in": np.full((2, 1), 2.0), "whole": np.zeros((2, 2))}),
    ]
    joined = ragged.join(asked)
    assert joined["in"].tolist() == [1, 1, 2, 2]
    assert joined["whole"].shape == (3, 2)
    parts = ragged.share({"out": np.arange(3)}, asked)
    assert [part["out"].tolist() for part in parts] == [[0], [1, 2]]
    assert ragged.join(asked[:1])["in"].tolist() == [1, 1]


def test_an_output_is_scattered_by_the_shapes_of_an_input() -> None:
    scatter = {"target_name": ["out"], "source_input": ["in"]}
    config = {"input": [INPUT], "output": [{"name": "out", "dims": [-1, 2]}]}
    ragged = Ragged.of({**config, "batch_output": [scatter]})
    assert ragged is not None
    asked = requests((1, 2), (2, 1))
    parts = ragged.share({"out": np.arange(8)}, asked)
    assert parts[0]["out"].tolist() == [[[0, 1], [2, 3]]]
    assert parts[1]["out"].tolist() == [[[4, 5]], [[6, 7]]]
    with pytest.raises(InferenceError, match="'out' has 7 elements where the shapes of input 'in'"):
        ragged.share({"out": np.arange(7)}, asked)


def test_other_models_have_nothing_of_it() -> None:
    assert Ragged.of({"input": [{"name": "in", "dims": [2]}], "output": []}) is None
