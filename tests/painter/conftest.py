"""The making of the painter lies beside ``src`` and is in no wheel: found from here."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def exported() -> Path:
    """The folder that the wheel carries."""
    return ROOT / "src/nerite/painter/repository/painter/1"
