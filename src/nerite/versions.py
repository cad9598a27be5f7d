"""Versions: one model name's loaded versions, and how they come and go."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from nerite.core.errors import InferenceError, Status, invalid
from nerite.model import Model
from nerite.repository.config import ModelConfig
from nerite.repository.repository import Fingerprint, ModelEntry

log = logging.getLogger(__name__)

LoadModel = Callable[[ModelEntry, int], Awaitable[Model]]
UNLOADED = "unloaded"
_OF_ONE = re.compile(r"[0-9]+(/|$)|config\.pbtxt$|configs(/|$)")  # or told by the config


@dataclass
class ModelState:
    """One version of a model, or (version 0) a model of which no version could be found.

    state: Triton's LOADING, READY, UNLOADING, UNAVAILABLE.
    """

    name: str
    version: int
    state: str
    reason: str = ""
    model: Model | None = None

    @property
    def gone(self) -> bool:
        """Unloaded, or about to be, as was asked."""
        return self.state == "UNLOADING" or self.reason == UNLOADED


class Versions:
    """The versions of one model. Belongs to the server's loop."""

    def __init__(self, name: str, load_model: LoadModel) -> None:
        self.name = name
        self.entry: ModelEntry | None = None  # what is loaded, None when nothing is
        self.wanted: ModelEntry | None = None  # what was tried last, loaded or not
        self.explicit = False  # asked for by name, and not only by an ensemble
        self.states: dict[int, ModelState] = {}
        self._newest: Model | None = None  # asked for with every request
        self._load_model = load_model
        self._lock = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def seen(self) -> Fingerprint:
        return self.wanted.fingerprint if self.wanted is not None else ()

    @property
    def reasons(self) -> str:
        """Why it is not there, version by version, in Triton's words."""
        return "".join(
            f"version {number} is at {state.state} state: {state.reason};"
            for number, state in self.states.items()
        )

    @property
    def failed(self) -> list[ModelState]:
        """What should be loaded and is not, also where there is nothing to have a state."""
        if not self.states and self.wanted is not None and self.wanted.error is not None:
            return [ModelState(self.name, 0, "UNAVAILABLE", self.wanted.error.message)]
        return [state for _, state in sorted(self.states.items()) if state.model is None]

    def holds(self, entry: ModelEntry) -> bool:
        """Whether just this is loaded, be it with a configuration that a client brought: that one
        stays as long as the files do."""
        found = entry.fingerprint
        return (
            bool(found)
            and not entry.overridden
            and self.entry is not None
            and self.entry.fingerprint == found
        )

    def find(self, version: int | None) -> Model | None:
        """A ready model; the newest one when no version is named."""
        if version is not None:
            state = self.states.get(version)
            return state.model if state is not None else None
        return self._newest

    def _find_newest(self) -> Model | None:
        models = [state.model for state in self.states.values() if state.model is not None]
        return max(models, key=lambda model: model.version, default=None)

    async def load(self, entry: ModelEntry, *, again: bool = False) -> None:
        """Load what `entry` says in place of what is loaded: all of its versions, or none.

        again: even if just that is loaded. Otherwise a version stays that has not changed.

        What is loaded serves on until then, and afterwards finishes what it has begun. Raises
        InferenceError with the reasons.
        """
        async with self._lock:
            if self.holds(entry) and not again:
                return
            self.wanted = entry
            for text in entry.ignored:
                log.warning("model '%s': %s", self.name, text)
            if entry.error is not None or not entry.versions:
                self._note_nothing(entry)
                return
            for version in entry.versions:
                if self.find(version) is None:
                    self.states[version] = ModelState(self.name, version, "LOADING")
            self.states.pop(0, None)
            kept = {} if again else self._kept(entry)
            news = [version for version in entry.versions if version not in kept]
            results = await asyncio.gather(
                *(self._load_model(entry, version) for version in news),
                return_exceptions=True,
            )
            loaded = dict(zip(news, results, strict=True))
            failures = {
                version: result
                for version, result in loaded.items()
                if isinstance(result, BaseException)
            }
            models = {
                version: result for version, result in loaded.items() if isinstance(result, Model)
            }
            if failures:
                self._note_failures(failures, models, entry)
            else:
                self._swap(entry, models, kept)

    def _kept(self, entry: ModelEntry) -> dict[int, Model]:
        """The loaded versions for which `entry` says what they were loaded from."""
        loaded = self.entry
        if loaded is None or loaded.folder != entry.folder or not entry.fingerprint:
            return {}
        if _shared(loaded) != _shared(entry):
            return {}
        models = {version: self.find(version) for version in entry.versions}
        return {
            version: model
            for version, model in models.items()
            if model is not None and _own(loaded, version) == _own(entry, version)
        }

    def _note_nothing(self, entry: ModelEntry) -> None:
        error = entry.error
        reason = error.message if error else "Not loaded: No model version was found"
        if self.find(None) is None:
            # Like Triton, a folder that has no config where it must have one is no model at all.
            none = error is not None and error.status is Status.NOT_FOUND
            unavailable = ModelState(self.name, 0, "UNAVAILABLE", reason)
            self.states = {} if none else {0: unavailable}
        log.error("failed to load '%s': %s", self.name, reason)
        if error is not None:
            text = f"failed to load '{self.name}', failed to poll from model repository: {reason}"
        else:
            text = f"failed to load '{self.name}', no version is available"
        raise InferenceError(Status.INTERNAL, text)

    def _note_failures(
        self, failures: dict[int, BaseException], models: dict[int, Model], entry: ModelEntry
    ) -> None:
        """What was loaded before stays; what came up with the failed ones goes again."""
        self._leave(models.values(), entry)
        reasons = {}
        for version, error in failures.items():
            if not isinstance(error, InferenceError):
                raise error
            reasons[version] = f"{error.status.value}: {error.message}"
            log.error("failed to load '%s' version %d: %s", self.name, version, reasons[version])
        for version, state in self.states.items():
            if state.model is None and version in reasons:
                self.states[version] = _unavailable(self.name, version, reasons[version])
            elif state.model is None and version in models:
                self.states[version] = _unavailable(self.name, version, UNLOADED)
        told = "".join(
            f"version {version} is at UNAVAILABLE state: {reason};"
            for version, reason in reasons.items()
        )
        raise invalid(f"load failed for model '{self.name}': {told}\n")

    def _swap(self, entry: ModelEntry, models: dict[int, Model], kept: dict[int, Model]) -> None:
        before = [
            state.model
            for state in self.states.values()
            if state.model is not None and state.model not in kept.values()
        ]
        for version in self.states:
            self.states[version] = _unavailable(self.name, version, UNLOADED)
        for version, model in {**kept, **models}.items():
            self.states[version] = ModelState(self.name, version, "READY", "", model)
        loaded = ", ".join(map(str, models)) or f"{', '.join(map(str, kept))}, as before"
        log.info("successfully loaded '%s' version %s", self.name, loaded)
        self._newest = self._find_newest()
        old, self.entry = self.entry, entry
        self._leave(before, old)

    async def unload(self) -> None:
        """Take requests no more; returns before the models are gone."""
        async with self._lock:
            self.wanted, self.explicit = None, False
            self._unload()

    def _unload(self) -> None:
        gone = []
        for version, state in self.states.items():
            if state.model is not None:
                gone.append(state.model)
                self.states[version] = ModelState(self.name, version, "UNLOADING")
        self._newest = None
        old, self.entry = self.entry, None
        self.states.pop(0, None)
        self._leave(gone, old, note=True)

    async def refuse(self, entry: ModelEntry, error: InferenceError, reason: str) -> None:
        """Serve neither `entry`, an ensemble without what it needs, nor what is loaded.

        reason: for its state. Raises InferenceError, always.
        """
        async with self._lock:
            self.wanted = entry
            self._unload()
            for version in entry.versions:
                self.states[version] = _unavailable(self.name, version, reason)
            log.error("failed to load '%s': %s", self.name, error.message)
            raise invalid(f"load failed for model '{self.name}': {error.message}\n")

    def _leave(
        self, models: Iterable[Model], entry: ModelEntry | None, *, note: bool = False
    ) -> None:
        """Close models in the background, each when its open requests have ended."""
        closing = self._close(list(models), entry, note)
        task = asyncio.get_running_loop().create_task(closing)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _close(self, models: list[Model], entry: ModelEntry | None, note: bool) -> None:
        held = sum(model.memory_bytes for model in models)
        await asyncio.gather(*(model.close(None) for model in models))
        if held:
            log.info("unloading '%s' freed %d MB with its processes", self.name, held >> 20)
        if entry is not None:
            entry.give_back()
        for model in models:
            state = self.states.get(model.version)
            if note and state is not None and state.state == "UNLOADING":
                self.states[model.version] = _unavailable(self.name, model.version, UNLOADED)
            log.info("successfully unloaded '%s' version %d", self.name, model.version)

    async def close(self, timeout: float) -> None:
        """Let open requests finish for up to `timeout` seconds, then end all."""
        models = [state.model for state in self.states.values() if state.model is not None]
        await asyncio.gather(*(model.close(timeout) for model in models))
        for model in models:
            log.info("successfully unloaded '%s' version %d", self.name, model.version)
        if self.entry is not None:
            self.entry.give_back()
        if self._leaving:
            _, late = await asyncio.wait(self._leaving, timeout=timeout)
            for task in late:
                task.cancel()


def _shared(entry: ModelEntry) -> tuple[bytes, Fingerprint]:
    """What all versions are made of: the config but for the choice of versions, and what lies
    beside their folders."""
    config = ModelConfig()
    config.CopyFrom(entry.config)
    config.ClearField("version_policy")
    files = tuple(one for one in entry.fingerprint if not _OF_ONE.match(one[0]))
    return config.SerializeToString(deterministic=True), files


def _own(entry: ModelEntry, version: int) -> Fingerprint:
    return tuple(one for one in entry.fingerprint if one[0].startswith(f"{version}/"))


def _unavailable(name: str, version: int, reason: str) -> ModelState:
    return ModelState(name, version, "UNAVAILABLE", reason)
