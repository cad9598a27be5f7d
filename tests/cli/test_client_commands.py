"""`nerite models`, `jobs`, `bench` and `completion`, against a real server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nerite.cli import main

Run = Callable[..., int]
FLOAT = r"\d+\.\d+(?:e-\d+)?"


@pytest.fixture
def run(painter_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command in an empty folder, with that server's address in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NERITE_URL", painter_server.url)
    return lambda *arguments: main(list(arguments))


def test_models_are_listed(run: Run, capsys: Any) -> None:
    assert run("models") == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["MODEL", "STATE"]
    assert line.startswith("painter  READY  paints: the default, 128x128, 20 steps, ")
    for arguments in (["list", "--format", "json"], ["--format", "json", "list"]):
        assert run("models", *arguments) == 0
        assert json.loads(capsys.readouterr().out)[0]["size"] == [128, 128]


def test_the_state_of_a_model(run: Run, capsys: Any) -> None:
    assert run("models", "state", "painter") == 0
    assert "schedulers: ddim, " in capsys.readouterr().out
    assert run("models", "state", "sculptor") == 1
    said = capsys.readouterr().err
    assert said == "nerite models: the server has no model 'sculptor'.\n"


def test_models_are_loaded_and_unloaded(
    start_server: Any, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    name = "stable_diffusion_1_5"
    flags = ["--model-control-mode", "explicit", "--strict-readiness", "false"]
    server = start_server("--model-repository", str(models), *flags)
    monkeypatch.setenv("NERITE_URL", server.url)
    assert main(["models", "state", name]) == 1
    assert main(["models", "load", name]) == 0
    assert f"{name}  READY\n  paints: the default, 128x128, 4 steps" in capsys.readouterr().out
    # As the tutorial's client asks for it.
    monkeypatch.chdir(models)
    prompt = "butterfly in new york, 4k, realistic"
    assert main(["bench", "--model", name, "--prompt", prompt, "--save-image"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"Client: 0 Throughput: {FLOAT} Avg\. Latency: {FLOAT}", first)
    assert re.fullmatch(rf"Throughput: {FLOAT} Total Time: {FLOAT}", second)
    with Image.open("client_0_generated_image_0.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (128, 128))
    assert main(["models", "unload", name]) == 0
    assert "READY" not in capsys.readouterr().out


def test_what_stands_before_the_verb_counts(run: Run, capsys: Any) -> None:
    assert run("jobs", "--url", "http://127.0.0.1:1", "list") == 1
    assert "no server answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_loading_where_it_is_not_allowed_says_so(run: Run, capsys: Any) -> None:
    assert run("models", "unload", "painter") == 1
    assert "nerite models: explicit model load / unload is not allowed" in capsys.readouterr().err


def test_a_job_from_its_start_to_its_end(run: Run, capsys: Any, tmp_path: Path) -> None:
    wish = ["submit", "a red house", "--steps", "4", "--seed", "7", "--idempotency-key", "house"]
    assert run("jobs", *wish) == 0
    id = capsys.readouterr().out.strip()
    assert run("jobs", *wish) == 0
    assert capsys.readouterr().out.strip() == id
    assert run("jobs", "wait", id) == 0
    assert capsys.readouterr().out == "a-red-house.png  seed 7\n"
    with Image.open(tmp_path / "a-red-house.png") as image:
        assert (image.size, image.info["seed"]) == ((128, 128), "7")
    assert run("jobs", "show", id) == 0
    assert f"{id}  succeeded\n  prompt: a red house\n" in capsys.readouterr().out
    assert run("jobs") == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert listed[0] == ["JOB", "STATUS", "AGE", "PROMPT"]
    assert [id, "succeeded"] in [line[:2] for line in listed]
    assert run("jobs", "cancel", id) == 0
    assert capsys.readouterr().out == f"{id}  deleted\n"
    assert run("jobs", "show", id) == 1
    assert "there is no job" in capsys.readouterr().err


def test_a_job_that_is_cancelled(run: Run, capsys: Any) -> None:
    assert run("jobs", "submit", "a tree", "--steps", "500", "--n", "4") == 0
    id = capsys.readouterr().out.strip()
    assert run("jobs", "cancel", id, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["id"] == id
    assert run("jobs", "wait", id) == 1
    assert f"job {id} cancelled" in capsys.readouterr().err


def test_bench_of_several_clients(run: Run, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a tree\n\na house\n")
    wish = ["--clients", "2", "--requests", "2", "--static-batch-size", "2", "--save-image"]
    wish += ["--prompts", "prompts.txt", "--histogram", "latency.png", "--steps", "2"]
    assert run("bench", *wish) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" Throughput")[0] for line in lines[:2]] == ["Client: 0", "Client: 1"]
    assert lines[2].startswith("Throughput: ")
    assert lines[3].startswith("Pictures: 8, ")
    assert re.fullmatch(rf"Latency: p50 {FLOAT} s  p90 .*  p99 .*  max {FLOAT} s", lines[4])
    stems = [f"client_{client}_generated_image_{number}" for client in "01" for number in "01"]
    wanted = [f"{stem}{second}.jpg" for stem in stems for second in ("", "_1")]
    assert sorted(file.name for file in tmp_path.glob("*.jpg")) == sorted(wanted)
    with Image.open(tmp_path / "latency.png") as image:
        assert len(set(image.get_flattened_data())) > 3


def test_bench_of_arrivals_with_previews(run: Run, capsys: Any) -> None:
    wish = ["--requests", "3", "--rate", "20", "--previews", "2", "--steps", "4", "--warm-up", "1"]
    assert run("bench", *wish, "--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["requests"], told["failed"], told["pictures"]) == (3, 0, 3)
    assert told["arrivals_per_second"] == 20
    assert 0 < told["first_preview"]["p50"] < told["latency"]["p50"]


def test_bench_watches_the_gpu(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = tmp_path / "bin" / "nvidia-smi"
    watcher.parent.mkdir()
    watcher.write_text('#!/bin/sh\necho "$@" > "$3"\nexec sleep 60\n')
    watcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{watcher.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("nerite.commands.bench._SMI_SECONDS", 1.0)
    assert run("bench", "--launch-nvidia-smi", "--steps", "1") == 0
    assert (tmp_path / "nvidia_smi_output.txt").read_text() == "dmon -f nvidia_smi_output.txt\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prompts", "none.txt"], "none.txt: No such file or directory."),
        (["--prompts", "/dev/null"], "/dev/null holds no prompt; it has one in each line."),
        (["--static-batch-size", "11"], "--static-batch-size is 11: "),
        (["--histogram", "a.svg"], "cannot draw a.svg: its name must end in .png."),
        (["--steps", "0"], "Invalid 'steps': 0"),
        (["--model", "sculptor"], "The model 'sculptor' does not exist"),
    ],
)
def test_what_bench_cannot_do_is_one_sentence(
    run: Run, capsys: Any, arguments: list[str], sentence: str
) -> None:
    assert run("bench", *arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("nerite bench: ") and said.count("\n") == 1
    assert sentence in said


def completions(url: str, line: str) -> list[str]:
    """What argcomplete would tell a shell at the end of `line`."""
    code = "from nerite.cli import main; main()"
    told = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "NERITE_URL": url}
    with open(os.devnull) as nothing:
        read, write = os.pipe()
        process = subprocess.Popen(
            [
                "bash",
                "-c",
                'exec "$0" -c "$1" 8>&"$2" 9>/dev/null',
                sys.executable,
                code,
                str(write),
            ],
            env=os.environ | told | {"_ARGCOMPLETE_IFS": "\n"},
            pass_fds=[write],
            stdin=nothing,
        )
    os.close(write)
    with os.fdopen(read) as answer:
        found = answer.read()
    assert process.wait(60) == 0
    return [word.strip() for word in found.split("\n")]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("nerite gen", "generate"),
        ("nerite models l", "load"),
        ("nerite bench --cli", "--clients"),
        ("nerite serve --model-cont", "--model-control-mode"),
        ("nerite serve --model-control-mode e", "explicit"),
        ("nerite generate --model p", "painter"),
        ("nerite models state p", "painter"),
        ("nerite completion f", "fish"),
    ],
)
def test_tab_completes(painter_server: Any, line: str, found: str) -> None:
    assert found in completions(painter_server.url, line)


def test_tab_without_a_server_is_silent() -> None:
    assert completions("127.0.0.1:1", "nerite generate --model p") == [""]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_told(shell: str, capsys: Any) -> None:
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "nerite" in code and "_ARGCOMPLETE" in code
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=code, text=True).returncode == 0
