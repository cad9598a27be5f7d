"""How many cores a process may use: the engine, which imports nothing of nerite, counts itself."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nerite.core import cores
from nerite.diffusion import cores as engines_cores


@pytest.mark.parametrize("usable", [cores.usable_cores, engines_cores.usable_cores])
@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000\n", 6),
        ("150000 100000\n", 2),
        ("5000 100000", 1),
        ("900000 100000", 6),
        ("", 6),
    ],
)
def test_the_affinity_and_the_containers_quota_limit_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    usable: Callable[[Path], int],
    quota: str,
    expected: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    file = tmp_path / "cpu.max"
    assert usable(file) == 6
    file.write_text(quota)
    assert usable(file) == expected
