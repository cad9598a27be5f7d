"""What `make` says when it cannot set itself up: one sentence, and nothing half installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = [
    "sh",
    "cat",
    "cksum",
    "dirname",
    "date",
    "sleep",
    "rm",
    "mkdir",
    "tail",
    "head",
    "grep",
    "uname",
]


class Clone:
    """A copy of what the set-up reads, and a path on which only `programs` are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.programs = folder / "bin"
        (self.folder / "tools").mkdir(parents=True)
        for name in ("pyproject.toml", "constraints.txt", "tools/setup.sh"):
            shutil.copy(ROOT / name, self.folder / name)
        self.programs.mkdir()
        for tool in TOOLS:
            path = shutil.which(tool)
            assert path is not None
            (self.programs / tool).symlink_to(path)

    def add_python(self, script: str) -> None:
        python = self.programs / "python3"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)

    def set_up(self, kind: str = "base", **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": str(self.programs), **environment}
        command = ["sh", "tools/setup.sh", kind]
        kept = {"HOME": os.environ.get("HOME", "/")}
        return subprocess.run(
            command, cwd=self.folder, env=kept | variables, capture_output=True, text=True
        )


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_without_python(clone: Clone) -> None:
    done = clone.set_up()
    sentence = "nerite: Python 3.11 or newer is needed, and no python3 was found on the path.\n"
    assert (done.returncode, done.stderr) == (1, sentence)


def test_with_an_old_python(clone: Clone) -> None:
    clone.add_python('case "$2" in *version_info*) exit 1;; *) echo 3.10.4;; esac')
    done = clone.set_up()
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed, and python3 here is 3.10.4" in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_the_venv_module(clone: Clone) -> None:
    clone.add_python('[ "$1" = -m ] && { echo "ensurepip is not available"; exit 1; }; exit 0')
    done = clone.set_up()
    assert done.returncode == 1
    assert "python3 has no venv module" in done.stderr
    assert not (clone.folder / ".venv").exists()


def test_without_a_network(clone: Clone) -> None:
    done = clone.set_up(
        PYTHON=sys.executable,
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_RETRIES="0",
    )
    assert done.returncode == 1
    assert "the packages could not be downloaded; check the network" in done.stderr
    # What is there cannot be trusted, and the next try must know it.
    assert (clone.folder / ".venv" / ".halfway").exists()


def test_nothing_to_set_up(clone: Clone) -> None:
    venv = clone.folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    inputs = ["pyproject.toml", "constraints.txt", "tools/setup.sh"]
    content = b"".join((clone.folder / name).read_bytes() for name in inputs)
    checksum = subprocess.run(["cksum"], input=content, capture_output=True).stdout.decode()
    (venv / ".dev").write_text(f"{clone.folder.resolve()} {checksum}")
    for kind in ("base", "dev"):
        done = clone.set_up(kind)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
