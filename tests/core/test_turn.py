"""What is to be done at the end of a turn of the loop is done, whatever else goes wrong in it."""

import asyncio
from typing import Any

from nerite.core.turn import Turn


async def test_one_that_fails_keeps_none_of_the_others_from_being_done() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    turn, done = Turn(), list[str]()

    def fail() -> None:
        raise RuntimeError("a bad day")

    turn.begin()
    for what in (lambda: done.append("first"), fail, lambda: done.append("last")):
        turn.add(what)
    turn.end()
    assert done == ["first", "last"]
    assert [str(one["exception"]) for one in told] == ["a bad day"]


async def test_a_turn_that_nobody_ends_ends_with_the_loops() -> None:
    turn, done = Turn(), list[int]()
    turn.add(lambda: done.append(1))
    turn.add(lambda: done.append(2))
    assert not done
    await asyncio.sleep(0)
    assert done == [1, 2]
    turn.add(lambda: done.append(3))
    await asyncio.sleep(0)
    assert done == [1, 2, 3]


async def test_what_is_added_at_the_end_is_done_in_it() -> None:
    turn, done = Turn(), list[int]()
    turn.begin()
    turn.add(lambda: turn.add(lambda: done.append(1)))
    turn.end()
    assert done == [1]
    turn.add(lambda: done.append(2))
    await asyncio.sleep(0)
    assert done == [1, 2]
