"""Server: the models by name and their life. No sockets; every door asks it, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from nerite.core.call import Call, Deliver, Responses
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Request
from nerite.model import Model, not_ready
from nerite.repository.repository import ModelEntry, Repository

log = logging.getLogger(__name__)


@dataclass
class ModelState:
    """One version of a model, or (version 0) a model of which no version could be found.

    state: Triton's LOADING, READY, UNAVAILABLE.
    """

    name: str
    version: int
    state: str
    reason: str = ""
    model: Model | None = None


class Server:
    """Loads every model of a repository and answers for them. Belongs to one loop."""

    def __init__(
        self,
        repository: Repository,
        *,
        name: str = "nerite",
        strict_readiness: bool = True,
        strict_gpu: bool = False,
        load_count: int = 4,
    ) -> None:
        """load_count: how many models load at once."""
        self.name = name
        self._repository = repository
        self._strict_readiness = strict_readiness
        self._strict_gpu = strict_gpu
        self._loading = asyncio.Semaphore(load_count)
        self._states: dict[str, dict[int, ModelState]] = {}
        self._started = False
        self._exiting = False

    async def start(self) -> None:
        """Load all models. What fails is told by `states`; only a missing repository raises."""
        entries = self._repository.scan()
        await asyncio.gather(*(self._load(entry) for entry in entries))
        self._started = True

    async def _load(self, entry: ModelEntry) -> None:
        states = self._states.setdefault(entry.name, {})
        if entry.error is not None:
            states[0] = ModelState(entry.name, 0, "UNAVAILABLE", entry.error.message)
        elif not entry.versions:
            reason = "Not loaded: No model version was found"
            states[0] = ModelState(entry.name, 0, "UNAVAILABLE", reason)
        else:
            await asyncio.gather(*(self._load_version(entry, number) for number in entry.versions))

    async def _load_version(self, entry: ModelEntry, version: int) -> None:
        state = ModelState(entry.name, version, "LOADING")
        self._states[entry.name][version] = state
        async with self._loading:
            try:
                state.model = await Model.load(entry, version, strict_gpu=self._strict_gpu)
            except InferenceError as error:
                state.state, state.reason = "UNAVAILABLE", f"{error.status.value}: {error.message}"
                log.error("failed to load '%s' version %d: %s", entry.name, version, state.reason)
                return
        state.state = "READY"
        log.info("successfully loaded '%s' version %d", entry.name, version)

    @property
    def live(self) -> bool:
        return not self._exiting

    @property
    def exiting(self) -> bool:
        return self._exiting

    @property
    def ready(self) -> bool:
        """Whether clients should come; with strict readiness every model must be ready too."""
        if not self._started or self._exiting:
            return False
        if not self._strict_readiness:
            return True
        return all(state.model is not None and state.model.ready for state in self.states())

    def states(self) -> list[ModelState]:
        """Every version of every model, by name and version."""
        return [
            states[version]
            for _, states in sorted(self._states.items())
            for version in sorted(states)
        ]

    @property
    def models(self) -> list[Model]:
        return [state.model for state in self.states() if state.model is not None]

    def find(self, name: str, version: str = "") -> Model:
        """A loaded model; the newest ready version when none is named.

        Raises InferenceError with Triton's texts and codes.
        """
        states = self._states.get(name)
        if states is None:
            raise _unknown(f"'{name}' is not found{self._known()}")
        if version:
            number = _version(version)
            state = states.get(number)
            if state is None or number == 0:
                raise _unknown(f"'{name}' version {number} is not found")
            if state.model is None:
                raise not_ready(name, number)
            return state.model
        for number in sorted(states, reverse=True):
            model = states[number].model
            if model is not None:
                return model
        raise _unknown(f"'{name}' has no available versions")

    def _known(self) -> str:
        names = ", ".join(f"'{name}'" for name in sorted(self._states))
        return f". The server has {names}." if names else ". The server has no models."

    def submit(self, request: Request, deliver: Deliver) -> Call:
        """Ask a model; answers are delivered, perhaps before this returns.

        Raises InferenceError when the model or the request is wrong, and then delivers nothing.
        """
        return self._model(request).submit(request, deliver)

    def infer(self, request: Request) -> Responses:
        """The same for those who await the answers."""
        return self._model(request).infer(request)

    def _model(self, request: Request) -> Model:
        if self._exiting:
            text = "Server is stopping, scheduler for model has stopped accepting new requests"
            raise InferenceError(Status.UNAVAILABLE, text)
        return self.find(request.model, request.version)

    async def close(self, timeout: float = 30.0) -> None:
        """Refuse new requests, let the open ones finish for up to `timeout` seconds, unload."""
        self._exiting = True
        await asyncio.gather(*(model.close(timeout) for model in self.models))


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
