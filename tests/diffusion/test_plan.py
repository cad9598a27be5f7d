"""Who steps together, who is next, and that no shape starves."""

from dataclasses import dataclass

from nerite.diffusion.plan import Plan


@dataclass
class Piece:
    name: str
    key: tuple
    rows: int = 1
    index: int = 0
    steps: int = 10
    deadline: float | None = None


def picks(plan, works, turns, seconds=lambda key: 1.0):
    """The names of each turn's works; a forward of a key takes so many seconds."""
    names, now = [], 0.0
    for _ in range(turns):
        chosen = plan.pick(works, now)
        took = seconds(chosen[0].key)
        plan.charge(chosen, took)
        now += took
        for work in chosen:
            work.index += 1
        names.append("".join(work.name for work in chosen))
    return names


def test_nothing_to_do_is_an_empty_pick():
    assert Plan().pick([]) == []


def test_equal_keys_step_together_and_keys_take_turns():
    works = [Piece("a", (1,)), Piece("b", (2,)), Piece("d", (3,))]
    assert picks(Plan(), works, 6) == ["a", "b", "d", "a", "b", "d"]
    assert picks(Plan(), [Piece("a", (1,)), Piece("b", (2,)), Piece("c", (1,))], 1) == ["ac"]


def test_a_key_with_more_images_has_more_of_the_time():
    names = picks(Plan(), [Piece("a", (1,), rows=3), Piece("b", (2,))], 40)
    assert names.count("a") == 30


def test_a_key_whose_steps_take_longer_has_fewer_of_them():
    works = [Piece("large", (3,)), Piece("small", (1,))]
    assert picks(Plan(), works, 40, lambda key: key[0]).count("small") == 30


def test_a_newcomer_neither_waits_for_ever_nor_catches_up():
    plan, works = Plan(), [Piece("a", (1,), steps=1000), Piece("b", (2,), steps=1000)]
    picks(plan, works, 100)
    works.append(Piece("c", (3,)))
    assert picks(plan, works, 6) == ["c", "a", "b", "c", "a", "b"]


def test_a_work_that_would_be_late_goes_first():
    works = [Piece("a", (1,)), Piece("b", (2,), steps=4, deadline=7.0)]
    assert picks(Plan(), works, 6) == ["a", "b", "a", "b", "b", "b"]  # turns would end at 8


def test_a_work_that_is_late_in_any_case_does_not_make_others_late():
    works = [Piece("a", (1,)), Piece("b", (2,), steps=9, deadline=3.0)]
    assert picks(Plan(), works, 6) == ["a", "b", "a", "b", "a", "b"]


def test_keys_that_are_gone_are_forgotten():
    plan = Plan()
    for size in range(100):
        picks(plan, [Piece("a", (size,))], 1)
    assert len(plan._served) == len(plan._had) == len(plan._seconds) == 1
