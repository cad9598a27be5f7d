"""The unmodified `openai` package, and a server of the embedded painter."""

from collections.abc import Iterator

import openai
import pytest

from ...conftest import ServerProcess


@pytest.fixture
def client(painter_server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{painter_server.url}/v1", api_key="none", max_retries=0, timeout=60
    ) as made:
        yield made
