"""Deadline: when a worker is late, and when it is not its fault."""

import asyncio

from nerite.instances.deadline import EXECUTION, Deadline


def deadline() -> tuple[Deadline, asyncio.Event]:
    late = asyncio.Event()
    return Deadline(0.02, lambda seconds: late.set()), late


async def test_what_is_owed_too_long() -> None:
    one, late = deadline()
    one.expect()
    await asyncio.wait_for(late.wait(), 30)


async def test_what_has_ended_is_not_owed() -> None:
    one, late = deadline()
    one.expect()
    one.begin(7)
    one.end(EXECUTION)
    one.end(7)
    one.alive(7)
    await asyncio.sleep(0.2)
    assert not late.is_set()


async def test_the_oldest_counts() -> None:
    one, late = deadline()
    one.begin(7)
    while not late.is_set():
        one.begin(8)
        one.alive(8)
        await asyncio.sleep(0.001)


async def test_nobody_is_late_whose_answers_have_no_room() -> None:
    one, late = deadline()
    for number, begin in ((7, lambda: one.begin(7)), (8, one.expect)):
        begin()
        one.hold(number, True)
        one.begin(number)
        one.alive(number)
        await asyncio.sleep(0.2)
        assert not late.is_set()
        one.hold(number, False)
        await asyncio.wait_for(late.wait(), 30)
        late.clear()
        one.clear()
