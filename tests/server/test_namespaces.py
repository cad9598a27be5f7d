"""--model-namespacing: models of several repositories that have the same name."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from nerite import InferenceError, Policy, Request, Server
from nerite.frontends.metrics import Metrics
from nerite.repository.repository import Repository
from nerite.server import ControlMode

from .conftest import add_model
from .test_control import CONFIG, adds

ENSEMBLE = """
    platform: "ensemble"
    input {{ name: "IN" data_type: TYPE_INT32 dims: 1 }}
    output {{ name: "OUT" data_type: TYPE_INT32 dims: 1 }}
    ensemble_scheduling {{ step {{
        model_name: "{part}" input_map {{ key: "IN" value: "IN" }}
        output_map {{ key: "OUT" value: "OUT" }}
    }} }}
"""
Start = Callable[..., AbstractAsyncContextManager[Server]]


def add_ensemble(repository: Path, name: str, part: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(ENSEMBLE.format(part=part))


@pytest.fixture
def repositories(tmp_path: Path) -> tuple[Path, Path]:
    """Each with a model `part`, which adds 1 or 2, and an ensemble of it, `first` or `second`."""
    one, two = tmp_path / "one", tmp_path / "two"
    for number, repository in enumerate((one, two), 1):
        add_model(repository, "part", CONFIG, adds(number))
    add_ensemble(one, "first", "part")
    add_ensemble(two, "second", "part")
    return one, two


@pytest.fixture
def start(repositories: tuple[Path, Path]) -> Start:
    @asynccontextmanager
    async def starting(mode: ControlMode) -> AsyncIterator[Server]:
        policy = Policy(mode=mode, poll_seconds=0)
        async with Server(Repository(repositories, namespaced=True), policy=policy) as server:
            yield server

    return starting


async def ask(server: Server, model: str) -> int:
    response = await server.infer(Request(model, {"IN": np.array([0], np.int32)})).one()
    return int(response.outputs["OUT"][0])


async def test_an_ensemble_means_its_own_neighbour(start: Start) -> None:
    async with start(ControlMode.NONE) as server:
        assert server.ready
        assert (await ask(server, "first"), await ask(server, "second")) == (1, 2)
        for asked in (server.find, server.model_ready):
            with pytest.raises(InferenceError, match="There are 2 identifiers of model 'part'"):
                asked("part")
        with pytest.raises(InferenceError, match="'third' is not found"):
            server.find("third")


async def test_each_is_told_apart(start: Start, repositories: tuple[Path, Path]) -> None:
    async with start(ControlMode.NONE) as server:
        names = [(state.name, state.state) for state in await server.index()]
        assert names == [(name, "READY") for name in ("first", "part", "part", "second")]
        text = Metrics(server).text()
    for repository in repositories:
        assert f'model="part",namespace="{repository}",version="1"' in text


async def test_what_goes_and_comes_back(start: Start, repositories: tuple[Path, Path]) -> None:
    """The ensemble takes the neighbour of another repository while it is the only one."""
    one, _ = repositories
    away = one.parent / "away"
    async with start(ControlMode.POLL) as server:
        shutil.move(one / "part", away)
        await server.poll()
        assert [await ask(server, name) for name in ("first", "second", "part")] == [2, 2, 2]
        shutil.move(away, one / "part")
        await server.poll()
        assert [await ask(server, name) for name in ("first", "second")] == [1, 2]
        with pytest.raises(InferenceError, match="ambiguity"):
            await ask(server, "part")


async def test_loading_by_name(start: Start, repositories: tuple[Path, Path]) -> None:
    one, two = repositories
    async with start(ControlMode.EXPLICIT) as server:
        await server.load("first")
        assert (await ask(server, "first"), await ask(server, "part")) == (1, 1)
        await server.load("part")
        with pytest.raises(InferenceError, match="ambiguity"):
            await ask(server, "part")
        assert await ask(server, "first") == 1
        await server.unload("part")
        with pytest.raises(InferenceError, match="'part' has no available versions"):
            await ask(server, "part")
        with pytest.raises(InferenceError, match="not available or ambiguous: part"):
            add_ensemble(one.parent / "three", "other", "part")
            server.repository.add(str(one.parent / "three"), {})
            await server.load("other")


async def test_names_alone_do_not_make_a_circle(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    add_ensemble(one, "a", "b")
    add_model(one, "b", CONFIG, adds(1))
    add_ensemble(two, "b", "a")
    add_model(two, "a", CONFIG, adds(2))
    async with Server(Repository([one, two], namespaced=True)) as server:
        assert server.ready, [state.reason for state in server.states()]
