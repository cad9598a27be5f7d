"""What a row costs is told by two probes, and what is left by the system."""

import pytest

from nerite.diffusion import Limits, Memory, Params
from nerite.diffusion.memory import measure
from nerite.diffusion.space import NumpySpace, is_out_of_memory


class Machine:
    """Counts bytes: the weights, a forward's rows, and the decoder's picture."""

    limits = Limits(width=10, height=10, max_size=100)

    def __init__(self, size):
        self.size, self.used, self.most = size, 1000, 0

    def take(self, amount):
        if self.used + amount > self.size:
            raise RuntimeError("CUDA out of memory")
        self.most = max(self.most, self.used + amount)

    def probe(self, rows):
        self.take(50 + 200 * rows)

    def probe_decoder(self):
        self.take(700)

    def trim(self):
        pass

    def begin_peak(self):
        self.most = self.used

    def peak(self):
        return self.most

    def free_memory(self):
        return self.size - self.used


def test_rows_are_measured_and_the_decoder_is_left_its_share():
    machine = Machine(11_000)
    memory = measure(machine, machine)
    assert memory == Memory(per_pixel=2.0, budget=9000 - 700)
    small = Params("", width=10, height=10, num_images=3)
    assert memory.cost(small) == 2 * 10 * 10 * 3 * 2


def test_what_does_not_even_fit_once_fails_at_load():
    machine = Machine(1100)
    with pytest.raises(RuntimeError, match="out of memory"):
        measure(machine, machine)


def test_where_three_rows_do_not_fit_nothing_is_known_but_it_loads():
    machine = Machine(1500)
    assert measure(machine, machine).budget == 450


def test_this_machine_can_be_measured():
    space = NumpySpace()
    space.begin_peak()
    before, free = space.peak(), space.free_memory()
    if before is None or free is None:
        pytest.skip("no /proc here")
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert space.peak() - before > 50 << 20
    assert free > 0


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("Failed to allocate memory for requested buffer of size 9"), True),
        (ValueError("a shape does not fit"), False),
    ],
)
def test_errors_that_say_memory_ran_out(error, is_one):
    assert is_out_of_memory(error) is is_one
