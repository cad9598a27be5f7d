"""Variants for single shapes come in the background, and are used where they fit."""

import threading

import numpy as np
import pytest

from nerite.diffusion.runtimes.buckets import Buckets
from nerite.diffusion.space import NumpySpace


class Network:
    """Doubles what it is fed; notes the rows of each run, and which variants were made."""

    def __init__(self, **options):
        self.made, self.ran, self.threads = [], [], []
        self.buckets = Buckets(self.make, NumpySpace(), **({"most": 2} | options))

    def make(self, feeds):
        self.made.append(feeds["x"].shape)
        self.threads.append(threading.current_thread())

        def run(given):
            self.ran.append(given["x"].shape)
            return [given["x"] * 2]

        return run

    def ask(self, *shape, times=1):
        """The last of so many answers; each waits for the variant that it may have caused."""
        for _ in range(times):
            x = np.random.default_rng(0).normal(size=shape)
            outputs = self.buckets.run({"x": x, "t": np.zeros(shape[0])})
            if outputs is not None:
                assert outputs[0].tolist() == (x * 2).tolist()
            self.buckets.wait()
        return outputs


def test_a_shape_that_stays_gets_a_variant_in_another_thread():
    network = Network()
    assert network.ask(4, 3, times=3) is None
    assert network.made == []
    assert network.ask(4, 3) is None  # the fourth time: it is made now, and used from then on
    assert network.made == [(4, 3)]
    assert network.threads[0] is not threading.current_thread()
    assert network.ask(4, 3) is not None
    assert network.ran == [(4, 3)]


def test_a_few_rows_are_filled_up_and_many_are_not():
    network = Network()
    network.ask(8, 3, times=4)
    assert len(network.ask(7, 3)[0]) == 7
    assert network.ran == [(8, 3)]
    assert network.ask(6, 3) is None
    assert network.ask(7, 2) is None


def test_a_shape_that_is_filled_up_often_gets_its_own():
    network = Network()
    network.ask(8, 3, times=4)
    network.ask(7, 3, times=4)
    assert network.made == [(8, 3), (7, 3)]
    network.ask(7, 3)
    assert network.ran[-1] == (7, 3)


def test_inputs_without_common_rows_are_never_filled_up():
    network = Network()
    feeds = {"x": np.ones((8, 3)), "t": np.zeros(1)}
    for _ in range(5):
        network.buckets.run(feeds)
        network.buckets.wait()
    assert network.ran == [(8, 3)]
    assert network.buckets.run({"x": np.ones((7, 3)), "t": np.zeros(1)}) is None


def test_a_new_shape_takes_the_place_of_one_that_is_not_used_any_more():
    network = Network(most=1)
    network.ask(8, 3, times=5)
    network.ask(2, 3, times=20)
    assert network.made == [(8, 3)]  # which was used lately
    network.ask(2, 3, times=300)
    assert network.made == [(8, 3), (2, 3)]
    assert network.ask(8, 3) is None


def test_where_there_is_no_room_none_is_made():
    network = Network(most=0)
    assert network.ask(8, 3, times=10) is None
    assert network.made == []


def test_at_once_the_first_run_is_that_of_the_variant_and_rows_are_never_filled_up():
    network = Network(at_once=True)
    assert network.ask(8, 3) is not None
    assert network.ask(7, 3) is not None
    assert network.ran == network.made == [(8, 3), (7, 3)]
    assert network.threads[0] is threading.current_thread()


def test_at_once_a_third_shape_takes_the_oldest_ones_place():
    network = Network(at_once=True)
    for rows in (1, 2, 3, 1):
        assert network.ask(rows, 3) is not None
    assert network.made == [(1, 3), (2, 3), (3, 3), (1, 3)]


def test_what_cannot_be_made_is_said_once_and_the_network_goes_on(caplog):
    network = Network()

    def fail(feeds):
        raise MemoryError("no room")

    network.buckets = Buckets(fail, NumpySpace(), most=2)
    assert network.ask(8, 3, times=10) is None
    assert network.ask(7, 3, times=10) is None
    (record,) = caplog.records
    assert "no room" in record.getMessage()


def test_a_failure_among_the_shapes_of_the_last_start_is_the_end_of_them(caplog):
    calls = []

    def fail_first(feeds):
        calls.append(feeds["x"].shape)
        if len(calls) == 1:
            raise MemoryError("no room")
        return lambda given: [given["x"]]

    memory = Memory((2, 3), (4, 3))
    buckets = Buckets(fail_first, NumpySpace(), most=2, memory=memory)
    buckets.wait()
    assert buckets.run({"x": np.zeros((4, 3)), "t": np.zeros(4)}) is None
    assert len(caplog.records) == 1


class Memory:
    """Knows shapes of x, the latest first."""

    def __init__(self, *shapes):
        self.shapes = [*shapes]

    def known(self):
        return [{"x": np.zeros(shape), "t": np.zeros(shape[0])} for shape in self.shapes]

    def add(self, feeds):
        self.shapes.insert(0, feeds["x"].shape)


def test_the_next_start_begins_with_the_shapes_of_the_last():
    memory = Memory()
    first = Network(memory=memory)
    first.ask(8, 3, times=4)
    first.ask(2, 3, times=4)
    assert memory.shapes == [(2, 3), (8, 3)]
    second = Network(memory=Memory(*memory.shapes, (1, 3)))
    second.buckets.wait()
    assert second.made == [(2, 3), (8, 3)]  # as many as there may be, the latest
    assert second.ask(8, 3) is not None


@pytest.mark.parametrize("at_once", [True, False])
def test_the_network_serves_while_a_variant_is_made(at_once):
    begun, go_on = threading.Event(), threading.Event()

    def make(feeds):
        begun.set()
        assert go_on.wait(60)
        return lambda given: [given["x"]]

    buckets = Buckets(make, NumpySpace(), most=2, at_once=at_once)
    feeds = {"x": np.ones((2, 2))}
    if at_once:
        go_on.set()
        assert buckets.run(feeds) is not None
        return
    for _ in range(4):
        assert buckets.run(feeds) is None
    assert begun.wait(60)
    assert buckets.run(feeds) is None
    go_on.set()
    buckets.wait()
    assert buckets.run(feeds) is not None
