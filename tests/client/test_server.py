"""The client against the server it was made for."""

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

from nerite import AsyncClient, Client
from nerite.client import ApiError, BadRequest, NotFound, Picture, Preview, Progress, Unauthorized

PROMPT = "a red house in the snow at night"


def test_paint(painter_server: Any) -> None:
    with Client(painter_server.url) as client:
        image = client.paint(PROMPT, seed=7, steps=4, size=(96, 64), scheduler="euler")
        again = client.paint(PROMPT, seed=7, steps=4, size="96x64", scheduler="euler")
    assert np.array_equal(image, again)
    wanted = {"prompt": PROMPT, "seed": 7, "steps": 4, "model": "painter", "size": "96x64"}
    assert image.size == (96, 64)
    assert image.info.items() >= wanted.items()


def test_several_formats(painter_server: Any) -> None:
    with Client(painter_server.url) as client:
        jpeg, second = client.pictures(PROMPT, 2, steps=2, output_format="jpeg", seed=3)
    assert jpeg.data.startswith(b"\xff\xd8")
    assert (jpeg.seed, second.seed) == (3, 4)


def test_previews_and_progress_come_first(painter_server: Any) -> None:
    with Client(painter_server.url) as client:
        events = list(client.stream(PROMPT, previews=5, progress=True, steps=8, seed=7))
        plain = client.paint(PROMPT, steps=8, seed=7)
    *before, last = events
    assert isinstance(last, Picture) and np.array_equal(last.image, plain)
    assert sum(isinstance(event, Preview) for event in before) == 5
    steps = [event.step for event in before if isinstance(event, Progress)]
    assert steps[-1] == 8 and steps == sorted(steps)


def test_a_picture_from_a_picture_under_a_mask(painter_server: Any, tmp_path: Path) -> None:
    with Client(painter_server.url) as client:
        image = client.paint(PROMPT, seed=7, steps=8)
        mask = np.zeros((128, 128), np.uint8)
        mask[:, 64:] = 255  # white is painted anew
        file = tmp_path / "mask.png"
        Image.fromarray(mask).save(file)
        edited = client.paint("a yellow moon", image=image, mask=file, steps=8, seed=1)
        again = client.paint("a blue house", image=image, strength=0.5, steps=8)
    before, after = np.asarray(image).astype(int), np.asarray(edited).astype(int)
    kept = np.abs(before - after)[:, :56].mean()
    assert kept < np.abs(before - after)[:, 72:].mean() / 2
    assert again.size == image.size


def test_a_job(painter_server: Any) -> None:
    with Client(painter_server.url) as client:
        job = client.jobs.submit(PROMPT, seed=7, steps=4, idempotency_key="from the client's test")
        assert (
            client.jobs.submit(PROMPT, seed=7, steps=4, idempotency_key="from the client's test").id
            == job.id
        )
        done = client.jobs.wait(job.id, timeout=300)
        assert np.array_equal(done.pictures[0].image, client.paint(PROMPT, seed=7, steps=4))
        assert client.jobs.get(job.id).progress == 1
        assert job.id in [one.id for one in client.jobs.list()]
        assert client.jobs.cancel(job.id) is None
        with pytest.raises(NotFound):
            client.jobs.get(job.id)


def test_the_models(painter_server: Any) -> None:
    with Client(painter_server.url) as client:
        (model,) = client.models.list()
        assert (model.name, model.ready, model.paints, model.default) == ("painter",) + (True,) * 3
        assert (model.size, model.edits, model.masks, model.streams) == ((128, 128),) + (True,) * 3
        with pytest.raises(ApiError, match="not allowed"):
            client.models.unload("painter")


def test_what_is_wrong_has_a_class_and_a_name(painter_server: Any) -> None:
    with Client(painter_server.url) as client:
        with pytest.raises(BadRequest) as wrong:
            client.paint(PROMPT, size=(100, 100))
        with pytest.raises(NotFound) as unknown:
            client.paint(PROMPT, model="sculptor")
    assert (wrong.value.param, unknown.value.param) == ("size", "model")
    assert wrong.value.request_id


def test_a_server_with_keys(start_server: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    server = start_server("--api-key-file", str(keys))
    with Client(server.url) as client, pytest.raises(Unauthorized):
        client.paint(PROMPT)
    with Client(server.url, api_key="secret") as client:
        assert client.paint(PROMPT, steps=1).size == (128, 128)


def cancelled(server: Any) -> int:
    with urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    name = "nv_inference_request_failure"
    found = [line for line in lines if line.startswith(name) and 'reason="CANCELED"' in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in found)


async def test_whoever_leaves_stops_the_painting(painter_server: Any) -> None:
    before = await asyncio.to_thread(cancelled, painter_server)
    async with AsyncClient(painter_server.url) as client:
        async with client.stream(PROMPT, steps=500, progress=True) as events:
            await anext(events)
        painting = asyncio.create_task(client.paint(PROMPT, steps=500))
        async with client.stream(PROMPT, steps=2) as events:
            async for _ in events:
                pass
        painting.cancel()
        deadline = time.monotonic() + 60
        while await asyncio.to_thread(cancelled, painter_server) < before + 2:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
