"""What a door takes in with a request: how much, and which headers become its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from nerite.core.errors import invalid
from nerite.core.request import Request

_RESERVED = {
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "headers",
    "binary_data_output",
}


class Forwarding:
    """Headers whose names match a pattern, in any case, become parameters of the request.

    They win over parameters of the same name: a proxy in front may say who asks, and the asker
    must not be able to say otherwise.
    """

    def __init__(self, pattern: str = "") -> None:
        self.active = bool(pattern)
        self._pattern = re.compile(pattern, re.IGNORECASE)

    def __call__(self, request: Request, headers: Iterable[tuple[str, str]]) -> Request:
        """Raises InferenceError for names that mean something else."""
        if not self.active:
            return request
        found: dict[str, str] = {}
        for name, value in headers:
            if not self._pattern.search(name):
                continue
            if name in _RESERVED or name.startswith("triton_"):
                text = f"Header '{name}' is reserved for Triton usage and cannot be forwarded."
                raise invalid(text)
            found[name] = value
        return request._replace(parameters={**request.parameters, **found})


@dataclass(frozen=True)
class Intake:
    """limit: bytes of JSON, of a raw request, and of a decompressed one."""

    limit: int = 1 << 26
    forward: Forwarding = field(default_factory=Forwarding)
