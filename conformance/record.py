"""A pytest plugin: writes down each case of somebody else's test file as it begins and ends.

run.py starts `pytest -p conformance.record` in a process of its own. One JSON object a line, so
that what had been reached is known even when the process had to be killed.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from _pytest.unittest import TestCaseFunction

OUT = "NERITE_CONFORMANCE_OUT"
ONLY = "NERITE_CONFORMANCE_ONLY"


def _name(item: pytest.Item) -> str:
    return item.nodeid.split("::", 1)[-1].replace("::", ".")


def _wanted(name: str, only: list[str]) -> bool:
    parts = name.split("[")[0].split(".")
    return any(one in (name, parts[0], parts[-1], ".".join(parts)) for one in only)


class Recorder:
    """What happened, a line for each event."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names: dict[str, str] = {}
        self._ended: dict[str, tuple[str, str]] = {}

    def _write(self, event: str, case: str, **more: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"event": event, "case": case, **more}) + "\n")

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        only = json.loads(os.environ.get(ONLY, "[]"))
        kept = [item for item in items if not only or _wanted(_name(item), only)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
        for item in kept:
            self._names[item.nodeid] = _name(item)
            self._write("found", _name(item))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._ended[nodeid] = ("passed", "")
        self._write("begin", self._names[nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome, _ = self._ended[report.nodeid]
        if report.outcome == "passed" or outcome == "failed":
            return
        self._ended[report.nodeid] = (report.outcome, _told(report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        outcome, told = self._ended[nodeid]
        self._write("end", self._names[nodeid], outcome=outcome, told=told)


def _told(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(report.longrepr if crash is None else crash.message)[-2000:]


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get(OUT)
    if path:
        # Triton's base class counts on what unittest's own result has, and pytest's has not.
        for name, value in {"testsRun": 0, "errors": [], "failures": []}.items():
            setattr(TestCaseFunction, name, value)
        config.pluginmanager.register(Recorder(Path(path)), "conformance-recorder")
