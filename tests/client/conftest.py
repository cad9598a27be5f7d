"""A server that answers as a test says."""

from collections.abc import Iterator

import pytest

from .stub import Stub, serving


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as stub:
        yield stub
