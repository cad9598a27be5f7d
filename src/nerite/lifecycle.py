"""Lifecycle: the models by name, loaded and unloaded in the order that ensembles need.

What a model.py asks of other models (BLS) is not known at load, and orders nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from nerite.core.errors import InferenceError, invalid
from nerite.model import Model
from nerite.repository.ensemble import check_steps, steps
from nerite.repository.repository import ModelEntry
from nerite.versions import UNLOADED, LoadModel, Versions

Load = Callable[[ModelEntry], Awaitable[None]]


def needs(entry: ModelEntry | None) -> list[str]:
    """The models of an ensemble's steps, each once; none of any other model."""
    return list(dict.fromkeys(step.model_name for step in steps(entry.config))) if entry else []


def with_needs(entries: Iterable[ModelEntry], known: Mapping[str, ModelEntry]) -> list[ModelEntry]:
    """`entries`, and of those known what they need."""
    found: dict[str, ModelEntry] = {}
    waiting = list(entries)
    while waiting:
        entry = waiting.pop(0)
        if entry.name not in found:
            found[entry.name] = entry
            waiting += [known[name] for name in needs(entry) if name in known]
    return list(found.values())


async def in_order(
    entries: Sequence[ModelEntry], circles: Mapping[str, str], load: Load
) -> dict[str, InferenceError]:
    """`load` all of them, each after those of them that it needs; the errors by name.

    circles: the ensembles that need themselves. They wait for nobody.
    """
    tasks: dict[str, asyncio.Task[None]] = {}

    async def wait_and_load(entry: ModelEntry) -> None:
        if entry.name not in circles:
            before = [tasks[name] for name in needs(entry) if name in tasks]
            await asyncio.gather(*before, return_exceptions=True)
        await load(entry)

    for entry in entries:
        tasks[entry.name] = asyncio.get_running_loop().create_task(wait_and_load(entry))
    results = await asyncio.gather(*tasks.values(), return_exceptions=True)
    errors = {}
    for name, result in zip(tasks, results, strict=True):
        if isinstance(result, InferenceError):
            errors[name] = result
        elif result is not None:
            raise result
    return errors


class Lifecycle:
    """Belongs to the server's loop."""

    def __init__(self, load_model: LoadModel) -> None:
        self.models: dict[str, Versions] = {}
        self._load_model = load_model
        self._loading: list[tuple[set[str], asyncio.Event]] = []  # what is, until the event

    def versions(self, name: str) -> Versions:
        if name not in self.models:
            self.models[name] = Versions(name, self._load_model)
        return self.models[name]

    async def load(self, entries: Iterable[ModelEntry]) -> dict[str, InferenceError]:
        """Load what has changed, and again the ensembles that need it; the errors by name.

        Nothing is raised: the states tell as well.
        """
        news = [entry for entry in entries if not self.versions(entry.name).holds(entry)]
        names = {entry.name for entry in news}
        again = [entry for entry in self._dependents(names) if entry.name not in names]
        circles = self._circles([*news, *again])

        async def load(entry: ModelEntry) -> None:
            versions = self.versions(entry.name)
            try:
                if entry.name in circles:
                    raise invalid(circles[entry.name])
                if entry.error is None:
                    self.parts(entry)
            except InferenceError as error:
                await versions.refuse(entry, error, error.message)
            await versions.load(entry, again=entry.name not in names)

        underway = (names | {entry.name for entry in again}, asyncio.Event())
        self._loading.append(underway)
        try:
            return await in_order([*news, *again], circles, load)
        finally:
            self._loading.remove(underway)
            underway[1].set()

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Unload a model, and with it the ensembles that need it.

        Waits for what is being loaded together with it: an ensemble finds what it needs.

        dependents: also what was loaded only because this ensemble needed it.
        """
        while underway := [event for names, event in self._loading if name in names]:
            await underway[0].wait()
        if name not in self.models:
            return
        needed = needs(self.models[name].wanted)
        await self.models[name].unload()
        for entry in self._dependents([name]):
            try:
                self.parts(entry)
            except InferenceError as error:
                with contextlib.suppress(InferenceError):
                    await self.models[entry.name].refuse(entry, error, UNLOADED)
        for spare in self._spare(needed) if dependents else ():
            await self.unload(spare, dependents=True)

    async def follow(self, entries: Sequence[ModelEntry]) -> None:
        """Load what is new or has changed since it was tried last, unload what is gone."""
        present = {entry.name for entry in entries}
        gone = [one for name, one in self.models.items() if name not in present and one.wanted]
        changed = [one for one in entries if self.versions(one.name).seen != one.fingerprint]
        for one in gone:
            await self.unload(one.name)
        await self.load(changed)

    def _dependents(self, names: Iterable[str]) -> list[ModelEntry]:
        """The ensembles that need one of the models, and those that need such an ensemble."""
        found: dict[str, ModelEntry] = {}
        reached = list(names)
        while reached:
            name = reached.pop(0)
            for versions in self.models.values():
                entry = versions.wanted
                if entry is not None and entry.name not in found and name in needs(entry):
                    found[entry.name] = entry
                    reached.append(entry.name)
        return list(found.values())

    def _spare(self, names: Iterable[str]) -> list[str]:
        """Those of the models that nobody asked for, and that no ensemble needs any more."""
        return [
            name
            for name in names
            if name in self.models
            and not self.models[name].explicit
            and not self._dependents([name])
        ]

    def _circles(self, entries: Iterable[ModelEntry]) -> dict[str, str]:
        """The ensembles that need themselves, by way of others or not, and what to say."""
        graph = {name: needs(versions.wanted) for name, versions in self.models.items()}
        graph.update({entry.name: needs(entry) for entry in entries})
        return find_circles(graph)

    def parts(self, entry: ModelEntry) -> list[Model]:
        """The models of an ensemble's steps, in their order, once they agree with it.

        Raises InferenceError with Triton's texts: what is missing, failed or does not fit.
        """
        if not steps(entry.config):
            return []
        missing = [name for name in needs(entry) if not self._is_there(name)]
        if missing:
            raise invalid(
                f"ensemble {entry.name} contains models that are not available or ambiguous: "
                f"{', '.join(sorted(missing))}. Mend the steps' 'model_name', or add the models."
            )
        models = [self._part(entry.name, step.model_name, step.model_version)
                  for step in steps(entry.config)]  # fmt: skip
        try:
            check_steps(entry.config, [model.config for model in models])
        except InferenceError as error:
            raise invalid(f"{error} ({entry.folder / 'config.pbtxt'})") from None
        return models

    def _is_there(self, name: str) -> bool:
        versions = self.models.get(name)
        if versions is None or versions.wanted is None:
            return False
        return bool(versions.states) and 0 not in versions.states

    def _part(self, ensemble: str, name: str, version: int) -> Model:
        """version: -1 or, as where none is given, 0 for the newest."""
        versions = self.models[name]
        model = versions.find(version if version > 0 else None)
        if model is not None:
            return model
        head = f"ensemble '{ensemble}' depends on '{name}'"
        if versions.find(None) is not None:
            text = f"{head} whose required version {version} is not loaded. Mend the step's "
            raise invalid(f"{text}'model_version', or the 'version_policy' of '{name}'.")
        if needs(versions.wanted):
            raise invalid(
                f"{head} which is not valid. Model '{name}' failed with error: {versions.reasons}"
            )
        raise invalid(
            f"{head} which has no loaded version. Model '{name}' loading failed with error: "
            f"{versions.reasons}"
        )


def find_circles(graph: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Of models and what they need: those that need themselves, and what to say."""
    found = {}
    for start in graph:
        last = _way_back(graph, start)
        if last is not None:
            found[start] = (
                f"circular dependency between ensembles: {start} -> ... -> {last} -> {start}. "
                "An ensemble's steps must not lead back to it."
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
