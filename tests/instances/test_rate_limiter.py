"""Who may execute when, with instances that finish when the test says."""

from collections.abc import Callable, Mapping

import pytest

from nerite.backends.base import Config
from nerite.core.call import Call
from nerite.core.errors import InferenceError
from nerite.core.turn import Turn
from nerite.instances.rate_limiter import GLOBAL, LimitedPool, Need, RateLimiter


class Instance:
    """Takes one execution and holds it."""

    def __init__(self) -> None:
        self.ready = True
        self.broken: InferenceError | None = None
        self.in_flight = 0
        self.capacity = 64
        self.memory_bytes = 0
        self.done: Callable[[], None] = lambda: None

    async def start(self, changed: Callable[[], None]) -> Config:
        return {}

    async def close(self) -> None:
        self.ready = False

    def execute(self, calls: list[Call], done: Callable[[], None]) -> None:
        self.done = done


class Desk:
    """A model that has `waiting` executions to do, and takes an instance when it may."""

    def __init__(self, limiter: RateLimiter, name: str, *needs: Need) -> None:
        self.instances = [Instance() for _ in needs]
        self.pool = limiter.pool(Turn(), self.instances, needs)
        self.pool.changed = self.dispatch
        self.name = name
        self.waiting = 0
        self.executed = [0] * len(needs)

    def ask(self, count: int = 1) -> None:
        self.waiting += count
        self.dispatch()

    def dispatch(self) -> None:
        while self.waiting:
            taken = self.pool.take()
            if taken is None:
                return
            self.waiting -= 1
            taken.execute([], self.dispatch)
            member = next(one for one in self.pool.members if one is taken)
            self.executed[self.instances.index(member.instance)] += 1

    @property
    def running(self) -> int:
        return sum(member.running for member in self.pool.members)


def need(priority: int = 1, device: int = 0, **resources: int) -> Need:
    return Need({(device, name): count for name, count in resources.items()}, priority)


def test_as_many_as_the_resources_last_for() -> None:
    limiter = RateLimiter([("r", 5, -1)])
    a, b, c = (Desk(limiter, name, need(r=2)) for name in "abc")
    for desk in (a, b, c):
        desk.ask(2)
    assert [desk.running for desk in (a, b, c)] == [1, 1, 0]
    a.instances[0].done()
    assert [desk.running for desk in (a, b, c)] == [0, 1, 1]
    assert (a.waiting, c.waiting) == (1, 1)


def test_without_limits_there_is_what_the_most_demanding_needs() -> None:
    limiter = RateLimiter()
    large, small, other = (Desk(limiter, "", one) for one in (need(r=4), need(r=2), need(x=1)))
    for desk in (small, large, other):
        desk.ask()
    assert [desk.running for desk in (large, small, other)] == [0, 1, 1]
    small.instances[0].done()
    assert large.running == 1


def test_one_execution_per_instance_and_the_least_used_first() -> None:
    limiter = RateLimiter([("r", 9, -1)])
    desk = Desk(limiter, "", need(r=1), need(r=1, priority=3))
    desk.ask(40)
    assert desk.running == 2
    limited = RateLimiter([("r", 1, -1)])
    desk = Desk(limited, "", need(r=1), need(r=1, priority=3))
    desk.ask(40)
    for _ in range(39):
        next(one for one in desk.pool.members if one.running).instance.done()
    assert desk.waiting == 0
    assert desk.executed == [30, 10]


def test_priorities_among_models() -> None:
    limiter = RateLimiter([("r", 1, -1)])
    often, seldom = Desk(limiter, "", need(r=1)), Desk(limiter, "", need(r=1, priority=2))
    often.ask(40)
    seldom.ask(40)
    for _ in range(30):
        desk = often if often.running else seldom
        desk.instances[0].done()
    assert sum(often.executed) == pytest.approx(2 * sum(seldom.executed), abs=2)


def test_half_the_priority_has_never_more_than_half_the_turns() -> None:
    limiter = RateLimiter([("r", 1, -1)])
    often, seldom = Desk(limiter, "", need(r=1)), Desk(limiter, "", need(r=1, priority=2))
    often.ask(40)
    seldom.ask(40)
    for _ in range(30):
        assert often.executed[0] >= 2 * seldom.executed[0]
        desk = often if often.running else seldom
        desk.instances[0].done()


def test_the_higher_priority_goes_first_where_the_turns_are_equal() -> None:
    limiter = RateLimiter([("r", 1, -1)])
    busy, low, high = (Desk(limiter, "", need(r=1, priority=one)) for one in (1, 2, 1))
    busy.ask()
    low.ask()
    high.ask()
    busy.instances[0].done()
    assert [desk.running for desk in (low, high)] == [0, 1]


def test_nobody_passes_the_first_in_line() -> None:
    limiter = RateLimiter([("r", 2, -1)])
    small, large, late = (
        Desk(limiter, "", one) for one in (need(r=1), need(r=2), need(r=1, priority=5))
    )
    late.ask()
    late.instances[0].done()
    small.ask()
    large.ask()
    late.ask()
    assert [desk.running for desk in (small, large, late)] == [1, 0, 0]
    small.instances[0].done()
    assert [desk.running for desk in (small, large, late)] == [0, 1, 0]


def test_who_no_longer_waits_holds_nobody_up() -> None:
    limiter = RateLimiter([("r", 1, -1)])
    first, gone, last = (Desk(limiter, "", need(r=1, priority=one)) for one in (1, 1, 9))
    last.ask()
    last.instances[0].done()
    first.ask()
    gone.ask()
    gone.waiting = 0  # its request was cancelled
    last.ask()
    first.instances[0].done()
    assert last.running == 1


def test_devices_have_their_own() -> None:
    limiter = RateLimiter([("r", 1, 0), ("r", 1, 1)])
    a, b, c = (Desk(limiter, "", need(r=1, device=device)) for device in (0, 1, 0))
    for desk in (a, b, c):
        desk.ask()
    assert [desk.running for desk in (a, b, c)] == [1, 1, 0]
    both = RateLimiter([("g", 1, -1)])
    a, b = (Desk(both, "", need(device=GLOBAL, g=1)) for _ in range(2))
    for desk in (a, b):
        desk.ask()
    assert [desk.running for desk in (a, b)] == [1, 0]


async def test_a_model_that_leaves_gives_back_what_it_held() -> None:
    limiter = RateLimiter([("r", 1, -1)])
    leaving, next_one = Desk(limiter, "", need(r=1)), Desk(limiter, "", need(r=1))
    leaving.ask(2)
    next_one.ask()
    await leaving.pool.close()
    assert next_one.running == 1
    leaving.instances[0].done()
    assert next_one.running == 1


def test_a_pool_for_each_instance() -> None:
    limiter = RateLimiter([("r", 1, -1)])
    desk = Desk(limiter, "", need(r=1), need(r=1))
    woken: list[int] = []
    desk.pool.changed = lambda: woken.append(1)
    one, other = desk.pool.each()
    taken = one.take()
    assert taken is not None
    taken.execute([], lambda: None)
    assert other.take() is None
    desk.instances[0].done()
    assert woken
    assert other.take() is not None


@pytest.mark.parametrize(
    ("given", "needs", "expected"),
    [
        (
            [("r", 3, -1)],
            [{(0, "r"): 2}, {(0, "r"): 4}],
            'Resource count for "r" is limited to 3 which will prevent scheduling of one or more '
            "model instances, the minimum required count is 4",
        ),
        ([("r", 9, 10)], [{(0, "r"): 4}], "limited to 0 which will"),
        ([("r", 9, 1)], [{(1, "r"): 4}], None),
        ([("r", 1, 3), ("r", 4, 5)], [{(GLOBAL, "r"): 4}], None),
        (
            [],
            [{(GLOBAL, "r"): 1}, {(0, "r"): 1}],
            'Resource "r" is present as both global and device-specific resource',
        ),
    ],
)
def test_what_could_never_execute_is_refused(
    given: list[tuple[str, int, int]],
    needs: list[Mapping[tuple[int, str], int]],
    expected: str | None,
) -> None:
    limiter = RateLimiter(given)

    def add() -> list[LimitedPool]:
        return [limiter.pool(Turn(), [Instance()], [Need(one)]) for one in needs]

    if expected is None:
        add()
        return
    with pytest.raises(InferenceError) as caught:
        add()
    assert expected in caught.value.message
    limiter.pool(Turn(), [Instance()], [need(other=0)])  # what was refused is forgotten
