"""Which models an ensemble needs, and in what order models load. The lifecycle asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from nerite.core.errors import InferenceError
from nerite.repository.ensemble import steps
from nerite.repository.problem import Breach
from nerite.repository.repository import ModelEntry, key_of

Load = Callable[[ModelEntry], Awaitable[None]]
Graph = dict[str, list[str]]  # of each model's key, the keys of those that it needs


def needs(entry: ModelEntry | None) -> list[str]:
    """The models of an ensemble's steps, each once; none of any other model."""
    return list(dict.fromkeys(step.model_name for step in steps(entry.config))) if entry else []


def meant(entry: ModelEntry, name: str, known: Mapping[str, ModelEntry]) -> ModelEntry | None:
    """The model that an ensemble means by a step's name: the one of its own namespace, else the
    only one of that name; None where there is none, or no saying which."""
    own = known.get(key_of(entry.namespace, name))
    if own is not None or not entry.namespace:
        return own
    found = [one for one in known.values() if one.name == name]
    return found[0] if len(found) == 1 else None


def with_needs(entries: Iterable[ModelEntry], known: Mapping[str, ModelEntry]) -> list[ModelEntry]:
    """`entries`, and of those known what they need."""
    found: dict[str, ModelEntry] = {}
    waiting = list(entries)
    while waiting:
        entry = waiting.pop(0)
        if entry.key not in found:
            found[entry.key] = entry
            needed = (meant(entry, name, known) for name in needs(entry))
            waiting += [one for one in needed if one is not None]
    return list(found.values())


def graph_of(known: Mapping[str, ModelEntry]) -> Graph:
    """What each needs of the others."""
    graph: Graph = {}
    for key, entry in known.items():
        needed = [meant(entry, name, known) for name in needs(entry)]
        graph[key] = [one.key for one in needed if one is not None]
    return graph


async def in_order(
    entries: Sequence[ModelEntry], graph: Graph, circles: Mapping[str, Breach], load: Load
) -> dict[str, InferenceError]:
    """`load` all of them, each after those of them that it needs; the errors by key.

    circles: the ensembles that need themselves. They wait for nobody.
    """
    tasks: dict[str, asyncio.Task[None]] = {}

    async def wait_and_load(entry: ModelEntry) -> None:
        if entry.key not in circles:
            before = [tasks[key] for key in graph[entry.key] if key in tasks]
            await asyncio.gather(*before, return_exceptions=True)
        await load(entry)

    for entry in entries:
        tasks[entry.key] = asyncio.get_running_loop().create_task(wait_and_load(entry))
    results = await asyncio.gather(*tasks.values(), return_exceptions=True)
    errors = {}
    for key, result in zip(tasks, results, strict=True):
        if isinstance(result, InferenceError):
            errors[key] = result
        elif result is not None:
            raise result
    return errors


def find_circles(graph: Mapping[str, Sequence[str]]) -> dict[str, Breach]:
    """Of models and what they need: those that need themselves, and what to say."""
    found = {}
    for start in graph:
        last = _way_back(graph, start)
        if last is not None:
            found[start] = Breach(
                f"circular dependency between ensembles: {start} -> ... -> {last} -> {start}.",
                ("ensemble_scheduling", "step"),
                "An ensemble's steps must not lead back to it: mend those in "
                f"{start}/config.pbtxt, or of one behind it.",
            )
    return found


def _way_back(graph: Mapping[str, Sequence[str]], start: str) -> str | None:
    """The last model before `start` on a way from it to itself; None where there is none."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        for needed in graph.get(name, ()):
            if needed == start:
                return name
            if needed not in seen:
                seen.add(needed)
                waiting.append(needed)
    return None
