"""Who steps together, and that no shape starves."""

from dataclasses import dataclass

from nerite.diffusion.plan import Plan


@dataclass(frozen=True)
class Piece:
    name: str
    key: tuple


def picks(plan, jobs, turns):
    return ["".join(job.name for job in plan.pick(jobs)) for _ in range(turns)]


def test_nothing_to_do_is_an_empty_pick():
    assert Plan().pick([]) == []


def test_equal_keys_step_together_and_keys_take_turns():
    jobs = [Piece("a", (1,)), Piece("b", (2,)), Piece("c", (1,)), Piece("d", (3,))]
    assert picks(Plan(), jobs, 6) == ["ac", "b", "d", "ac", "b", "d"]


def test_a_newcomers_key_is_next_and_then_waits_its_turn():
    plan, jobs = Plan(), [Piece("a", (1,)), Piece("b", (2,))]
    assert picks(plan, jobs, 3) == ["a", "b", "a"]
    jobs.append(Piece("c", (3,)))
    assert picks(plan, jobs, 4) == ["c", "b", "a", "c"]


def test_keys_that_are_gone_are_forgotten():
    plan = Plan()
    for size in range(100):
        plan.pick([Piece("a", (size,))])
    assert len(plan._served) == 1
