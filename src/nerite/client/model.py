"""A model of the server, as its list and its repository tell of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nerite.client.errors import UnexpectedAnswer

READY = "READY"
_FLAGS = ("default", "edits", "masks", "streams")
_PLAIN = ("sizes", "steps", "max_steps", "guidance_scale", "scheduler")


@dataclass(frozen=True, slots=True)
class Model:
    """state: READY, LOADING, UNLOADING or UNAVAILABLE; reason: why it is not ready, if said.

    paints: whether the images API serves it. What follows is None or False where it does not
    or where it is not known: whether it is the default, whether it edits pictures and heeds
    masks, whether it tells of its progress; its own size in pixels, width first; the sizes it
    takes ({multiple, min, max}); its usual steps and the most; its samplers.
    """

    name: str
    state: str
    reason: str = ""
    paints: bool = False
    default: bool = False
    edits: bool = False
    masks: bool = False
    streams: bool = False
    size: tuple[int, int] | None = None
    sizes: Mapping[str, Any] | None = None
    steps: int | None = None
    max_steps: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    schedulers: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return self.state == READY


def merge(listed: Any, index: Any) -> list[Model]:
    """The models of `/v1/models` and those of the repository's index, by name."""
    try:
        painting = {item["id"]: item.get("nerite") or {} for item in listed["data"]}
        states = _states(index)
        names = sorted(painting.keys() | states.keys())
        return [_model(name, states.get(name), painting.get(name)) for name in names]
    except (AttributeError, KeyError, TypeError) as error:
        raise UnexpectedAnswer("the server's answer is not a list of models.") from error


def _states(index: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """By name: the best state among a model's versions."""
    found: dict[str, tuple[str, str]] = {}
    for entry in index:
        state = entry.get("state") or "UNAVAILABLE", entry.get("reason") or ""
        if entry["name"] not in found or state[0] == READY:
            found[entry["name"]] = state
    return found


def _model(name: str, known: tuple[str, str] | None, told: Mapping[str, Any] | None) -> Model:
    told = told or {}
    state, reason = known or (str(told.get("state") or READY), "")
    size = told.get("size")
    more: dict[str, Any] = {one: bool(told.get(one)) for one in _FLAGS}
    more |= {one: told.get(one) for one in _PLAIN}
    more["size"] = (size[0], size[1]) if size else None
    more["schedulers"] = tuple(told.get("schedulers") or ())
    return Model(name, state, reason, paints=bool(told), **more)
