"""The commands a user types, as processes, against the real server."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PROMPT = "a red house in the snow at night"


def nerite(*arguments: str, cwd: Path, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nerite", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


@pytest.fixture
def generate(painter_server: Any, tmp_path: Path) -> Any:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return nerite("generate", *arguments, "--url", painter_server.url, cwd=tmp_path)

    return run


def test_help_is_what_nerite_alone_prints(tmp_path: Path) -> None:
    alone, asked = nerite(cwd=tmp_path), nerite("--help", cwd=tmp_path)
    assert alone.returncode == asked.returncode == 0
    assert alone.stdout == asked.stdout
    assert "generate" in alone.stdout


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    assert re.fullmatch(r"nerite \d+\.\d+\.\d+\n", nerite("--version", cwd=tmp_path).stdout)


def test_serve_has_a_help_of_its_own(tmp_path: Path) -> None:
    assert "--model-repository" in nerite("serve", "--help", cwd=tmp_path).stdout


def test_generate_paints(generate: Any, tmp_path: Path) -> None:
    done = generate(PROMPT, "-o", "house.png", "--seed", "3", "--steps", "4")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.fullmatch(r"house\.png  seed 3  \d+\.\d\d s\n", done.stdout)
    with Image.open(tmp_path / "house.png") as image:
        assert (image.mode, image.size) == ("RGB", (128, 128))
        assert (image.info["prompt"], image.info["seed"]) == (PROMPT, "3")
        settings = json.loads(image.info["settings"])
        assert settings.items() >= {"model": "painter", "steps": 4, "size": "128x128"}.items()


def test_the_same_seed_is_the_same_file(generate: Any, tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        done = generate(PROMPT, "-o", f"{name}.png", "--seed", seed, "--steps", "2")
        assert done.returncode == 0, done.stderr
    one, same, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert one == same != other


def test_the_seed_that_was_drawn_paints_the_picture_again(generate: Any, tmp_path: Path) -> None:
    drawn = re.search(r"seed (\d+)", generate(PROMPT, "-o", "a.png", "--steps", "2").stdout)
    assert drawn is not None
    generate(PROMPT, "-o", "b.png", "--steps", "2", "--seed", drawn[1])
    with Image.open(tmp_path / "a.png") as first, Image.open(tmp_path / "b.png") as second:
        assert np.array_equal(first, second)


def test_every_setting_reaches_the_model(generate: Any, tmp_path: Path) -> None:
    text = "--size 64x96 --n 2 --steps 3 --seed 1 --guidance-scale 4.5 --scheduler euler"
    done = generate(PROMPT, "-o", "a.png", *shlex.split(text), "--negative-prompt", "moon")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    with Image.open(tmp_path / "a-1.png") as first, Image.open(tmp_path / "a-2.png") as second:
        assert first.size == second.size == (64, 96)
        assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "0"], ["steps"]),
        (["--size", "100x128"], ["size", "100x128", "try 96x128"]),
        (["--scheduler", "magic"], ["scheduler", "magic"]),
        (["--model", "sculptor"], ["sculptor"]),
    ],
)
def test_the_servers_refusal_is_shown(
    generate: Any, arguments: list[str], words: list[str]
) -> None:
    done = generate(PROMPT, "-o", "a.png", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("nerite generate: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_demo_once_leaves_a_picture_and_no_server(tmp_path: Path) -> None:
    done = nerite("demo", "--once", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = re.search(r"^  (.+)$", done.stdout, re.MULTILINE)
    assert path is not None and Path(path[1]) == tmp_path / "nerite-demo.png"
    with Image.open(path[1]) as image:
        assert image.size == (128, 128)
    url = re.search(r"127\.0\.0\.1:(\d+)", done.stdout)
    assert url is not None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(url[1]))) != 0


def test_demo_looks_at_the_file_before_it_starts(tmp_path: Path) -> None:
    done = nerite("demo", "--once", "--output", "no/folder/a.png", cwd=tmp_path)
    sentence = "nerite demo: cannot write no/folder/a.png: there is no folder no/folder.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)


def test_demo_says_why_the_server_did_not_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = nerite("demo", "--once", "--http-port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("nerite demo: the server did not start.")
    assert str(port) in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_serves_until_it_is_stopped(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-u", "-m", "nerite", "demo", "--output", "a.png"]
    # In a session of its own, and signalled as a terminal does: the whole group at once.
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as demo:
        assert demo.stdout is not None
        said = ""
        while "/metrics" not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        time.sleep(0.2)
        os.killpg(demo.pid, number)
        assert demo.wait(30) == 0
    for way in ("nerite generate", "from nerite import", "openai", "curl", "tritonclient.grpc"):
        assert way in said


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells the server")
def test_a_demo_that_is_killed_takes_its_server_along(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "nerite", "demo"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        first = demo.stdout.readline()
        url = re.search(r"127\.0\.0\.1:(\d+)", first)
        assert url is not None, first
        demo.kill()
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(url[1]))) != 0:
                return
        time.sleep(0.1)
    pytest.fail("the server still listens")
