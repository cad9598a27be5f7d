"""What a program written for OpenAI sees of pictures that a safety checker flags."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from tests.diffusion import checkers

from nerite.diffusion import Engine, Painted, Params, open_pipeline
from nerite.painter import REPOSITORY

from ...conftest import ServerProcess, run_server
from ..jobs.client import accepted, connect, finished
from .conftest import PROMPT, options, picture

SEEDS = (1, 2)


def paint(seed: int) -> np.ndarray:
    engine = Engine(open_pipeline(REPOSITORY / "painter" / "1", device="cpu"))
    painted: list[Painted] = []
    engine.add(Params(PROMPT, seed=seed, steps=1, width=64, height=64), painted.append)
    engine.close()
    return painted[0].images[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """flags: all. blanks: all. picky: blanks the picture of the first seed only."""
    pytest.importorskip("diffusers")
    repository = tmp_path_factory.mktemp("checked")
    checkers.add_painter(repository, "flags", checker="all", mode="flag")
    checkers.add_painter(repository, "blanks", checker="all", mode="blank")
    pair = (paint(SEEDS[0]), paint(SEEDS[1]))
    checkers.add_painter(repository, "picky", checker="first", mode="blank", pair=pair)
    log: Path = tmp_path_factory.mktemp("log") / "log"
    with run_server(log, f"--model-repository={repository}") as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(**options(server)) as made:
        yield made


def is_black(text: str | None) -> bool:
    return picture(text).convert("L").getextrema() == (0, 0)


def test_a_flag_comes_beside_the_picture(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="flags", prompt=PROMPT, n=2)
    assert answer.data is not None
    assert [one.flagged for one in answer.data] == [True, True]  # type: ignore[attr-defined]
    assert not any(is_black(one.b64_json) for one in answer.data)


def test_nothing_that_may_be_shown_is_the_error_of_moderation(client: openai.OpenAI) -> None:
    for count in (1, 2):
        with pytest.raises(openai.BadRequestError, match="flagged by the safety checker") as raised:
            client.images.generate(model="blanks", prompt=PROMPT, n=count)
        assert raised.value.code == "moderation_blocked"
        assert raised.value.response.headers["x-should-retry"] == "false"


def test_of_several_the_others_are_shown(client: openai.OpenAI) -> None:
    answer = client.images.generate(
        model="picky", prompt=PROMPT, n=2, extra_body={"seed": SEEDS[0]}
    )
    assert answer.data is not None
    assert [one.flagged for one in answer.data] == [True, False]  # type: ignore[attr-defined]
    assert [is_black(one.b64_json) for one in answer.data] == [True, False]


def test_streams_end_in_the_same_ways(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="flagged by the safety checker") as raised:
        list(client.images.generate(model="blanks", prompt=PROMPT, stream=True))
    assert raised.value.code == "moderation_blocked"
    stream = client.images.generate(
        model="picky", prompt=PROMPT, stream=True, extra_body={"seed": SEEDS[0], "n": 2}
    )
    done = {event.seed: event for event in stream}  # type: ignore[union-attr]
    assert [done[seed].flagged for seed in SEEDS] == [True, False]  # type: ignore[union-attr]
    assert is_black(done[SEEDS[0]].b64_json)


def test_a_job_fails_of_it(server: ServerProcess) -> None:
    with connect(server) as web:
        job = finished(web, accepted(web, model="blanks")["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "moderation_blocked"
