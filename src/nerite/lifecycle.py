"""Lifecycle: the models by key, loaded and unloaded in the order that ensembles need.

What a model.py asks of other models (BLS) is not known at load, and orders nothing. Who loads or
unloads what another one is at, as Triton has it, waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from nerite.core.errors import InferenceError, invalid
from nerite.model import Model
from nerite.repository.dependencies import (
    find_circles,
    graph_of,
    in_order,
    meant,
    needs,
    with_needs,
)
from nerite.repository.ensemble import check_steps, steps
from nerite.repository.repository import ModelEntry
from nerite.versions import UNLOADED, LoadModel, Versions

log = logging.getLogger(__name__)


class Lifecycle:
    """Belongs to the server's loop."""

    def __init__(self, load_model: LoadModel) -> None:
        self.models: dict[str, Versions] = {}
        self._load_model = load_model
        self._claims: list[tuple[set[str], asyncio.Event]] = []  # what is changing, until then

    def versions(self, entry: ModelEntry) -> Versions:
        if entry.key not in self.models:
            self.models[entry.key] = Versions(entry.name, self._load_model)
        return self.models[entry.key]

    def named(self, name: str) -> Versions | None:
        """The one model of that name, where namespaces make it part of a key.

        Raises InferenceError where there are several.
        """
        found = [one for one in self.models.values() if one.name == name]
        there = [one for one in found if one.wanted is not None]
        if len(there) > 1:
            raise invalid(
                f"There are {len(there)} identifiers of model '{name}' in global map, model "
                "namespace must be provided to resolve ambiguity."
            )
        return next(iter(there or found), None)

    async def load(
        self,
        entries: Iterable[ModelEntry],
        explicit: Iterable[ModelEntry] = (),
        *,
        inside: bool = False,
    ) -> dict[str, InferenceError]:
        """Load what has changed, and again the ensembles that need it; the errors by key.

        explicit: those that were asked for by name. inside: as `_claim` says. Nothing is raised:
        the states tell as well.
        """
        brought = {entry.key: entry for entry in entries}

        def related() -> set[str]:
            dependents = self._dependents(entry.name for entry in brought.values())
            return set(brought) | {entry.key for entry in dependents}

        async with self._claim(related, inside):
            for entry in explicit:
                self.versions(entry).explicit = True
            return await self._load(brought)

    async def _load(self, brought: Mapping[str, ModelEntry]) -> dict[str, InferenceError]:
        news = {
            key: entry for key, entry in brought.items() if not self.versions(entry).holds(entry)
        }
        dependents = self._dependents(entry.name for entry in news.values())
        again = [entry for entry in dependents if entry.key not in news]
        for key, entry in news.items():
            self.models[key].wanted = entry  # who is inside must know whose dependents these are
        graph = graph_of(self._wanted())
        circles = find_circles(graph)

        async def load(entry: ModelEntry) -> None:
            versions = self.versions(entry)
            try:
                if entry.key in circles:
                    raise invalid(str(circles[entry.key]))
                if entry.error is None:
                    self.parts(entry)
            except InferenceError as error:
                await versions.refuse(entry, error, error.message)
            await versions.load(entry, again=entry.key not in news)

        return await in_order([*news.values(), *again], graph, circles, load)

    async def unload(self, key: str, *, dependents: bool = False, inside: bool = False) -> None:
        """Unload a model, and with it the ensembles that need it and find no other.

        dependents: also what was loaded only because this ensemble needed it. inside: as `_claim`
        says.
        """

        def related() -> set[str]:
            wanted = self._wanted()
            entry = wanted.get(key)
            mine = [entry] if entry is not None else []
            below = with_needs(mine, wanted) if dependents else mine
            above = self._dependents(one.name for one in mine)
            return {key} | {one.key for one in (*below, *above)}

        async with self._claim(related, inside):
            await self._unload(key, dependents)

    async def _unload(self, key: str, dependents: bool) -> None:
        if key not in self.models:
            return
        wanted = self.models[key].wanted
        needed = [self._meant(wanted, name) for name in needs(wanted)] if wanted else []
        await self.models[key].unload()
        for entry in self._dependents([self.models[key].name]):
            with contextlib.suppress(InferenceError):
                try:
                    self.parts(entry)
                except InferenceError as error:
                    await self.models[entry.key].refuse(entry, error, UNLOADED)
                await self.models[entry.key].load(entry, again=True)
        for spare in self._spare(needed) if dependents else ():
            await self._unload(spare, dependents)

    @contextlib.asynccontextmanager
    async def _claim(self, related: Callable[[], set[str]], inside: bool) -> AsyncIterator[None]:
        """Have the models whose keys `related` gives to oneself.

        inside: a model's own code asks, and waits for nobody: it may be just what they wait for.
        All others wait before they have anything, so that nobody can wait for them.
        """
        keys = related()
        while taken := [event for held, event in self._claims if not inside and held & keys]:
            await taken[0].wait()
            keys = related()
        claim = (keys, asyncio.Event())
        self._claims.append(claim)
        try:
            yield
        finally:
            self._claims.remove(claim)
            claim[1].set()

    async def follow(self, entries: Sequence[ModelEntry]) -> None:
        """Load what is new or has changed since it was tried last, unload what is gone.

        What several folders claim is gone, too, as in Triton: nobody knows which is meant.
        """
        claimed = {entry.key: entry for entry in entries if entry.rivals}
        present = {entry.key for entry in entries if not entry.rivals}
        gone = [key for key in self._wanted() if key not in present]
        changed = [
            one
            for one in entries
            if self.versions(one).seen != one.fingerprint and one.key not in gone
        ]
        for key in gone:
            if key in claimed:
                log.error("unloading '%s': %s", claimed[key].name, claimed[key].error)
            await self.unload(key)
        await self.load(changed)

    def _dependents(self, names: Iterable[str]) -> list[ModelEntry]:
        """The ensembles that may mean one of the models, and those that may mean such an one."""
        found: dict[str, ModelEntry] = {}
        reached = list(names)
        while reached:
            name = reached.pop(0)
            for key, entry in self._wanted().items():
                if key not in found and name in needs(entry):
                    found[key] = entry
                    reached.append(entry.name)
        return list(found.values())

    def _spare(self, models: Iterable[ModelEntry | None]) -> list[str]:
        """Those of the models that nobody asked for, and that no ensemble needs any more."""
        return [
            one.key
            for one in models
            if one is not None
            and not self.models[one.key].explicit
            and not self._dependents([one.name])
        ]

    def _wanted(self) -> dict[str, ModelEntry]:
        """What was tried last of each model that is not unloaded."""
        return {key: one.wanted for key, one in self.models.items() if one.wanted is not None}

    def _meant(self, entry: ModelEntry, name: str) -> ModelEntry | None:
        return meant(entry, name, self._wanted())

    def parts(self, entry: ModelEntry) -> list[Model]:
        """The models of an ensemble's steps, in their order, once they agree with it.

        Raises InferenceError with Triton's texts: what is missing, failed or does not fit.
        """
        if not steps(entry.config):
            return []
        missing = [name for name in needs(entry) if not self._is_there(entry, name)]
        if missing:
            raise invalid(
                f"ensemble {entry.name} contains models that are not available or ambiguous: "
                f"{', '.join(sorted(missing))}. {self._remedy(entry, missing)}"
            )
        models = [self._part(entry, step.model_name, step.model_version)
                  for step in steps(entry.config)]  # fmt: skip
        try:
            check_steps(entry.config, [model.config for model in models])
        except InferenceError as error:
            raise invalid(f"{error} ({entry.folder / 'config.pbtxt'})") from None
        return models

    def _remedy(self, entry: ModelEntry, missing: Iterable[str]) -> str:
        unloaded = {one.name for one in self.models.values() if one.wanted is None}
        if unloaded.issuperset(missing):
            return "Load or add them, and the ensemble comes with them."
        return (
            f"Mend the steps' 'model_name' in {entry.folder / 'config.pbtxt'}, or add the models."
        )

    def _is_there(self, entry: ModelEntry, name: str) -> bool:
        found = self._meant(entry, name)
        if found is None:
            return False
        versions = self.models[found.key]
        return bool(versions.states) and 0 not in versions.states

    def _part(self, entry: ModelEntry, name: str, version: int) -> Model:
        """version: -1 or, as where none is given, 0 for the newest."""
        found = self._meant(entry, name)
        assert found is not None  # as `_is_there` says
        versions = self.models[found.key]
        model = versions.find(version if version > 0 else None)
        if model is not None:
            return model
        head = f"ensemble '{entry.name}' depends on '{name}'"
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
