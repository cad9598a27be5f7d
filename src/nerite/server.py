"""Server: the models by name and their life. No sockets; every door asks it, and nothing else."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nerite.cache.base import Cache
from nerite.core.arguments import checked
from nerite.core.call import Call, Deliver, Responses
from nerite.core.custom_metrics import CustomMetrics
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request
from nerite.core.stats import COUNTS_ONLY, Recording
from nerite.core.turn import Turn
from nerite.lifecycle import Lifecycle
from nerite.model import Model, not_ready
from nerite.placing import Placing
from nerite.repository.dependencies import needs, with_needs
from nerite.repository.override import override
from nerite.repository.repository import ModelEntry, Repository, key_of
from nerite.telemetry import Log
from nerite.tracing.tracer import Tracer
from nerite.versions import ModelState
from nerite.waits import endless

log = logging.getLogger(__name__)


class ControlMode(enum.Enum):
    """Who decides which models are loaded: the repository at start-up, the repository at any
    time, or the requests of clients."""

    NONE = "none"
    POLL = "poll"
    EXPLICIT = "explicit"


@dataclass(frozen=True)
class Policy:
    """How a Server treats its models; the defaults are Triton's.

    startup: in EXPLICIT mode, the models to load at start-up, "*" for all. poll_seconds: between
    two looks at the repository in POLL mode; 0 leaves them to `Server.poll`. load_count: models
    that load at once. retries: of a load that failed. recording: what the models' statistics keep
    beyond counts. code_overrides: whether a load may bring files of its own, and say which code
    runs. placing: where models run, and on what.
    """

    mode: ControlMode = ControlMode.NONE
    startup: tuple[str, ...] = ()
    poll_seconds: float = 15.0
    strict_readiness: bool = True
    load_count: int = 4
    retries: int = 0
    recording: Recording = COUNTS_ONLY
    code_overrides: bool = True
    placing: Placing = Placing()


class Server:
    """Loads the models of a repository and answers for them. Belongs to one loop."""

    def __init__(
        self,
        models: Repository | str | Path,
        *,
        name: str = "triton",
        policy: Policy | None = None,
        tracer: Tracer | None = None,
        log: Log | None = None,
        cache: Cache | None = None,
    ) -> None:
        """models: a folder of models, or a Repository of several. cache: of answers, for the
        models whose configuration enables it.

        tracer, log: of this process; the doors use them, and let clients change them.
        """
        self.name = name
        self.tracer = tracer or Tracer()
        self.log = log or Log()
        self.repository = models if isinstance(models, Repository) else Repository([models])
        self.policy = policy or Policy()
        self._cache = cache
        self.custom_metrics = CustomMetrics()
        self.turn = Turn()
        self._loading = asyncio.Semaphore(self.policy.load_count)
        self._lifecycle = Lifecycle(self._load_model)
        self._models = self._lifecycle.models
        self._started = False
        self._started_with: set[str] = set()  # the models that start-up loads, by key
        self._failed = False  # to start; it answers, and is never live
        self._exiting = False
        self._polling: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Load what start-up loads. What fails is told by `states`; only a missing repository
        or cache, or an unknown start-up model raises InferenceError."""
        try:
            await self._start()
        except InferenceError:
            self._failed = True
            raise
        self._started = True

    async def _start(self) -> None:
        if self._cache is not None:
            await self._cache.start()
        entries = await asyncio.to_thread(self.repository.scan)
        known = {entry.key: entry for entry in entries}
        if self.policy.mode is ControlMode.EXPLICIT and self.policy.startup != ("*",):
            entries = self._startup(entries)
        needed = with_needs(entries, known)
        self._started_with = {entry.key for entry in needed}
        await self._lifecycle.load(needed, entries)
        if self.policy.mode is ControlMode.POLL and self.policy.poll_seconds > 0:
            self._polling = asyncio.get_running_loop().create_task(self._poll())

    def _startup(self, entries: list[ModelEntry]) -> list[ModelEntry]:
        known = {entry.name for entry in entries}
        missing = [name for name in self.policy.startup if name not in known]
        if missing:
            names = ", ".join(sorted(known)) or "none"
            text = f"failed to load '{missing[0]}': model not found in any model repository; "
            text += f"there is {names}"
            raise InferenceError(Status.NOT_FOUND, text)
        return [entry for entry in entries if entry.name in self.policy.startup]

    async def _load_model(self, entry: ModelEntry, version: int) -> Model:
        async with self._loading:
            for left in range(self.policy.retries, -1, -1):
                try:
                    return await Model.load(
                        entry,
                        version,
                        self,
                        parts=self._lifecycle.parts(entry),
                        placing=self.policy.placing,
                        recording=self.policy.recording,
                        cache=self._cache,
                    )
                except InferenceError as error:
                    if not left:
                        raise
                    log.warning("loading '%s' failed, trying again: %s", entry.name, error)
        raise AssertionError("unreachable")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self.policy.poll_seconds)
            try:
                await self.poll()
            except InferenceError as error:
                log.error("polling failed: %s", error)

    async def poll(self) -> None:
        """Follow the repository: load what is new or has changed, unload what is gone.

        Raises InferenceError outside POLL mode, and when a repository cannot be read.
        """
        if self.policy.mode is not ControlMode.POLL:
            raise InferenceError(Status.UNAVAILABLE, "polling is disabled")
        await self._lifecycle.follow(await asyncio.to_thread(self.repository.scan))

    async def load(
        self,
        name: str,
        config: str | None = None,
        files: Mapping[str, bytes] | None = None,
        *,
        inside: bool = False,
    ) -> None:
        """Load or reload a model, with `config` (JSON) and `files` in place of the repository's.

        Waits while others load or unload it, or what it needs. inside: a model's own code asks:
        it does not wait, and may bring code even where clients may not.

        Raises InferenceError with Triton's texts. An unchanged model is left as it is.
        """
        self._check_control()
        _check_name(name)
        entries = await asyncio.to_thread(self.repository.find_all, name)
        if config is not None or files:
            try:
                only = entries[0] if len(entries) == 1 else None
                code = inside or self.policy.code_overrides
                entry = await asyncio.to_thread(
                    override, name, only, config, files or {}, code=code
                )
            except InferenceError as error:
                log.error(error.message)
                raise
            entries = [entry]
        elif not entries:
            text = f"failed to load '{name}', failed to poll from model repository"
            raise InferenceError(Status.INTERNAL, text)
        needed: dict[str, ModelEntry] = {}
        for entry in entries:
            await asyncio.to_thread(self._find_needs, entry, needed)
        errors = await self._lifecycle.load(with_needs(entries, needed), entries, inside=inside)
        for entry in entries:
            if entry.key in errors:
                raise errors[entry.key]

    def _find_needs(self, entry: ModelEntry, found: dict[str, ModelEntry]) -> None:
        """Look at what an ensemble needs, and at what that needs. Blocks."""
        known = {one.name for one in found.values()}
        for name in needs(entry):
            for needed in [] if name in known else self.repository.find_all(name):
                found[needed.key] = needed
                self._find_needs(needed, found)

    async def unload(self, name: str, *, dependents: bool = False, inside: bool = False) -> None:
        """Take a model's requests no more; returns before it is gone. Unknown names are fine.

        dependents: also what was loaded only because this ensemble needed it. inside: as `load`.
        """
        self._check_control()
        for key in [key for key, one in self._models.items() if one.name == name]:
            await self._lifecycle.unload(key, dependents=dependents, inside=inside)

    def _check_control(self) -> None:
        if self.policy.mode is not ControlMode.EXPLICIT:
            text = "explicit model load / unload is not allowed if polling is enabled"
            raise InferenceError(Status.UNAVAILABLE, text)

    @property
    def live(self) -> bool:
        return not self._exiting and not self._failed

    @property
    def exiting(self) -> bool:
        return self._exiting

    @property
    def ready(self) -> bool:
        """Whether clients should come; with strict readiness every model must be ready too."""
        if not self._started or self._exiting:
            return False
        if not self.policy.strict_readiness:
            return True
        return all(one.gone or (one.model is not None and one.model.ready) for one in self.states())

    def states(self) -> list[ModelState]:
        """Every version of every model that was ever to be loaded, by name and version."""
        return [
            versions.states[number]
            for _, versions in sorted(self._models.items())
            for number in sorted(versions.states)
        ]

    @property
    def failed(self) -> list[ModelState]:
        """What start-up should have loaded and has not. What clients wish for is theirs."""
        models = [self._models[key] for key in sorted(self._started_with) if key in self._models]
        return [state for one in models for state in one.failed]

    async def index(self, *, ready: bool = False) -> list[ModelState]:
        """The repository's models, loaded or not (then with an empty state and version 0).

        ready: only the versions that are. Raises InferenceError when a repository is gone.
        """
        names = await asyncio.to_thread(self.repository.names)
        found: list[ModelState] = []
        claims = [(name, one) for name in names for one in self.repository.apart(names[name])]
        for name, folders in claims:
            if len(folders) > 1:
                reason = "model appears in two or more repositories"
                found.append(ModelState(name, 0, "UNAVAILABLE", reason))
                continue
            versions = self._models.get(key_of(self.repository.namespace(folders[0]), name))
            states = versions.states if versions is not None else {}
            found += [states[number] for number in sorted(states)]
            if not states:
                found.append(ModelState(name, 0, ""))
        return [state for state in found if not ready or state.state == "READY"]

    @property
    def models(self) -> list[Model]:
        return [state.model for state in self.states() if state.model is not None]

    def find(self, name: str, version: str = "") -> Model:
        """A loaded model; the newest ready version when none is named.

        Raises InferenceError with Triton's texts and codes.
        """
        versions = self._models.get(name) or self._lifecycle.named(name)
        if versions is None or not versions.states:
            raise _unknown(f"'{name}' is not found{self._known()}")
        number = _version(version) if version else None
        model = versions.find(number)
        if model is not None:
            return model
        if number is None:
            raise _unknown(f"'{name}' has no available versions")
        if number not in versions.states or number == 0:
            raise _unknown(f"'{name}' version {number} is not found")
        raise not_ready(name, number)

    def model_ready(self, name: str, version: str = "") -> bool:
        """Whether a model, or one version of it, is ready. InferenceError for unknown ones, which
        does not name those there are: who asks for readiness need not have a key."""
        versions = self._models.get(name) or self._lifecycle.named(name)
        number = _version(version) if version else None
        if versions is None or not versions.states:
            raise _unknown(f"'{name}' is not found")
        if number is not None and number not in versions.states:
            return self.find(name, version).ready
        model = versions.find(number)
        return model is not None and model.ready

    async def check_ready(self, name: str, version: str = "") -> bool:
        """The same, where a model is asked itself if it has something to say."""
        return self.model_ready(name, version) and await self.find(name, version).check_ready()

    def _known(self) -> str:
        names = ", ".join(f"'{name}'" for name in sorted(self._models))
        return f". The server has {names}." if names else ". The server has no models."

    def submit(self, request: Request, deliver: Deliver) -> Call:
        """Ask a model; answers are delivered, perhaps before this returns.

        Raises InferenceError when the model or the request is wrong, and then delivers nothing.
        """
        return self.taking(request.model, request.version).submit(request, deliver)

    def decoupled(self, name: str, version: str = "") -> bool:
        """Whether a model gives any number of responses. InferenceError for unknown ones."""
        return self.find(name, version).decoupled

    def endless(self, call: Call) -> bool:
        """Whether `call` waits for an instance that will not be free before `call` ends."""
        return not call.ended and endless(call, self.models)

    def infer(self, request: Request) -> Responses:
        """The same for those who await the answers, and may give arguments of wrong types."""
        request = checked(request)
        return self.taking(request.model, request.version).infer(request)

    def taking(self, name: str, version: str = "") -> Model:
        """The model that takes a request; as `find`, and InferenceError while the server stops."""
        if self._exiting:
            text = "Server is stopping, scheduler for model has stopped accepting new requests"
            raise InferenceError(Status.UNAVAILABLE, text)
        return self.find(name, version)

    async def close(self, timeout: float = 30.0) -> None:
        """Refuse new requests, let the open ones finish for up to `timeout` seconds, unload."""
        self._exiting = True
        if self._polling is not None:
            self._polling.cancel()
        await asyncio.gather(*(versions.close(timeout) for versions in self._models.values()))
        if self._cache is not None:
            await self._cache.close()
        self.repository.close()


def _check_name(name: str) -> None:
    trimmed = name.strip()
    if not trimmed:
        raise invalid("Model name cannot be empty. Please enter a valid name to deploy.")
    if "\0" in name:
        raise invalid(f"invalid model name {name!r}: no folder can have it")
    if trimmed == ".." or "/" in trimmed:
        raise invalid(
            f"invalid model name '{name}', model name must not contain path traversal characters"
        )


def _unknown(text: str) -> InferenceError:
    return InferenceError(Status.NOT_FOUND, f"Request for unknown model: {text}")


def _version(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise invalid(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0"
        ) from None
    if number < 0:
        raise invalid(
            f"invalid model version specified '{text}' , version should be an integral value > 0"
        )
    return number
