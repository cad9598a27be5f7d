"""The store of pictures that are answered as URLs."""

import re
from pathlib import Path

import pytest

from nerite.frontends.images.errors import ApiError
from nerite.frontends.images.store import Store


@pytest.mark.parametrize("place", ["", "folder", "memory://pictures"])
def test_what_is_put_can_be_fetched(place: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "new" / place) if place == "folder" else place)
    one, other = store.put(b"one", "png"), store.put(b"one", "webp")
    assert one != other
    assert re.fullmatch(r"[0-9a-f]{8}-[\w-]{43}\.png", one)
    found = store.get(one)
    assert found is not None
    assert found[:2] == (b"one", "image/png")
    assert 0 < found[2] <= 3601
    assert store.get(other) is not None
    again = Store(str(tmp_path / "new" / place) if place == "folder" else place)
    assert (again.get(one) is not None) is bool(place)  # as after a restart


def test_a_lifetime_that_is_over(tmp_path: Path) -> None:
    store = Store(str(tmp_path), lifetime=-10)
    name = store.put(b"picture", "png")
    assert store.get(name) is None
    store.put(b"next", "png")
    assert not (tmp_path / name).exists()


def test_the_oldest_make_room(tmp_path: Path) -> None:
    store = Store(str(tmp_path), size=100)
    names = [store.put(bytes(40), "png") for _ in range(4)]
    assert [store.get(name) is not None for name in names].count(True) == 2
    assert store.get(names[-1]) is not None
    with pytest.raises(ApiError, match="--image-store-size is 100"):
        store.put(bytes(101), "png")
    assert store.get(names[-1]) is not None  # nothing was removed for it


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    store = Store(str(tmp_path), size=10)
    store.put(bytes(9), "png")
    store.put(bytes(9), "png")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert store.get("notes.txt") is None
    assert store.get(f"../{tmp_path.name}/notes.txt") is None


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, says in ((str(tmp_path / "file"), "cannot be used"), ("nope://x", "--image-store")):
        with pytest.raises(ValueError, match=says):
            Store(place).open()
