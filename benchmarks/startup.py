"""How soon the server is ready, what its front process weighs, what the base package installs.

`python benchmarks/startup.py [--runs N]`; the goals are those of a laptop with two cores.
"""

import argparse
import importlib.metadata
import os
import tempfile
import time
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from serving import line, serve

MB = 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {runs} runs, medians")
    with tempfile.TemporaryDirectory() as empty:
        seconds, sizes = _measure(runs, "--model-repository", empty)
    line("front process ready, no models", seconds, "s", 0.8)
    line("front process resident, no models", sizes, "MB")
    seconds, sizes = _measure(runs)
    line("server ready with the painter", seconds, "s", 3.0)
    line("front process resident, painter served", sizes, "MB", 110)
    line("base package installed", [_installed() / MB], "MB", 420)


def _measure(runs: int, *options: str) -> tuple[list[float], list[float]]:
    """Seconds until ready and megabytes of the front process, once per run."""
    seconds, sizes = [], []
    for _ in range(runs):
        with serve(*options) as server:
            seconds.append(server.ready_seconds)
            time.sleep(0.3)  # what start-up leaves behind is freed
            sizes.append(server.process.memory_info().rss / MB)
            workers = server.process.children(recursive=True)
        psutil.wait_procs(workers, timeout=10)
    return seconds, sizes


def _installed() -> int:
    """Bytes on disk of nerite and of all that its base dependencies bring."""
    files: set[Path] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [("nerite", "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        distribution = importlib.metadata.distribution(name)
        files.update(Path(str(distribution.locate_file(f))) for f in distribution.files or [])
        for text in distribution.requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                wanted = canonicalize_name(requirement.name)
                waiting += [(wanted, ""), *((wanted, more) for more in requirement.extras)]
    source = Path(__file__).parents[1] / "src"
    files.update(file for file in source.rglob("*") if "__pycache__" not in file.parts)
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    main()
