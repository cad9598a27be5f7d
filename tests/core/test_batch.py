"""Requests stacked and outputs split."""

import numpy as np
import pytest

from nerite.core.batch import sizes, split, stack
from nerite.core.errors import InferenceError
from nerite.core.request import Request


def request(rows: int, value: float) -> Request:
    texts = np.full((rows, 1), b"x", dtype=object)
    return Request("m", {"a": np.full((rows, 2), value), "b": texts})


def test_there_and_back() -> None:
    requests = [request(1, 1.0), request(3, 2.0)]
    stacked = stack(requests)
    assert stacked["a"].shape == (4, 2)
    assert stacked["b"].shape == (4, 1)
    first, second = split({"out": stacked["a"]}, sizes(requests))
    np.testing.assert_array_equal(first["out"], requests[0].inputs["a"])
    np.testing.assert_array_equal(second["out"], requests[1].inputs["a"])
    assert np.shares_memory(first["out"], stacked["a"])


def test_one_request_is_not_copied() -> None:
    one = request(2, 1.0)
    assert stack([one])["a"] is one.inputs["a"]


@pytest.mark.parametrize("output", [np.zeros((3, 2)), np.float32(1).reshape(())])
def test_rows_that_do_not_add_up(output: np.ndarray) -> None:
    with pytest.raises(InferenceError, match="output 'out' has . batch items where 4 went"):
        split({"out": output}, [1, 3])
