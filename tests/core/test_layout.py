"""Tensors in bytes: where they lie, and what is made of them."""

from pathlib import Path

import numpy as np
import pytest

from nerite.core.errors import InferenceError
from nerite.core.files import Filed, Span
from nerite.core.layout import Layout, Packed, aligned, tight

PLAIN = [("flag", "BOOL", (3,), 3), ("number", "FP64", (2,), 16), ("none", "INT32", (0, 4), 0)]


def test_a_tight_layout_has_no_gaps() -> None:
    layout = tight(PLAIN)
    assert [cut.start for cut in layout.cuts.values()] == [0, 3, 19]
    assert (layout.size, layout.tight, layout.aligned) == (19, True, False)


def test_an_aligned_layout_starts_tensors_where_their_items_may_lie() -> None:
    layout = aligned(PLAIN)
    assert [cut.start for cut in layout.cuts.values()] == [0, 8, 24]
    assert (layout.size, layout.tight, layout.aligned) == (24, False, True)
    large = aligned([("first", "UINT8", (5,), 5), ("second", "UINT8", (8192,), 8192)])
    assert large.cuts["second"].start == 64


def test_spread_puts_the_gaps_between() -> None:
    data = [b"\1\0\1", np.array([1.5, 2.5]).tobytes(), b""]
    layout = aligned(PLAIN)
    packed = Packed(layout, b"".join(layout.spread(data)))
    assert packed["flag"].tolist() == [True, False, True]
    assert packed["number"].tolist() == [1.5, 2.5]
    assert packed["none"].shape == (0, 4)
    assert tight(PLAIN).spread(data) == data


def test_a_layout_travels_as_what_it_places() -> None:
    layout = aligned(PLAIN)
    again = Layout(layout.placed)
    assert again.placed == layout.placed
    assert again != layout  # compared by identity


def test_packed_is_a_mapping_whose_arrays_are_views_made_once() -> None:
    data = bytearray(np.arange(4, dtype=np.int32).tobytes() + b"\2\0\0\0ab\0\0\0\0")
    packed = Packed(tight([("numbers", "INT32", (2, 2), 16), ("texts", "BYTES", (2,), 10)]), data)
    assert list(packed) == ["numbers", "texts"]
    assert len(packed) == 2
    assert packed["numbers"] is packed["numbers"]
    data[0] = 7
    assert packed["numbers"].tolist() == [[7, 1], [2, 3]]
    assert packed["texts"].tolist() == [b"ab", b""]
    assert "other" not in packed
    with pytest.raises(KeyError):
        packed["other"]


def test_what_is_in_files_is_read_when_it_is_wanted_and_not_to_know_of_it(tmp_path: Path) -> None:
    path = tmp_path / "region"
    path.write_bytes(b"")
    with path.open("rb") as file:
        packed = Packed(tight(PLAIN), Filed([Span(_File(file.fileno()), 0, 3)]))
        assert "flag" in packed and "other" not in packed
        assert list(packed) == ["flag", "number", "none"]
        with pytest.raises(InferenceError, match="shorter than registered"):
            packed["flag"]


class _File:
    name = "io"

    def __init__(self, fd: int) -> None:
        self.fd = fd
