"""`client.images.generate` and `client.models` against a real server."""

import openai
import pytest

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
