"""The python backend: finds the user's model.py and drives its TritonPythonModel."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from typing import Any

from nerite.backends.base import Config, ModelSpec
from nerite.backends.python import triton_python_backend_utils as pb_utils
from nerite.backends.python.source import describe, model_class
from nerite.core.call import Call
from nerite.core.errors import InferenceError, Status

_KINDS = {"cpu": "CPU", "cuda": "GPU"}


class PythonBackend:
    """One TritonPythonModel object and the calls it is asked to execute."""

    def __init__(self) -> None:
        self._model: Any = None
        self._name = ""
        self._decoupled = False

    def load(self, spec: ModelSpec) -> Config:
        self._name = spec.instance
        pb_utils.set_model_dir(str(spec.version_folder))
        found = model_class(spec)
        config = self._complete(found, spec.config)
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self._model = found()
        if hasattr(self._model, "initialize"):
            self._model.initialize(
                {
                    "model_config": json.dumps(config),
                    "model_instance_kind": _KINDS[spec.device],
                    "model_instance_name": spec.instance,
                    "model_instance_device_id": str(spec.device_id),
                    "model_repository": str(spec.folder),
                    "model_version": str(spec.version),
                    "model_name": spec.name,
                }
            )
        return config

    @staticmethod
    def _complete(model_class: Any, config: Config) -> dict[str, Any]:
        completed = pb_utils.ModelConfig(dict(config))
        if hasattr(model_class, "auto_complete_config"):
            answer = model_class.auto_complete_config(completed)
            if answer is not None:
                completed = answer
        return completed.as_dict()

    def execute(self, calls: list[Call]) -> None:
        requests = [pb_utils.InferenceRequest(call) for call in calls]
        try:
            responses = self._model.execute(requests)
            if inspect.isawaitable(responses):
                responses = asyncio.run(_wait(responses))
            self._answer(calls, requests, responses)
        except Exception as error:
            text = describe(error)
            message = f"Failed to process the request(s) for model '{self._name}', message: {text}"
            print(message, file=sys.stderr, flush=True)
            for call in calls:
                call.fail(InferenceError(Status.INTERNAL, message))

    def _answer(
        self, calls: list[Call], requests: list[pb_utils.InferenceRequest], responses: Any
    ) -> None:
        if responses is None:
            return
        self._check(len(calls), responses)
        for call, request, response in zip(calls, requests, responses):
            if response is not None:
                call_answer = pb_utils.as_answer(response, call.request.outputs, True)
                if isinstance(call_answer, InferenceError):
                    call.fail(call_answer)
                else:
                    call.send(call_answer)
            elif not request.get_response_sender().closed:
                raise pb_utils.TritonModelException(
                    "Expected a response for each request: a None in the list that `execute` "
                    "returns is allowed only after the response sender sent the final flag."
                )

    def _check(self, expected: int, responses: Any) -> None:
        if self._decoupled:
            raise pb_utils.TritonModelException(
                f"Python model '{self._name}' is using the decoupled mode and the execute function "
                "must return None."
            )
        if not isinstance(responses, list):
            found = type(responses)
            raise pb_utils.TritonModelException(
                f"Expected a list in the execute return, found type '{found}'."
            )
        if len(responses) != expected:
            raise pb_utils.TritonModelException(
                "Number of InferenceResponse objects do not match the number of InferenceRequest "
                f"objects. InferenceRequest(s) size is:{expected}, and InferenceResponse(s) size "
                f"is:{len(responses)}\n"
            )
        for response in responses:
            if response is not None and not isinstance(response, pb_utils.InferenceResponse):
                raise pb_utils.TritonModelException(
                    "Expected an 'InferenceResponse' object in the execute function return list, "
                    f"found type '{type(response)}'."
                )

    def unload(self) -> None:
        if hasattr(self._model, "finalize"):
            self._model.finalize()
        self._model = None


async def _wait(awaitable: Any) -> Any:
    return await awaitable
