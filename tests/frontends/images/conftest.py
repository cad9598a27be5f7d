"""The unmodified `openai` package, and a server of the embedded painter."""

import base64
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from PIL import Image

from ...conftest import ServerProcess

PROMPT = "a red house in the snow"


@pytest.fixture
def client(painter_server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(**options(painter_server)) as made:
        yield made


@pytest.fixture
async def async_client(painter_server: ServerProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(**options(painter_server)) as made:
        yield made


def options(server: ServerProcess) -> dict[str, Any]:
    return {"base_url": f"{server.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 120}


def picture(text: str | None) -> Image.Image:
    """What `b64_json` holds."""
    assert text is not None
    return Image.open(io.BytesIO(base64.b64decode(text)))


def file_of(
    image: Image.Image | None = None, kind: str = "png", size: tuple[int, int] = (128, 128)
) -> bytes:
    """A picture's file; a red one where none is given."""
    buffer = io.BytesIO()
    (image or Image.new("RGB", size, (200, 30, 30))).save(buffer, kind)
    return buffer.getvalue()


def half_mask(size: tuple[int, int] = (128, 128)) -> bytes:
    """Transparent, which is to be painted, on the left; opaque on the right."""
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    return file_of(mask)
