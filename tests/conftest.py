"""Fixtures for every test folder: services that may be missing."""

import os
import shutil
from collections import Counter
from collections.abc import Callable

import pytest

REQUIRE = "NERITE_TEST_REQUIRE_SERVICES"
# What a test may ask for, and the command whose presence shows that it is there.
SERVICES = {"chromium": "chromium", "redis": "redis-server"}

_missing: Counter[str] = Counter()


@pytest.fixture
def service() -> Callable[[str], str]:
    """`service("redis")` is the path of its command; without it the test is skipped, loudly."""
    return find_service


def find_service(name: str) -> str:
    path = shutil.which(SERVICES[name])
    if path is not None:
        return path
    _missing[name] += 1
    if os.environ.get(REQUIRE):
        pytest.fail(f"{name} is not installed and {REQUIRE} is set", pytrace=False)
    pytest.skip(f"{name} is not installed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _missing and not os.environ.get(REQUIRE):
        tests = ", ".join(f"{count} for {name}" for name, count in sorted(_missing.items()))
        terminalreporter.write_line(
            f"SERVICES MISSING: tests skipped, {tests}; `.ci/run` shows how to install them",
            red=True,
            bold=True,
        )
