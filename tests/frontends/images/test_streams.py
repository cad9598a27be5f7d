"""`stream=True`: partial pictures, progress, and what happens when the client leaves."""

import time
from typing import Any

import openai
import pytest

from .conftest import PROMPT, file_of, picture


def events(client: openai.OpenAI, **wishes: Any) -> list[Any]:
    made = client.images.generate(prompt=PROMPT, stream=True, **wishes)
    return list(made)


@pytest.mark.parametrize("partial", [0, 1, 2, 3])
def test_partial_pictures(client: openai.OpenAI, partial: int) -> None:
    told = events(client, partial_images=partial, extra_body={"seed": 7, "steps": 8})
    *before, last = told
    assert [one.type for one in before] == ["image_generation.partial_image"] * partial
    assert [one.partial_image_index for one in before] == list(range(partial))
    assert all(picture(one.b64_json).size == (128, 128) for one in before)
    assert last.type == "image_generation.completed"
    assert (last.size, last.output_format) == ("128x128", "png")
    assert last.usage.total_tokens == last.usage.input_tokens + last.usage.output_tokens
    whole = client.images.generate(prompt=PROMPT, extra_body={"seed": 7, "steps": 8})
    assert whole.data is not None
    assert last.b64_json == whole.data[0].b64_json


def test_progress_and_more_previews(client: openai.OpenAI) -> None:
    told = events(client, n=2, extra_body={"seed": 1, "steps": 8, "progress": True, "previews": 7})
    for index in (0, 1):
        own = [one.to_dict() for one in told if one.to_dict()["image_index"] == index]
        kinds = [one["type"].rpartition(".")[2] for one in own]
        assert kinds.count("partial_image") == 7
        assert kinds[-1] == "completed"
        assert own[-1]["seed"] == 1 + index
        steps = [one["step"] for one in own if one["type"].endswith("progress")]
        assert steps == sorted(steps)
        assert steps[-1] == 8
        assert all(one["steps"] == 8 for one in own if "steps" in one)


def test_an_edit(client: openai.OpenAI) -> None:
    told = list(
        client.images.edit(
            image=file_of(), prompt="a tree", stream=True, partial_images=1, output_format="jpeg"
        )
    )
    assert [one.type for one in told] == ["image_edit.partial_image", "image_edit.completed"]
    assert all(picture(one.b64_json).format == "JPEG" for one in told)


def test_what_is_wrong_has_a_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        events(client, extra_body={"scheduler": "nobody's"})
    assert caught.value.param == "scheduler"


def test_a_client_that_leaves_frees_its_place(client: openai.OpenAI) -> None:
    wishes: Any = {"extra_body": {"steps": 1000, "progress": True}}
    stream = client.images.generate(prompt=PROMPT, stream=True, n=10, **wishes)
    next(iter(stream))
    stream.close()
    started = time.monotonic()
    answer = client.images.generate(prompt=PROMPT, extra_body={"steps": 1})
    assert answer.data
    assert time.monotonic() - started < 60  # ten thousand steps take much longer


async def test_asynchronous(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.images.generate(prompt=PROMPT, stream=True, partial_images=2)
    kinds = [event.type async for event in stream]
    assert kinds[-1] == "image_generation.completed"
    assert len(kinds) == 3
