"""Loading, reloading and unloading, in process: the Server without its doors."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from nerite.core.errors import InferenceError, Status
from nerite.core.request import Request
from nerite.repository.repository import Repository
from nerite.server import ControlMode, Policy, Server

from .conftest import add_model

CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ]
    output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""


def adds(number: int, head: str = "") -> str:
    """A model that adds `number`, after running `head` when it is imported."""
    return f"""
    import time
    {head}

    class TritonPythonModel:
        def execute(self, requests):
            answers = []
            for request in requests:
                value = request.inputs()[0].as_numpy()
                time.sleep(0.001 * max(0, int(value[0])))
                tensor = pb_utils.Tensor("OUT", value + np.int32({number}))
                answers.append(pb_utils.InferenceResponse([tensor]))
            return answers
"""


Start = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    @asynccontextmanager
    async def starting(*repositories: Path, **policy: object) -> AsyncIterator[Server]:
        repository = Repository([*repositories] or [tmp_path])
        server = Server(repository, policy=Policy(**policy))  # type: ignore[arg-type]
        await server.start()
        try:
            yield server
        finally:
            await server.close(10)

    return starting


async def ask(server: Server, value: int = 0, version: str = "", model: str = "m") -> int:
    inputs = {"IN": np.array([value], np.int32)}
    response = await server.infer(Request(model, inputs, version)).one()
    return int(response.outputs["OUT"][0])


def states(server: Server) -> list[tuple[str, int, str, str]]:
    return [(one.name, one.version, one.state, one.reason) for one in server.states()]


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    for _ in range(400):
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not happen")


async def test_explicit_starts_with_what_is_named(start: Start, tmp_path: Path) -> None:
    for name in ("a", "b"):
        add_model(tmp_path, name, CONFIG, adds(1))
    async with start(mode=ControlMode.EXPLICIT, startup=("b",)) as server:
        assert states(server) == [("b", 1, "READY", "")]
        assert server.ready
        assert [(one.name, one.state) for one in await server.index()] == [
            ("a", ""),
            ("b", "READY"),
        ]
        assert [one.name for one in await server.index(ready=True)] == ["b"]
    async with start(mode=ControlMode.EXPLICIT, startup=("*",)) as server:
        assert [state[0] for state in states(server)] == ["a", "b"]
    with pytest.raises(
        InferenceError, match="model not found in any model repository; there is a, b"
    ):
        async with start(mode=ControlMode.EXPLICIT, startup=("c",)):
            pass


async def test_load_and_unload(start: Start, tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG, adds(1))
    async with start(mode=ControlMode.EXPLICIT) as server:
        with pytest.raises(InferenceError, match="'m' is not found"):
            await ask(server)
        await server.load("m")
        assert await ask(server) == 1
        await server.unload("m")
        assert server.ready  # while it goes, too: nobody wants it
        with pytest.raises(InferenceError, match="'m' has no available versions"):
            await ask(server)
        await until(lambda: states(server) == [("m", 1, "UNAVAILABLE", "unloaded")])
        assert server.ready
        await server.load("m")
        assert await ask(server) == 1
        await server.unload("never seen")


async def test_unload_lets_open_requests_end(start: Start, tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG, adds(1))
    async with start(mode=ControlMode.EXPLICIT, startup=("m",)) as server:
        open_request = asyncio.ensure_future(ask(server, 500))
        await asyncio.sleep(0.1)
        await server.unload("m")
        assert states(server) == [("m", 1, "UNLOADING", "")]
        assert await open_request == 501


async def test_reload_without_one_failed_request(start: Start, tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG, adds(1))
    async with start(mode=ControlMode.EXPLICIT, startup=("m",)) as server:
        model = server.find("m")
        await server.load("m")
        assert server.find("m") is model  # nothing has changed
        answers: list[int] = []

        async def keep_asking() -> None:
            while not answers or answers[-1] != 2:
                answers.append(await ask(server))
                assert server.ready

        asking = asyncio.ensure_future(keep_asking())
        await asyncio.sleep(0.05)
        file = tmp_path / "m" / "1" / "model.py"
        file.write_text(file.read_text().replace("int32(1)", "int32(2)"))
        await server.load("m")
        await asyncio.wait_for(asking, 30)
        assert set(answers) == {1, 2}
        assert answers == sorted(answers)


async def test_a_failed_reload_leaves_what_serves(start: Start, tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG, adds(1))
    async with start(mode=ControlMode.EXPLICIT, startup=("m",)) as server:
        file = tmp_path / "m" / "1" / "model.py"
        good = file.read_text()
        file.write_text("raise RuntimeError('no')")
        with pytest.raises(InferenceError) as caught:
            await server.load("m")
        assert caught.value.status is Status.INVALID_ARG
        assert caught.value.message.startswith(
            "load failed for model 'm': version 1 is at UNAVAILABLE state: "
            "Internal: RuntimeError: no"
        )
        assert await ask(server) == 1
        assert states(server) == [("m", 1, "READY", "")]
        (tmp_path / "m" / "config.pbtxt").write_text("nonsense")
        with pytest.raises(InferenceError, match="failed to poll from model repository"):
            await server.load("m")
        assert await ask(server) == 1
        (tmp_path / "m" / "config.pbtxt").write_text(CONFIG)
        file.write_text(good.replace("int32(1)", "int32(7)"))
        await server.load("m")
        assert await ask(server) == 7


async def test_all_versions_or_none(start: Start, tmp_path: Path) -> None:
    config = CONFIG + "version_policy { all {} }"
    add_model(tmp_path, "m", config, adds(1))
    folder = tmp_path / "m" / "2"
    folder.mkdir()
    (folder / "model.py").write_text("raise RuntimeError('not this one')")
    async with start(mode=ControlMode.EXPLICIT) as server:
        with pytest.raises(InferenceError, match="version 2 is at UNAVAILABLE state"):
            await server.load("m")
        assert [(number, state) for _, number, state, _ in states(server)] == [
            (1, "UNAVAILABLE"),
            (2, "UNAVAILABLE"),
        ]
        assert not server.ready
        (folder / "model.py").write_text((tmp_path / "m" / "1" / "model.py").read_text())
        await server.load("m")
        assert [await ask(server, 0, version) for version in ("", "1", "2")] == [1, 1, 1]
        assert server.find("m").version == 2


@pytest.mark.parametrize(("number", "served"), [(0, []), (1, [3]), (2, [2, 3]), (9, [1, 2, 3])])
async def test_the_latest_versions(
    start: Start, tmp_path: Path, number: int, served: list[int]
) -> None:
    config = CONFIG + f"version_policy {{ latest {{ num_versions: {number} }} }}"
    add_model(tmp_path, "m", config, adds(1))
    for version in ("2", "3"):
        shutil.copytree(tmp_path / "m" / "1", tmp_path / "m" / version)
    async with start() as server:
        assert [model.version for model in server.models] == served


async def test_a_reload_leaves_what_has_not_changed(start: Start, tmp_path: Path) -> None:
    config = CONFIG + "version_policy { specific { versions: [1, 2] } }"
    add_model(tmp_path, "m", config, adds(1))
    folder = tmp_path / "m"
    for version, number in ((2, 2), (3, 3)):
        (folder / str(version)).mkdir()
        text = (folder / "1" / "model.py").read_text()
        (folder / str(version) / "model.py").write_text(
            text.replace("int32(1)", f"int32({number})")
        )
    async with start(mode=ControlMode.EXPLICIT) as server:
        await server.load("m")
        before = [server.find("m", version) for version in ("1", "2")]
        second = folder / "2" / "model.py"
        second.write_text(second.read_text().replace("int32(2)", "int32(20)"))
        config_file = folder / "config.pbtxt"
        config_file.write_text(config_file.read_text().replace("[1, 2]", "[1, 2, 3]"))
        await server.load("m")
        assert [await ask(server, version=one) for one in ("1", "2", "3")] == [1, 20, 3]
        assert server.find("m", "1") is before[0]
        assert server.find("m", "2") is not before[1]
        kept = server.find("m", "3")
        (folder / "helper.py").touch()  # which each of them might import
        await server.load("m")
        assert server.find("m", "1") is not before[0]
        assert server.find("m", "3") is not kept
        assert [await ask(server, version=one) for one in ("1", "2", "3")] == [1, 20, 3]
        config_file.write_text(config_file.read_text().replace("[1, 2, 3]", "[3]"))
        kept = server.find("m", "3")
        await server.load("m")
        assert server.find("m") is kept
        with pytest.raises(InferenceError, match="version 1 is not at ready state"):
            server.find("m", "1")


async def test_control_needs_explicit_mode(start: Start, tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG, adds(1))
    async with start() as server:
        for verb in (server.load, server.unload):
            with pytest.raises(InferenceError) as caught:
                await verb("m")
            assert caught.value.status is Status.UNAVAILABLE
            assert caught.value.message == (
                "explicit model load / unload is not allowed if polling is enabled"
            )


@pytest.mark.parametrize("name", ["../m", "..", " ", ""])
async def test_names_that_are_no_model(start: Start, tmp_path: Path, name: str) -> None:
    async with start(mode=ControlMode.EXPLICIT) as server:
        with pytest.raises(InferenceError, match="odel name") as caught:
            await server.load(name)
        assert caught.value.status is Status.INVALID_ARG


async def test_polling_follows_the_repository(start: Start, tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG, adds(1))
    async with start(mode=ControlMode.POLL, poll_seconds=0.1) as server:
        assert await ask(server) == 1
        add_model(tmp_path, "n", CONFIG, adds(5))
        await until(lambda: [state[0] for state in states(server)] == ["m", "n"] and server.ready)
        assert await ask(server, model="n") == 5
        file = tmp_path / "m" / "1" / "model.py"
        file.write_text(file.read_text().replace("int32(1)", "int32(2)"))

        async def answers_two() -> bool:
            return await ask(server) == 2

        await until(answers_two)
        os.rename(tmp_path / "n", tmp_path / ".n")
        await until(lambda: ("n", 1, "UNAVAILABLE", "unloaded") in states(server))


async def test_polling_meets_a_name_in_two_repositories(start: Start, tmp_path: Path) -> None:
    """Nobody is served by either; the one that is left in the end is loaded."""
    first, second = tmp_path / "first", tmp_path / "second"
    add_model(first, "m", CONFIG, adds(1))
    second.mkdir()
    mode = ControlMode.POLL
    async with start(first, second, mode=mode, poll_seconds=0.1) as server:
        assert await ask(server) == 1
        add_model(tmp_path, "m", CONFIG, adds(2))
        os.rename(tmp_path / "m", second / "m")
        await until(lambda: states(server) == [("m", 1, "UNAVAILABLE", "unloaded")])
        assert server.ready
        os.rename(first / "m", tmp_path / "m")
        await until(lambda: states(server) == [("m", 1, "READY", "")])
        assert await ask(server) == 2


async def test_overrides(start: Start, tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG, adds(1))
    config = {
        "backend": "python",
        "input": [{"name": "IN", "data_type": "TYPE_INT32", "dims": [1]}],
        "output": [{"name": "OUT", "data_type": "TYPE_INT32", "dims": [1]}],
        "version_policy": {"all": {}},
    }
    code = (tmp_path / "m" / "1" / "model.py").read_text().replace("int32(1)", "int32(9)").encode()
    async with start(mode=ControlMode.EXPLICIT) as server:
        await server.load("m", json.dumps(config), {"3/model.py": code})
        assert await ask(server) == 9
        assert server.find("m").version == 3
        folder = next(iter(server._models.values())).entry.folder  # type: ignore[union-attr]
        assert folder.exists()
        await server.load("m")  # back to what is on disk
        assert await ask(server) == 1
        await until(lambda: not folder.exists())
        one = {"instance_group": {"kind": "KIND_CPU", "count": 2}}
        await server.load("m", json.dumps(config | {"max_batch_size": 4} | one))
        assert len(server.find("m").instances) == 2
        assert server.find("m").config.max_batch_size == 4
        await server.load("m")  # its files are as they were, and so the client's config stays
        assert server.find("m").config.max_batch_size == 4
        await server.load("m", json.dumps(config).replace('"dims"', "dims"))  # as protobuf reads it
        assert server.find("m").config.max_batch_size == 0
        await server.load("new", json.dumps(config), {"/1/model.py": code})
        assert await ask(server, model="new") == 9


@pytest.mark.parametrize(
    ("config", "files", "expected"),
    [
        (None, {"1/model.py": b""}, "'config' must be specified for model file override"),
        ("{", {}, "Invalid config override"),
        ('{backend: "a: b",', {}, "Invalid config override"),
        ('{"nonsense": 1}', {}, "nonsense"),
        ("{}", {"../escape.py": b""}, "leaves the model's folder"),
        ("{}", {"/../escape.py": b""}, "leaves the model's folder"),
        ("{}", {"1/../../escape.py": b""}, "leaves the model's folder"),
        ("{}", {"1/a\0b": b""}, r"file override '1/a\\x00b' is no path"),
        ('{"name": "other"}', {"1/model.py": b""}, "failed to load 'm', .*for model 'other'"),
        ("{}", {"A" * 256: b""}, "failed to poll from model repository: File name too long"),
    ],
)
async def test_bad_overrides(
    start: Start,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    config: str | None,
    files: dict[str, bytes],
    expected: str,
) -> None:
    add_model(tmp_path, "m", CONFIG, adds(1))
    async with start(mode=ControlMode.EXPLICIT) as server:
        with pytest.raises(InferenceError, match=expected):
            await server.load("m", config, files)
        assert re.search(expected, caplog.text)
        assert not (tmp_path / "escape.py").exists()


async def test_a_name_that_no_folder_has(start: Start) -> None:
    async with start(mode=ControlMode.EXPLICIT) as server:
        with pytest.raises(InferenceError, match=r"invalid model name 'a\\x00b'") as caught:
            await server.load("a\0b", "{}", {"1/model.py": b""})
        assert caught.value.status is Status.INVALID_ARG


async def test_a_missing_model(start: Start, tmp_path: Path) -> None:
    async with start(mode=ControlMode.EXPLICIT) as server:
        with pytest.raises(InferenceError) as caught:
            await server.load("nothing")
        assert caught.value.status is Status.INTERNAL
        assert caught.value.message == (
            "failed to load 'nothing', failed to poll from model repository"
        )


async def test_retries(start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    head = f"import os; os.path.exists({str(mark)!r}) or (open({str(mark)!r}, 'w'), 1 / 0)"
    add_model(tmp_path, "m", CONFIG, adds(1, head))
    async with start(mode=ControlMode.EXPLICIT, retries=1) as server:
        await server.load("m")
        assert await ask(server) == 1


async def test_readiness_of_a_model(start: Start, tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG, adds(1))
    async with start(mode=ControlMode.EXPLICIT, startup=("m",)) as server:
        assert server.model_ready("m")
        assert server.model_ready("m", "1")
        await server.unload("m")
        assert not server.model_ready("m")
        assert not server.model_ready("m", "1")
        for name, version in (("n", ""), ("m", "7")):
            with pytest.raises(InferenceError, match="is not found"):
                server.model_ready(name, version)
