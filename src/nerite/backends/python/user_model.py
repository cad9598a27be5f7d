"""The python backend: finds the user's model.py and drives its TritonPythonModel."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from nerite.backends.base import Config, ModelSpec
from nerite.backends.python import triton_python_backend_utils as pb_utils
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
        model_class = _model_class(spec)
        config = self._complete(model_class, spec.config)
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)
        self._model = model_class()
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
        if not callable(getattr(self._model, "execute", None)):
            raise AttributeError("TritonPythonModel has no 'execute' method")
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
            text = _describe(error)
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


def _model_class(spec: ModelSpec) -> Any:
    file = spec.version_folder / (spec.config.get("default_model_filename") or "model.py")
    if not file.is_file():
        raise FileNotFoundError(f"Python model file not found: {file}")
    sys.modules["triton_python_backend_utils"] = pb_utils
    # A model's own folders come first on the path, as Triton's stub has it, so that sibling
    # modules and relative imports both work.
    sys.path[:0] = [str(spec.version_folder), str(spec.folder)]
    module = _import(file, spec.version_folder)
    if not hasattr(module, "TritonPythonModel"):
        raise AttributeError(f"{file} defines no class TritonPythonModel")
    return module.TritonPythonModel


def _import(file: Path, folder: Path) -> ModuleType:
    """Import `file` as `<version>.<stem>`, Triton's name for it, which allows `from . import`."""
    package = ModuleType(folder.name)
    package.__path__ = [str(folder)]
    sys.modules[folder.name] = package
    name = f"{folder.name}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _describe(error: BaseException) -> str:
    """The exception and where it came from, in the form Triton shows a model's own exception."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__]
    lines = [f"  {frame.filename}({frame.lineno}): {frame.name}" for frame in reversed(own)]
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    return "\n".join([text, "", "At:", *lines, ""]) if lines else text
