"""The pytest fixture `local_model`, there wherever nerite is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nerite.local import LocalModel, Standin


@pytest.fixture
def local_model() -> Iterator[Callable[..., LocalModel]]:
    """`local_model("models/pipeline", models={"resize": function})`: a LocalModel that finalizes
    with the test."""
    # Imported by the tests that use it: the plugin is loaded with every run of pytest.
    from nerite.local import LocalModel

    with ExitStack() as stack:

        def load(path: str | Path, models: Mapping[str, Standin] | None = None) -> LocalModel:
            return stack.enter_context(LocalModel(path, models))

        yield load
