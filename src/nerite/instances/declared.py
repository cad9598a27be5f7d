"""Declared: the types of a model's outputs in its config; what differs is told in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from nerite.backends.base import Config, ModelSpec
from nerite.backends.together import output_types

log = logging.getLogger(__name__)


class Declared:
    """Of one loaded model. As in Triton, whose tests rely on it, clients get what was computed and
    are told its type and shape."""

    def __init__(self, spec: ModelSpec, config: Config) -> None:
        self._types = output_types(config)
        self._code = spec.code
        self._config = f"{spec.name}/config.pbtxt"
        self._told: set[tuple[str, str]] = set()

    def look(self, outputs: Iterable[tuple[str, str]]) -> None:
        """At outputs, each given as its name and datatype; what is wrong is told once."""
        for one in outputs:
            name, datatype = one
            declared = self._types.get(name, datatype)
            if declared != datatype and one not in self._told:
                self._told.add(one)
                log.warning(
                    "output '%s' is %s, where %s declares %s: clients get it as it is. Convert it "
                    "in %s, or declare %s",
                    *(name, _written(datatype), self._config, _written(declared), self._code),
                    _written(datatype),
                )


def _written(datatype: str) -> str:
    return f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}"
