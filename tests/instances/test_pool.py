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
    only = instance(in_flight, capacity)
    assert Pool(Turn(), [only]).hungry is hungry
    assert not Pool(Turn(), [only, instance(0, 64)]).hungry


def test_one_that_is_alone_is_handed_more_than_it_can_do_now() -> None:
    only = instance(2, 4)
    pool = Pool(Turn(), [only])
    assert pool.take() is only
    assert pool.take(2) is None
    only.in_flight = 4
    assert pool.take() is None


def test_of_several_those_are_taken_that_have_nothing_to_do() -> None:
    busy, idle, away = instance(1, 64), instance(0, 64), instance(0, 64)
    away.ready = False
    pool = Pool(Turn(), [busy, away, idle])
    assert pool.take() is idle
    assert pool.take(4) is idle
    idle.in_flight = 1
    assert pool.take() is None
