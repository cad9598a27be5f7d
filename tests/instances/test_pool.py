"""The instances of one model: which of them has room, and for how much."""

from types import SimpleNamespace
from typing import Any

import pytest

from nerite.core.turn import Turn
from nerite.instances.base import Pool


def instance(in_flight: int, capacity: int) -> Any:
    return SimpleNamespace(in_flight=in_flight, capacity=capacity, ready=True)


@pytest.mark.parametrize(
    ("in_flight", "capacity", "hungry"),
    [(0, 1, False), (1, 1, False), (0, 2, True), (1, 2, False), (1, 3, True), (2, 64, False)],
)
def test_who_has_one_execution_at_most_and_takes_two_more_is_hungry(
    in_flight: int, capacity: int, hungry: bool
) -> None:
    busy = instance(5, 64)
    assert Pool(Turn(), [busy, instance(in_flight, capacity)]).hungry is hungry


def test_the_one_with_the_least_to_do_is_taken() -> None:
    full, busy, idle = instance(1, 1), instance(2, 4), instance(1, 4)
    pool = Pool(Turn(), [full, busy, idle])
    assert pool.take() is idle
    assert pool.take(1) is None
    idle.ready = False
    assert pool.take() is busy
