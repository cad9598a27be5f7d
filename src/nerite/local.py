"""LocalModel: a model.py without a server, for its author's tests and `nerite run-model`."""

from __future__ import annotations

import itertools
import queue
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from nerite.backends.base import ModelSpec, backend_names
from nerite.backends.python.user_model import PythonBackend
from nerite.contract import Contract
from nerite.core.call import RESCHEDULED, Answer, Call, Deliver, one_of
from nerite.core.custom_metrics import CustomMetrics
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.home import Home
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor, numpy_dtype
from nerite.core.turn import Turn
from nerite.instances.orders import Orders
from nerite.repository import config as configs
from nerite.repository.repository import ModelEntry, settle

Tensors = Mapping[str, Tensor]
# Stands for a model that is asked: its outputs, or for a decoupled one several of those.
Standin = Callable[[dict[str, Tensor]], Tensors | Iterable[Tensors]]


class LocalModel:
    """One model.py, loaded in this process.

    with LocalModel("models/pipeline", models={"resize": lambda inputs: {...}}) as model:
        outputs = model.infer({"IMAGE": image})
    """

    def __init__(self, path: str | Path, models: Mapping[str, Standin] | None = None) -> None:
        """path: a model's folder, as in a repository, one of its version folders, or a model.py.

        models: what stands for the other models that it asks. Raises InferenceError when it does
        not load.
        """
        folder, version, runtime = _place(Path(path).absolute())
        entry = ModelEntry(folder.name, folder)
        file = folder / "config.pbtxt"
        if file.is_file():
            entry.config = configs.read(file)
        else:
            entry.config.backend = "python"
        settle(entry)
        if entry.config.backend in backend_names() and entry.config.backend != "python":
            text = f"'{folder}' is a model of backend '{entry.config.backend}', and only those in "
            text += "Python run without a server: `nerite serve --model-repository "
            raise invalid(f"{text}{folder.parent}` serves it")
        version = version or (entry.versions[-1] if entry.versions else 1)
        self._backend = PythonBackend()
        spec = ModelSpec(
            name=entry.name,
            version=version,
            folder=folder,
            instance=f"{entry.name}_0",
            device="cpu",
            device_id=0,
            config=configs.to_dict(entry.config),
            runtime=runtime,
            outside=_Standins(models or {}),
        )
        self.config = configs.from_dict(self._backend.load(spec))
        self._contract = Contract(self.config)
        self._sequences = itertools.count(1)

    def infer(self, inputs: Tensors, **more: Any) -> dict[str, Tensor]:
        """The outputs of one request. `more` are fields of nerite.Request, as parameters or id.

        Raises InferenceError for inputs that do not fit the config, and what the model answers.
        """
        return dict(one_of(self.stream(inputs, **more)).outputs)

    def stream(self, inputs: Tensors, *, timeout: float = 60.0, **more: Any) -> list[Response]:
        """All the responses of one request, the last one too, which may be empty.

        timeout: seconds to wait for each. Raises InferenceError as `infer` does.
        """
        for name, tensor in inputs.items():
            self._check_array(name, tensor)
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        call = Call(
            Request(self.config.name, dict(inputs), **more), lambda _, one: answers.put(one)
        )
        self._contract.check(call.request)
        if self.config.sequence_batching.iterative_sequence:
            self._begin_sequence(call, answers)
        self._execute(call.request, answers)
        responses: list[Response] = []
        while not responses or not responses[-1].final:
            try:
                answer = answers.get(timeout=timeout)
            except queue.Empty:
                text = f"no response within {timeout:g} s"
                raise InferenceError(Status.UNAVAILABLE, text) from None
            if isinstance(answer, InferenceError):
                raise answer
            if answer is RESCHEDULED:
                call.put_back()
            else:
                responses.append(answer)
        return responses

    def _check_array(self, name: str, value: object) -> None:
        spec = self._contract.inputs.get(name)
        if spec is None or isinstance(value, (np.ndarray, np.generic)):
            return
        kind = numpy_dtype(spec.datatype).name
        raise invalid(
            f"input '{name}' of model '{self.config.name}' is {reprlib.repr(value)}, of "
            f"type {type(value).__name__}: give it as a numpy array, as np.array(..., '{kind}')"
        )

    def _begin_sequence(self, call: Call, answers: queue.SimpleQueue[Answer]) -> None:
        """As a server has it: a sequence of its own, whose next step the model asks for."""
        if not call.request.sequence_id:
            number = next(self._sequences)
            call.request = call.request._replace(sequence_id=number, sequence_start=True)
        following = call.request._replace(sequence_start=False, sequence_end=False)
        call.again = lambda _: self._execute(following, answers)

    def _execute(self, request: Request, answers: queue.SimpleQueue[Answer]) -> None:
        self._backend.execute([Call(request, lambda _, answer: answers.put(answer))])

    def close(self) -> None:
        """Let the model finalize."""
        self._backend.unload()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _place(path: Path) -> tuple[Path, int, Path | None]:
    """A model's folder, the version that is meant or 0, and a model.py that has no such folder."""
    if path.is_file():
        if path.parent.name.isdecimal():
            return path.parents[1], int(path.parent.name), None
        return path.parent, 0, path
    if not path.is_dir():
        raise invalid(f"'{path}' is neither a model's folder nor a model.py")
    if path.name.isdecimal() and not (path / "config.pbtxt").is_file():
        return path.parent, int(path.name), None
    runtime = path / "model.py"
    return path, 0, runtime if runtime.is_file() else None


class _Standins:
    """The server of a LocalModel: functions in place of models, and metrics that nobody reads."""

    def __init__(self, models: Mapping[str, Standin]) -> None:
        self._models = models
        self.custom_metrics = CustomMetrics()
        self.turn = Turn()
        self._orders = Orders(cast(Home, self))

    def ask(self, request: Request, deliver: Deliver, *, decoupled: bool, attends: bool) -> Call:
        model = self._models.get(request.model)
        if model is None:
            known = ", ".join(self._models) or "none"
            raise InferenceError(
                Status.NOT_FOUND,
                f"the model asks model '{request.model}', and there is no server. Give a function "
                f"that stands for it: models={{'{request.model}': lambda inputs: outputs}}; "
                f"there are: {known}",
            )
        call = Call(request, deliver)
        outputs = model({name: np.asarray(one) for name, one in request.inputs.items()})
        if isinstance(outputs, Mapping):
            call.send(Response(outputs))
            return call
        for one in outputs:
            call.send(Response(one, final=False))
        call.send(Response())
        return call

    def attend(self, done: Callable[[], bool]) -> None:
        """Whatever was asked is answered."""

    def order(self, what: str, arguments: Mapping[str, Any]) -> Any:
        if what.startswith("metric"):
            return self._orders.take(what, arguments)
        if what == "is_model_ready":
            return arguments["name"] in self._models
        text = f"{what} needs a server, and this model runs without one"
        raise InferenceError(Status.UNAVAILABLE, text)

    def tell(self, what: str, arguments: Mapping[str, Any]) -> None:
        self.order(what, arguments)
