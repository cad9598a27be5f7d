"""Keys, and the cache in memory."""

import numpy as np
import pytest

from nerite.cache.base import key_of, owner_of
from nerite.cache.config import open_cache
from nerite.cache.local import LocalCache
from nerite.core.errors import InferenceError
from nerite.core.request import Request, Response


def answer(number: int, floats: int = 100) -> Response:
    return Response({"out": np.full(floats, number, np.float32)})


def found(cache: LocalCache, key: bytes) -> Response | None:
    seen: list[Response | None] = []
    cache.look_up(key, seen.append)
    return seen[0]


def key(**more: object) -> bytes:
    zeros = np.zeros((1, 2), np.float32)
    request = Request(**{"model": "m", "inputs": {"a": zeros, "b": zeros}, **more})  # type: ignore[arg-type]
    return key_of(owner_of("m", 1, ""), request)


def test_a_key_is_all_that_an_answer_may_depend_on() -> None:
    zeros = np.zeros((1, 2), np.float32)
    same = key(inputs={"b": zeros.copy(), "a": zeros}, id="x", timeout_us=5, priority=1)
    assert same == key()
    others = [
        key(inputs={"a": zeros, "c": zeros}),
        key(inputs={"a": zeros, "b": np.ones((1, 2), np.float32)}),
        key(inputs={"a": zeros, "b": zeros.reshape(2, 1)}),
        key(inputs={"a": zeros, "b": zeros.view(np.int32)}),
        key(inputs={"a": zeros, "b": np.array([b"x", b"yz"], object)}),
        key(inputs={"a": zeros, "b": np.array([b"xy", b"z"], object)}),
        key(outputs=("out",)),
        key(parameters={"scale": 2}),
        key_of(owner_of("m", 2, ""), Request("m", {"a": zeros, "b": zeros})),
        key_of(owner_of("m", 1, "changed"), Request("m", {"a": zeros, "b": zeros})),
    ]
    assert len({*others, same}) == len(others) + 1


def test_the_least_recently_used_leaves() -> None:
    cache = LocalCache(2000)
    for number in range(3):
        cache.insert(b"%d" % number, answer(number))
    assert found(cache, b"0") is not None
    cache.insert(b"3", answer(3))
    cache.insert(b"4", answer(4))
    kept = [number for number in range(5) if found(cache, b"%d" % number) is not None]
    assert kept[-2:] == [3, 4]
    assert 1 not in kept
    cache.forget(b"4")
    assert found(cache, b"4") is None


def test_what_is_kept_is_a_copy_that_nobody_changes() -> None:
    cache = LocalCache(10_000)
    mine = answer(1)
    cache.insert(b"k", mine)
    mine.outputs["out"][:] = 2
    kept = found(cache, b"k")
    assert kept is not None
    assert kept.outputs["out"][0] == 1
    with pytest.raises(ValueError, match="read-only"):
        kept.outputs["out"][:] = 3


def test_replacing_frees_what_was_there() -> None:
    cache = LocalCache(1200)
    for number in range(9):
        cache.insert(b"k", answer(number))
        cache.insert(b"l", answer(number))
    assert len(cache) == 2


def test_too_large_for_the_whole_cache() -> None:
    cache = LocalCache(300)
    with pytest.raises(InferenceError, match="Failed to insert key .* of the whole cache"):
        cache.insert(b"k", answer(1))
    text = Response({"out": np.array([b"x" * 500], object)})
    with pytest.raises(InferenceError, match="Failed to insert key"):
        cache.insert(b"k", text)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ([("local", "size", "many")], "size is 'many'"),
        ([("local", "length", "3")], "no setting 'length': its settings are size"),
        ([("disk", "size", "3")], "unable to find cache 'disk': the caches are local, redis"),
        ([("local", "size", "3"), ("redis", "host", "h")], "multiple cache configurations"),
        ([("redis", "port", "3")], "Must at a minimum specify"),
    ],
)
def test_settings_that_are_wrong(config: list[tuple[str, str, str]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        open_cache(config)
    assert open_cache([]) is None
