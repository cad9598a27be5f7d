"""`client.images.generate` and `client.models` against a real server."""

import asyncio
from typing import Any

import httpx
import openai
import pytest

from ...conftest import ServerProcess
from .conftest import PROMPT, picture


def test_a_picture(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, extra_body={"seed": 7, "steps": 4})
    assert answer.data is not None
    (datum,) = answer.data
    shown = picture(datum.b64_json)
    assert (shown.format, shown.size) == ("PNG", (128, 128))
    assert datum.to_dict()["seed"] == 7
    assert answer.size == "128x128"


def test_several_pictures_are_those_of_following_seeds(client: openai.OpenAI) -> None:
    several = client.images.generate(prompt=PROMPT, n=3, extra_body={"seed": 7, "steps": 4})
    assert several.data is not None
    assert [one.to_dict()["seed"] for one in several.data] == [7, 8, 9]
    assert len({one.b64_json for one in several.data}) == 3


def test_a_wrong_size(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt=PROMPT, size="100x100")  # type: ignore[call-overload]
    assert caught.value.param == "size"
    assert "try 96x96" in caught.value.message


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(prompt=PROMPT, model="nobody")
    assert caught.value.param == "model"
    assert caught.value.request_id


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.owned_by) == ("painter", "nerite")
    assert client.models.retrieve("painter").id == "painter"


def test_the_description(painter_server: ServerProcess) -> None:
    described = httpx.get(f"{painter_server.url}/openapi.json", timeout=60).json()["paths"]
    body = described["/v1/images/edits"]["post"]["requestBody"]["content"]
    assert {"image", "mask", "prompt", "seed"} <= set(
        body["multipart/form-data"]["schema"]["properties"]
    )
    assert "images" in body["application/json"]["schema"]["properties"]
    assert "/v1/images/generations" in described
    assert "Duplicate Operation ID" not in painter_server.log.read_text()
    page = httpx.get(f"{painter_server.url}/docs")
    assert "http" not in page.text.replace("http-equiv", "")  # nothing from elsewhere


@pytest.mark.parametrize(
    ("wishes", "kind", "size"),
    [
        ({"output_format": "jpeg", "output_compression": 10}, "JPEG", (128, 128)),
        ({"output_format": "webp"}, "WEBP", (128, 128)),
        ({"size": "auto"}, "PNG", (128, 128)),
        ({"size": "64x96"}, "PNG", (64, 96)),
    ],
)
def test_forms_and_sizes(
    client: openai.OpenAI, wishes: Any, kind: str, size: tuple[int, int]
) -> None:
    answer = client.images.generate(prompt=PROMPT, extra_body={"steps": 2}, **wishes)
    assert answer.data is not None
    shown = picture(answer.data[0].b64_json)
    assert (shown.format, shown.size) == (kind, size)
    assert (answer.output_format, answer.size) == (kind.lower(), f"{size[0]}x{size[1]}")


def test_quality_is_a_number_of_steps(client: openai.OpenAI) -> None:
    for quality, steps in (("low", 10), ("medium", 20), ("high", 30), ("auto", 20), ("hd", 30)):
        answer = client.images.generate(prompt=PROMPT, size="auto", quality=quality)  # type: ignore[call-overload]
        assert answer.to_dict()["steps"] == steps


def test_what_has_no_effect(client: openai.OpenAI) -> None:
    def painted(**wishes: Any) -> str | None:
        body = {"seed": 7, "steps": 2}
        answer = client.images.generate(prompt=PROMPT, extra_body=body, **wishes)
        assert answer.data is not None
        assert answer.usage is not None and answer.usage.output_tokens == 64
        return answer.data[0].b64_json

    taken = {"style": "vivid", "moderation": "low", "user": "me", "background": "opaque"}
    assert painted() == painted(**taken)


def test_extensions_change_the_picture(client: openai.OpenAI) -> None:
    def painted(**more: Any) -> str | None:
        body = {"seed": 7, "steps": 4, **more}
        answer = client.images.generate(prompt=PROMPT, extra_body=body)
        assert answer.data is not None
        shown = answer.to_dict()
        assert all(shown[name] == more[name] for name in more if name != "negative_prompt")
        return answer.data[0].b64_json

    pictures = [painted()]
    pictures.append(painted(negative_prompt="snow"))
    pictures.append(painted(scheduler="euler"))
    pictures.append(painted(guidance_scale=1.0))
    pictures.append(painted(steps=5))
    assert len(set(pictures)) == len(pictures)
    assert painted() == pictures[0]


async def test_asynchronous(async_client: openai.AsyncOpenAI) -> None:
    answers = await asyncio.gather(
        *(
            async_client.images.generate(prompt=PROMPT, extra_body={"seed": seed, "steps": 3})
            for seed in range(6)
        )
    )
    seeds = [answer.data[0].to_dict()["seed"] for answer in answers if answer.data]
    assert seeds == list(range(6))
