"""The README and the walkthroughs are replayed: commands run, files are written, servers serve.

A block's first line says what it is: ```shell runs, ```shell server goes on running until the next
one or the end, ```python client.py is a file. Plain blocks are for the reader.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs" / "walkthroughs"
ENGLISH = sorted(file for file in DOCS.glob("*.md") if not file.name.endswith(".zh.md"))
README = DOCS.parents[1] / "README.md"
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(file: Path) -> list[tuple[str, str, str]]:
    """Kind, argument and content of each block that does something."""
    return _BLOCK.findall(file.read_text(encoding="utf-8"))


@dataclass
class Replay:
    """One reader: a folder, a shell that remembers where it is, a server in another terminal."""

    folder: Path
    ports: tuple[int, int, int]
    server: subprocess.Popen[bytes] | None = None
    said: str = ""

    def step(self, kind: str, argument: str, content: str) -> None:
        for usual, ours in zip((8000, 8001, 8002), self.ports, strict=True):
            content = content.replace(f":{usual}", f":{ours}")
        if kind == "shell" and argument == "server":
            self._serve(content)
        elif kind == "shell":
            self._run(content)
        else:
            (self.folder / argument).write_text(content, encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        bin_folder = str(Path(sys.executable).parent)
        names = ("NERITE_HTTP_PORT", "NERITE_GRPC_PORT", "NERITE_METRICS_PORT")
        ports = dict(zip(names, map(str, self.ports), strict=True))
        return os.environ | ports | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}

    def _run(self, content: str) -> None:
        content = content.replace("nerite generate", f"nerite generate --url {self._url}")
        script = f"set -euo pipefail\n{content}\npwd > {self.folder.parent}/where"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{content}\n{done.stdout}\n{done.stderr}"
        self.said += done.stdout
        where = (self.folder.parent / "where").read_text(encoding="utf-8").strip()
        self.folder = Path(where)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def _serve(self, content: str) -> None:
        self.close()
        self.server = server = subprocess.Popen(
            ["bash", "-c", f"exec {content}"], cwd=self.folder, env=self._environment()
        )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and server.poll() is None:
            try:
                with urlopen(f"{self._url}/v2/health/ready", timeout=5) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"the server of the walkthrough is not ready: {content}")

    def close(self) -> None:
        """The reader presses Ctrl-C where the server runs."""
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            assert self.server.wait(30) == 0


@pytest.fixture
def replay(tmp_path: Path, free_ports: tuple[int, int, int]) -> Iterator[Replay]:
    folder = tmp_path / "reader"
    folder.mkdir()
    replay = Replay(folder, free_ports)
    yield replay
    replay.close()


@pytest.mark.parametrize("file", [README, *ENGLISH], ids=lambda file: file.stem)
def test_its_commands_work(file: Path, replay: Replay) -> None:
    steps = blocks(file)
    assert any(argument == "server" for _, argument, _ in steps)
    for step in steps:
        replay.step(*step)
    pictures = list(replay.folder.glob("*.png"))
    assert bool(pictures) == (".png" in file.read_text(encoding="utf-8"))
    for picture in pictures:
        with Image.open(picture) as image:
            assert image.size == (128, 128)


@pytest.mark.parametrize("file", ENGLISH, ids=lambda file: file.stem)
def test_the_chinese_page_has_the_same_commands(file: Path) -> None:
    assert blocks(file.with_suffix(".zh.md")) == blocks(file)


def test_the_chinese_readme_says_the_same() -> None:
    """Commands, links and figures; how it says them is for a reader to judge."""
    chinese = README.with_suffix(".zh-CN.md")
    assert blocks(chinese) == blocks(README)
    ours, theirs = (file.read_text(encoding="utf-8") for file in (chinese, README))
    link = re.compile(r"\]\(([^)]+?)(?:\.zh)?(?:\.md)?\)")
    assert set(link.findall(ours)) - {"README"} == set(link.findall(theirs)) - {"README.zh-CN"}
    figure = re.compile(r"\d[\d.]* (?:s|MB|GB)\b")
    assert sorted(figure.findall(ours)) == sorted(figure.findall(theirs))
    assert ours.count("\n## ") == theirs.count("\n## ")
