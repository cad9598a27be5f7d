"""Models of every kind that paint, names for them, URLs, and queues that are full."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from ...conftest import ServerProcess, run_server
from .conftest import PROMPT, file_of, options, picture
from .shop import build


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("shop")
    with run_server(
        folder / "log",
        f"--model-repository={build(folder / 'models')}",
        "--image-model=painter",
        "--image-model-alias=paint=pixels",
        "--image-model-alias=dall-e-3=pixels",
        "--image-model-alias=gone=nobody",
        "--image-model-alias=*=pixels",
        f"--image-store={folder / 'store'}",
        "--image-store-size=20000",
        "--image-queue-size=12",
        "--public-url=https://pictures.example/nerite",
    ) as server:
        yield server


@pytest.fixture
def client(shop: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(**options(shop)) as made:
        yield made


def painted(client: openai.OpenAI, model: str, n: int = 1, **more: object) -> list[Image.Image]:
    answer = client.images.generate(prompt=PROMPT, model=model, n=n, extra_body=more)
    assert answer.data is not None
    return [picture(one.b64_json) for one in answer.data]


def colour(image: Image.Image) -> int:
    return int(np.asarray(image).max())


def test_pixels_are_asked_for_one_by_one(client: openai.OpenAI) -> None:
    found = painted(client, "pixels", 3, seed=10)
    assert [colour(one) for one in found] == [11, 12, 13]
    assert found[0].size == (16, 8)
    (more,) = painted(client, "pixels", seed=10, steps=5)  # which it calls num_inference_steps
    assert colour(more) == 15


def test_floats_are_asked_for_together(client: openai.OpenAI) -> None:
    assert [colour(one) for one in painted(client, "floats", 3)] == [0, 64, 128]


def test_a_model_that_batches(client: openai.OpenAI) -> None:
    assert [colour(one) for one in painted(client, "batched", 2)] == [51, 51]


def test_files(client: openai.OpenAI) -> None:
    (found,) = painted(client, "files")
    assert found.size == (10, 5)
    edited = client.images.edit(model="files", prompt=PROMPT, image=[file_of()] * 3)
    assert edited.data is not None
    assert [picture(one.b64_json).size for one in edited.data] == [(13, 5)]  # saw all three


def test_transparency_where_a_model_has_it(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt=PROMPT, model="clear", background="transparent")
    assert answer.data is not None
    assert picture(answer.data[0].b64_json).mode == "RGBA"
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(
            prompt=PROMPT, model="clear", background="transparent", output_format="jpeg"
        )
    assert caught.value.param == "output_format"
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt=PROMPT, model="pixels", background="transparent")
    assert caught.value.param == "background"


def test_a_model_of_texts_paints_nothing(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="paints no pictures") as caught:
        painted(client, "text")
    assert caught.value.param == "model"


def test_a_model_that_fails(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="out of paint") as caught:
        painted(client, "broken")
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_what_a_model_does_not_take_is_told(client: openai.OpenAI) -> None:
    for name, value in (("scheduler", "ddim"), ("guidance_scale", 3.0), ("negative_prompt", "x")):
        with pytest.raises(openai.BadRequestError) as caught:
            painted(client, "pixels", **{name: value})
        assert caught.value.param == name
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt=PROMPT, model="pixels", size="512x512")
    assert caught.value.param == "size"
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=file_of(), prompt=PROMPT, model="pixels")
    assert caught.value.param == "image"


def test_names(client: openai.OpenAI) -> None:
    assert painted(client, "paint")[0].size == (16, 8)
    assert painted(client, "whatever else")[0].size == (16, 8)  # the alias *
    assert painted(client, "gpt-image-1", steps=1)[0].size == (128, 128)
    nameless = client.images.generate(prompt=PROMPT, extra_body={"steps": 1})
    assert nameless.size == "128x128"
    with pytest.raises(openai.NotFoundError):
        painted(client, "gone")


def test_the_list_of_models(client: openai.OpenAI) -> None:
    found = {one.id: one.to_dict()["nerite"] for one in client.models.list().data}
    assert found["text"] is None
    painter = found["painter"]
    assert isinstance(painter, dict)
    assert painter["default"] is True
    assert painter["size"] == [128, 128]
    assert "euler" in painter["schedulers"]
    assert isinstance(found["pixels"], dict)
    assert found["pixels"]["default"] is False
    assert client.models.retrieve("paint").to_dict()["nerite"] == found["pixels"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gone")


def test_urls(client: openai.OpenAI, shop: ServerProcess) -> None:
    answer = client.images.generate(prompt=PROMPT, model="dall-e-3", n=2)  # as OpenAI: URLs
    assert answer.data is not None
    urls = [one.url for one in answer.data]
    assert len(set(urls)) == 2
    for url in urls:
        assert url is not None
        assert url.startswith("https://pictures.example/nerite/v1/images/files/")
        name = url.rpartition("/")[2]
        found = httpx.get(f"{shop.url}/v1/images/files/{name}")
        assert found.headers["content-type"] == "image/png"
        assert "sandbox" in found.headers["content-security-policy"]
        assert Image.open(io.BytesIO(found.content)).size == (16, 8)
    (text,) = client.images.generate(
        prompt=PROMPT, model="dall-e-3", response_format="b64_json"
    ).data or [None]
    assert text is not None and text.b64_json and text.url is None


def test_old_pictures_make_room(client: openai.OpenAI, shop: ServerProcess) -> None:
    names = []
    for seed in range(12):
        answer = client.images.generate(
            prompt=PROMPT,
            model="painter",
            response_format="url",
            size="64x64",  # type: ignore[call-overload]
            extra_body={"steps": 1, "seed": seed},
        )
        assert answer.data is not None and answer.data[0].url is not None
        names.append(answer.data[0].url.rpartition("/")[2])
    states = [httpx.get(f"{shop.url}/v1/images/files/{name}").status_code for name in names]
    assert states[0] == 404
    assert states[-1] == 200
    store = Path(shop.log).parent / "store"
    assert sum(file.stat().st_size for file in store.iterdir()) <= 20000


@pytest.mark.parametrize(
    "name",
    [
        "../models/painter/config.pbtxt",
        "..%2f..%2fmodels%2fpainter%2fconfig.pbtxt",
        "%2fetc%2fpasswd",
        "ffffffffff-" + "a" * 43 + ".png",
        "ffffffffff-" + "a" * 43 + ".png%00.html",
        "config.pbtxt",
        "",
    ],
)
def test_no_other_file_is_given_out(shop: ServerProcess, name: str) -> None:
    with httpx.Client() as plain:
        request = httpx.Request("GET", httpx.URL(f"{shop.url}/v1/images/files/{name}"))
        found = plain.send(request)
    assert found.status_code == 404
    assert found.json()["error"]["type"] == "invalid_request_error"


def test_more_than_there_is_room_for(client: openai.OpenAI) -> None:
    def ask(_: int) -> str | None:
        try:
            client.images.generate(prompt=PROMPT, model="painter", n=6, extra_body={"steps": 30})
        except openai.RateLimitError as error:
            assert error.response.headers["retry-after"] == "2"
            assert "x-should-retry" not in error.response.headers
            return error.code
        return ""

    with ThreadPoolExecutor(4) as users:
        codes = list(users.map(ask, range(4)))
    assert codes.count("queue_full") >= 1
    assert codes.count("") >= 2
    assert painted(client, "pixels", 10)  # its places are free again


def test_a_model_whose_own_queue_is_full(client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        painted(client, "narrow", 6)
    assert caught.value.code == "queue_full"
    assert painted(client.with_options(max_retries=20), "narrow")


def test_retries_of_the_client_itself(shop: ServerProcess) -> None:
    """It comes again by itself when there was no room."""
    with openai.OpenAI(**{**options(shop), "max_retries": 60}) as client:
        stream = client.images.generate(
            prompt=PROMPT, model="painter", n=10, stream=True, partial_images=1
        )
        assert next(stream).type == "image_generation.partial_image"
        kinds: list[str] = []
        reading = threading.Thread(target=lambda: kinds.extend(one.type for one in stream))
        reading.start()
        raw = client.images.with_raw_response.generate(prompt=PROMPT, model="pixels", n=8)
        assert raw.retries_taken > 0
        assert len(raw.parse().data or ()) == 8
        reading.join()
        assert kinds.count("image_generation.completed") == 10
