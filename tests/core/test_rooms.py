"""Memory for bodies: used again, and never while somebody still looks at it."""

import numpy as np

from nerite.core.rooms import Rooms

SIZE = 3 << 20


def address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def test_memory_is_used_again_when_its_last_view_is_gone() -> None:
    rooms = Rooms()
    view = rooms.take(SIZE)
    assert len(view) == SIZE
    first = address(view)
    tensor = np.frombuffer(view[4:], np.float32).reshape(-1, 1)
    del view
    other = rooms.take(SIZE)
    assert address(other) != first
    tensor[:] = 7
    del tensor
    again = rooms.take(SIZE - 5)
    assert (address(again), len(again)) == (first, SIZE - 5)


def test_what_is_kept_is_bounded() -> None:
    rooms = Rooms()
    views = [rooms.take(16 << 20) for _ in range(8)]
    del views
    assert sum(len(free) for free in rooms._free.values()) == 4


def test_little_memory_is_simply_taken() -> None:
    assert len(Rooms().take(0)) == 0
    assert len(Rooms().take(1000)) == 1000
