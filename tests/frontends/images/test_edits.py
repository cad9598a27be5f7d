"""`client.images.edit` and `create_variation`: one picture, several, masks, forms and JSON."""

import base64
import json
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from ...conftest import ServerProcess
from .conftest import file_of, half_mask, picture

SEED: dict[str, Any] = {"extra_body": {"seed": 5, "steps": 6}}


def pixels(answer: Any, index: int = 0) -> np.ndarray[Any, Any]:
    return np.asarray(picture(answer.data[index].b64_json).convert("RGB")).astype(int)


def test_an_edit_is_not_a_picture_from_words(client: openai.OpenAI) -> None:
    edited = client.images.edit(image=file_of(), prompt="a tree", **SEED)
    assert edited.data is not None
    assert len(edited.data) == 1
    assert picture(edited.data[0].b64_json).size == (128, 128)
    plain = client.images.generate(prompt="a tree", **SEED)
    assert np.abs(pixels(edited) - pixels(plain)).mean() > 2


def test_a_mask_keeps_what_is_opaque(client: openai.OpenAI) -> None:
    painted = client.images.generate(prompt="a yellow balloon over a meadow at dawn", **SEED)
    assert painted.data is not None
    kept = picture(painted.data[0].b64_json)  # which the autoencoder knows how to keep
    answer = client.images.edit(
        image=("picture.png", file_of(kept), "image/png"),
        mask=("mask.png", half_mask(), "image/png"),
        prompt="a tree at night",
        **SEED,
    )
    found, before = pixels(answer), np.asarray(kept).astype(int)
    change = np.abs(found - before).mean(axis=(0, 2))
    assert change[:40].mean() > 5 * change[88:].mean()


def test_a_picture_with_a_hole_is_its_own_mask(client: openai.OpenAI) -> None:
    holed = Image.new("RGBA", (128, 128), (200, 30, 30, 255))
    holed.paste((200, 30, 30, 0), (0, 0, 64, 128))
    whole = Image.new("RGB", (128, 128), (200, 30, 30))
    one = client.images.edit(image=file_of(holed), prompt="a tree at night", **SEED)
    other = client.images.edit(
        image=file_of(whole), mask=half_mask(), prompt="a tree at night", **SEED
    )
    assert np.array_equal(pixels(one), pixels(other))


def test_a_white_mask_is_painted_where_it_is_white(client: openai.OpenAI) -> None:
    white = Image.new("L", (128, 128), 0)
    white.paste(255, (0, 0, 64, 128))
    one = client.images.edit(image=file_of(), mask=file_of(white), prompt="a tree", **SEED)
    other = client.images.edit(image=file_of(), mask=half_mask(), prompt="a tree", **SEED)
    assert np.array_equal(pixels(one), pixels(other))


def test_several_pictures_are_edited_one_by_one(client: openai.OpenAI) -> None:
    blue = file_of(Image.new("RGB", (128, 128), (30, 30, 200)))
    answer = client.images.edit(image=[file_of(), blue], prompt="a tree", n=2, **SEED)
    assert answer.data is not None
    assert [one.to_dict()["seed"] for one in answer.data] == [5, 6, 7, 8]
    alone = client.images.edit(image=file_of(), prompt="a tree", **SEED)
    assert np.abs(pixels(alone) - pixels(answer)).max() <= 2


def test_strength_and_fidelity(client: openai.OpenAI) -> None:
    before = np.asarray(Image.new("RGB", (128, 128), (200, 30, 30))).astype(int)

    def change(**wishes: Any) -> float:
        body = {"seed": 5, "steps": 10, **wishes.pop("extra_body", {})}
        answer = client.images.edit(image=file_of(), prompt="a tree", extra_body=body, **wishes)
        return float(np.abs(pixels(answer) - before).mean())

    assert change(extra_body={"strength": 0.2}) < change(extra_body={"strength": 0.9})
    assert change(input_fidelity="high") == change(extra_body={"strength": 0.5})


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_kinds_of_files(client: openai.OpenAI, kind: str) -> None:
    sent = (f"picture.{kind}", file_of(kind=kind), f"image/{kind}")
    answer = client.images.edit(image=sent, prompt="a tree", output_format="webp", **SEED)
    assert answer.data is not None
    assert picture(answer.data[0].b64_json).format == "WEBP"


def test_sizes(client: openai.OpenAI) -> None:
    sent = file_of(size=(100, 180))
    answer = client.images.edit(image=sent, prompt="a tree", **SEED)
    assert answer.size == "96x176"  # as near below as the model can
    answer = client.images.edit(image=sent, prompt="a tree", size="128x64", **SEED)  # type: ignore[call-overload]
    assert answer.size == "128x64"


def data_url(file: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def test_json(client: openai.OpenAI, painter_server: ServerProcess) -> None:
    body = {
        "prompt": "a tree",
        "images": [{"image_url": data_url(file_of())}],
        "mask": {"image_url": data_url(half_mask())},
        "seed": 5,
        "steps": 6,
    }
    answer = httpx.post(f"{painter_server.url}/v1/images/edits", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    same = client.images.edit(image=file_of(), mask=half_mask(), prompt="a tree", **SEED)
    assert same.data is not None
    assert json.loads(answer.content)["data"][0]["b64_json"] == same.data[0].b64_json


def test_a_variation(client: openai.OpenAI) -> None:
    with pytest.warns(DeprecationWarning):
        answer = client.images.create_variation(image=file_of(), n=2, size="256x256", **SEED)
    assert answer.data is not None
    assert [picture(one.b64_json).size for one in answer.data] == [(256, 256)] * 2
    near = np.abs(pixels(answer) - [200, 30, 30]).mean()
    with pytest.warns(DeprecationWarning):
        bare = client.images.create_variation(
            image=file_of(), size="256x256", extra_body={"seed": 5, "steps": 6, "strength": 1}
        )
    assert near < np.abs(pixels(bare) - [200, 30, 30]).mean()
