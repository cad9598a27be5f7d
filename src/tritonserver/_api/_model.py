"""Model: a model of a running server, by name, and the requests to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from nerite.core.arguments import checked
from nerite.core.call import Call
from nerite.frontends.v2_metadata import model_metadata
from nerite.frontends.v2_statistics import statistics
from nerite.model import Model as Loaded
from nerite.repository import config as configs
from nerite.server import Server as Core
from tritonserver._api._errors import UnsupportedError
from tritonserver._api._kinds import ModelBatchFlag, ModelTxnPropertyFlag
from tritonserver._api._request import InferenceRequest
from tritonserver._api._response import AsyncResponseIterator, ResponseIterator

if TYPE_CHECKING:
    from tritonserver._api._server import Server

T = TypeVar("T")


class Model:
    """A name and a version (-1: the newest that is ready), loaded or not.

    Comes from `Server.model`, `Server.models` and `Server.load`. state, reason: what the
    repository's index said of it then, if anything. All methods but `infer` and its kind raise
    NotFoundError for a model that is not there, all raise Triton's exceptions only.
    """

    def __init__(
        self,
        server: Server,
        name: str,
        version: int = -1,
        state: str | None = None,
        reason: str | None = None,
    ) -> None:
        self._core = server.core
        self._server = server
        self.name = name
        self.version = version
        self.state = state
        self.reason = reason

    def create_request(self, **kwargs: Any) -> InferenceRequest:
        """A request to this model; the arguments are InferenceRequest's."""
        kwargs.pop("model", None)
        return InferenceRequest(model=self, **kwargs)

    def infer(
        self,
        inference_request: InferenceRequest | None = None,
        raise_on_error: bool = True,
        **kwargs: Any,
    ) -> ResponseIterator:
        """Ask, with a request or with its arguments. Raises TritonError for a bad one."""
        request = inference_request or self.create_request(**kwargs)
        responses = ResponseIterator(request, raise_on_error)
        self._submit(request, responses)
        return responses

    def async_infer(
        self,
        inference_request: InferenceRequest | None = None,
        raise_on_error: bool = True,
        **kwargs: Any,
    ) -> AsyncResponseIterator:
        """The same for code on a loop."""
        request = inference_request or self.create_request(**kwargs)
        responses = AsyncResponseIterator(request, raise_on_error)
        self._submit(request, responses)
        return responses

    def _submit(
        self, request: InferenceRequest, responses: ResponseIterator | AsyncResponseIterator
    ) -> None:
        asked = request.to_request()

        def submit(core: Core) -> Call:
            version = core.find(asked.model, asked.version).version
            responses.model = Model(self._server, asked.model, version)  # before the first answer
            return core.submit(checked(asked), responses.deliver)

        responses.asked(self._server.ask(submit))

    def on_loop(self, act: Callable[[], None]) -> None:
        """Call `act` on the server's loop, soon."""
        self._server.on_loop(act)

    def metadata(self) -> dict[str, Any]:
        """Name, versions, platform, inputs and outputs, as KServe v2 tells them."""
        return self._of(lambda core, model: model_metadata(core, model))

    def ready(self) -> bool:
        """Whether it answers requests; False for one of the repository that is not loaded."""
        return self._server.model_ready(self.name, self._version)

    def batch_properties(self) -> ModelBatchFlag:
        batches = self._of(lambda _, model: model.config.max_batch_size > 0)
        return ModelBatchFlag.FIRST_DIM if batches else ModelBatchFlag.UNKNOWN

    def transaction_properties(self) -> ModelTxnPropertyFlag:
        decoupled = self._of(lambda _, model: model.config.model_transaction_policy.decoupled)
        return ModelTxnPropertyFlag.DECOUPLED if decoupled else ModelTxnPropertyFlag.ONE_TO_ONE

    def statistics(self) -> dict[str, Any]:
        """Counts and durations (ns), as Triton's statistics extension tells them."""
        return self._server.ask(lambda core: statistics(core, self.name, self._version))

    def config(self, config_version: int = 1) -> dict[str, Any]:
        """The configuration, completed. config_version: of its form; there is only 1."""
        if config_version != 1:
            raise UnsupportedError(f"configuration version {config_version} is not supported; 1 is")
        return self._of(lambda _, model: configs.to_dict(model.config))

    def _of(self, ask: Callable[[Core, Loaded], T]) -> T:
        return self._server.ask(lambda core: ask(core, core.find(self.name, self._version)))

    @property
    def _version(self) -> str:
        return str(self.version) if self.version > 0 else ""

    def __repr__(self) -> str:
        return str({"name": self.name, "version": self.version, "state": self.state})
