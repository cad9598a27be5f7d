"""From an empty folder to the first picture: a clone of this repository, with no package cache.

`python benchmarks/first_picture.py`; what is committed is what is measured.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import line

ROOT = Path(__file__).parents[1]
MB = 1024 * 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "nerite")
        environment = os.environ | {"PIP_CACHE_DIR": f"{folder}/cache"}
        began = time.perf_counter()
        _run(["git", "clone", "--quiet", str(ROOT), str(clone)], environment)
        _run(["make", "demo", "ARGS=--once --output first.png"], environment, clone)
        seconds = time.perf_counter() - began
        assert (clone / "first.png").stat().st_size > 0
        line("empty folder to first picture", [seconds], "s", 60)
        line("installed, the clone included", [_size(clone) / MB], "MB", 420)
        line("packages downloaded", [_downloaded(clone, environment) / MB], "MB")


def _run(command: list[str], environment: dict[str, str], folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _size(folder: Path) -> int:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(file.stat().st_size for file in files)


def _downloaded(clone: Path, environment: dict[str, str]) -> int:
    """The bytes of the packages that were installed, which pip is asked for once more."""
    pip = [str(clone / ".venv" / "bin" / "python"), "-m", "pip"]
    installed = _run([*pip, "freeze", "--exclude-editable"], environment).split()
    target = clone.with_name("packages")
    _run([*pip, "download", "--quiet", "--no-deps", "-d", str(target), *installed], environment)
    return _size(target)


if __name__ == "__main__":
    main()
