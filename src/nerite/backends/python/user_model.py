"""The python backend: drives the user's TritonPythonModel."""

from __future__ import annotations

import json
import sys
from typing import Any, Callable

from nerite.backends.base import Config, ModelSpec
from nerite.backends.python.coroutines import Coroutines
from nerite.backends.python.errors import RAISED, TritonModelException
from nerite.backends.python.model_config import (
    ModelConfig,
    using_decoupled_model_transaction_policy,
)
from nerite.backends.python.request import (
    TRITONSERVER_REQUEST_RELEASE_RESCHEDULE,
    InferenceRequest,
)
from nerite.backends.python.response import InferenceResponse, Received
from nerite.backends.python.source import describe, model_class
from nerite.backends.python.surroundings import settle
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status

_NOT_IN_NAMES = ";|&$`<>()[]{}\\\"'*?~#!"
_KINDS = {"cpu": "CPU", "cuda": "GPU"}


class PythonBackend:
    """One TritonPythonModel object and the calls it is asked to execute."""

    def __init__(self) -> None:
        self._model: Any = None
        self._name = ""
        self._received = Received((), False)
        self._coroutines = Coroutines()
        self.check_ready: Callable[[], bool] | None = None  # the user's, if there is one

    def load(self, spec: ModelSpec) -> Config:
        """Raises InferenceError, which names the file or says what the user's code has raised."""
        self._name = spec.instance
        self._spec = spec
        _check_name(spec.name)
        settle(spec, serving=False)
        found = model_class(spec)
        config = _complete(found, spec)
        outputs = [item["name"] for item in config.get("output", [])]
        decoupled = using_decoupled_model_transaction_policy(config)
        self._received = Received(outputs, decoupled, spec.code)
        try:
            self._model = found()
            if hasattr(self._model, "initialize"):
                self._model.initialize(_arguments(spec, config))
        except RAISED as error:
            raise _failed_to_load(error) from error
        if hasattr(self._model, "is_ready"):
            self.check_ready = self._ask_ready
        settle(spec, serving=True)
        return config

    def execute(self, calls: list[Call]) -> None:
        received = self._received
        requests = [InferenceRequest.of(call, received) for call in calls]
        try:
            responses = self._model.execute(requests)
            if hasattr(type(responses), "__await__"):
                responses = self._await(responses, requests, calls)
            if responses is not None:
                self._answer(requests, responses)
        except RAISED as error:
            self._fail(calls, requests, error)
        for call, request in zip(calls, requests):
            if request.release_flags == TRITONSERVER_REQUEST_RELEASE_RESCHEDULE:
                call.reschedule()

    def _await(self, coroutine: Any, requests: list[InferenceRequest], calls: list[Call]) -> Any:
        """What an `async def execute` returns; of a decoupled model nothing, and at once: it may
        work on several executions at a time."""
        if not self._received.decoupled:
            return self._coroutines.run(coroutine)

        def ended(error: BaseException | None, result: Any) -> None:
            if error is None and result is not None:
                error = TritonModelException(self._must_return_none())
            if error is not None:
                self._fail(calls, requests, error)

        self._coroutines.start(coroutine, ended)
        return None

    def _fail(
        self, calls: list[Call], requests: list[InferenceRequest], error: BaseException
    ) -> None:
        message = (
            f"Failed to process the request(s) for model '{self._name}', message: {describe(error)}"
        )
        print(message, file=sys.stderr, flush=True)
        for call, request in zip(calls, requests):
            request.get_response_sender().close()
            call.fail(InferenceError(Status.INTERNAL, message))

    def _answer(self, requests: list[InferenceRequest], responses: Any) -> None:
        self._check(requests, responses)
        for request, response in zip(requests, responses):
            if response is not None:
                request.finish(response)

    def _must_return_none(self) -> str:
        return (
            f"Python model '{self._name}' is using the decoupled mode and the execute function "
            "must return None."
        )

    def _check(self, requests: list[InferenceRequest], responses: Any) -> None:
        if self._received.decoupled:
            raise TritonModelException(self._must_return_none())
        if not isinstance(responses, list):
            found = type(responses)
            raise TritonModelException(
                f"Expected a list in the execute return, found type '{found}'. {self._remedy()}"
            )
        if len(responses) != len(requests):
            raise TritonModelException(
                "Number of InferenceResponse objects do not match the number of InferenceRequest "
                f"objects. InferenceRequest(s) size is:{len(requests)}, and InferenceResponse(s) "
                f"size is:{len(responses)}. {self._remedy()}\n"
            )
        for request, response in zip(requests, responses):
            if response is None:
                continue
            if request.release_flags == TRITONSERVER_REQUEST_RELEASE_RESCHEDULE:
                raise TritonModelException(
                    "Expected a None object in the execute function return list for reschduled "
                    f"request, found type '{type(response)}'."
                )
            if not isinstance(response, InferenceResponse):
                raise TritonModelException(
                    "Expected an 'InferenceResponse' object in the execute function return list, "
                    f"found type '{type(response)}'. {self._remedy()}"
                )

    def _remedy(self) -> str:
        return f"Return a list of an InferenceResponse for each request in {self._spec.code}."

    def _ask_ready(self) -> bool:
        """What the model's own `is_ready` says.

        Raises InferenceError with what that raises, and when it returns no bool.
        """
        try:
            answer = self._model.is_ready()
            if hasattr(answer, "__await__"):
                answer = self._coroutines.run(answer)
            if not isinstance(answer, bool):
                raise TritonModelException("is_ready() must return a boolean value")
        except RAISED as error:
            raise InferenceError(Status.INTERNAL, describe(error)) from None
        return answer

    def unload(self) -> None:
        settle(self._spec, serving=False)
        self._coroutines.close()
        if hasattr(self._model, "finalize"):
            try:
                self._model.finalize()
            except RAISED as error:
                print(describe(error), file=sys.stderr, flush=True)
        self._model = None


def _check_name(name: str) -> None:
    """Triton's rule for models in Python, whose names its shell would take for commands."""
    bad = "".join(sorted(set(name) & set(_NOT_IN_NAMES)))
    if bad:
        text = f"contains invalid characters: a model in Python may not have {bad} in its name"
        raise InferenceError(Status.INVALID_ARG, f"Invalid stub name: {text}")


def _complete(found: Any, spec: ModelSpec) -> dict[str, Any]:
    completed: Any = ModelConfig(spec.config)
    if spec.complete and hasattr(found, "auto_complete_config"):
        try:
            completed = found.auto_complete_config(completed)
        except RAISED as error:
            raise _failed_to_load(error) from error
    if not isinstance(completed, ModelConfig):
        raise InferenceError(
            Status.INTERNAL,
            f"auto_complete_config function in model '{spec.name}' must return a valid "
            "pb.ModelConfig object.",
        )
    config = completed.as_dict()
    try:
        json.dumps(config)
    except (TypeError, ValueError) as error:
        raise InferenceError(
            Status.INTERNAL,
            f"auto_complete_config in {spec.code} has completed the config with what is no JSON: "
            f"{error}",
        ) from None
    return config


def _arguments(spec: ModelSpec, config: dict[str, Any]) -> dict[str, str]:
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": _kind(spec),
        "model_instance_name": spec.instance,
        "model_instance_device_id": str(spec.device_id),
        "model_repository": str(spec.folder),
        "model_version": str(spec.version),
        "model_name": spec.name,
    }


def _kind(spec: ModelSpec) -> str:
    group = spec.instance.rpartition("_")[0]
    for one in spec.config.get("instance_group", ()):
        if one.get("name") == group and one.get("kind") == "KIND_MODEL":  # it places itself
            return "MODEL"
    return _KINDS[spec.device]


def _failed_to_load(error: BaseException) -> InferenceError:
    text = describe(error)
    print(text, file=sys.stderr, flush=True)
    return InferenceError(Status.INTERNAL, text)
