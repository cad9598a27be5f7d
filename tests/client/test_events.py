"""Server-sent events, cut anywhere."""

from collections.abc import AsyncIterator

import pytest

from nerite.client.errors import UnexpectedAnswer
from nerite.client.events import ServerEvent, read_events

STREAM = (
    b": a comment\n\n"
    b'event: a\ndata: {"x": 1}\n\n'
    b'data: {"type": "b",\r\ndata:"y": 2}\r\n\r\n'
    b'id: 7\nevent: c\ndata: {"z": "\xe9\x9b\xaa"}\n\n'
    b"data: [DONE]\n\n"
    b'event: never\ndata: {"x": 1}\n\n'
)


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_events_are_read_however_they_come(size: int) -> None:
    assert [event async for event in read_events(chunks(STREAM, size))] == [
        ServerEvent("a", {"x": 1}),
        ServerEvent("b", {"type": "b", "y": 2}),
        ServerEvent("c", {"z": "雪"}),
    ]


@pytest.mark.parametrize("data", [b"data: no\n\n", b"data: [1]\n\n"])
async def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        async for _ in read_events(chunks(data, 100)):
            pass
