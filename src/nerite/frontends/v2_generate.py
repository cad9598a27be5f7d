"""The generate extension: plain JSON in, plain JSON or server-sent events out.

A key that is an input's name becomes that tensor, any other a request parameter.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from nerite.contract import TensorSpec
from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Parameter, Request, Response
from nerite.core.tensor import Tensor, datatype_of
from nerite.frontends.answers import answer_error, answer_json, http_status, json_of
from nerite.frontends.asking import ask
from nerite.frontends.http1 import Body, Exchange
from nerite.frontends.intake import Forwarding
from nerite.frontends.v2_json import json_document, json_tensor, scalar_parameter
from nerite.model import Model
from nerite.server import Server

_EVENTS = b"Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that "
    "generates various number of responses"
)


class GenerateDoor:
    """Belongs to the server's loop."""

    def __init__(self, server: Server, forward: Forwarding) -> None:
        self._server = server
        self._forward = forward

    def generate(self, name: str, version: str, exchange: Exchange) -> None:
        """One answer, as JSON."""
        model = self._server.taking(name, version)
        request = self._request(model, version, exchange)
        deliver = _Single(exchange, str(model.version), told=not model.decoupled).deliver
        ask(model, self._server.tracer, exchange, request, deliver, "HTTP")

    def stream(self, name: str, version: str, exchange: Exchange) -> None:
        """Every answer, as a server-sent event."""
        model = self._server.taking(name, version)
        request = self._request(model, version, exchange)
        deliver = _Events(exchange, str(model.version)).deliver
        ask(model, self._server.tracer, exchange, request, deliver, "HTTP")

    def _request(self, model: Model, version: str, exchange: Exchange) -> Request:
        document = json_document(exchange.body)
        _refuse_twins(exchange.body, model.contract.inputs)
        inputs: dict[str, Tensor] = {}
        parameters: dict[str, Parameter] = {}
        _sort(document, model.contract.inputs, inputs, parameters)
        if parameters.get("progress"):  # pixels as JSON's numbers would be of use to nobody
            parameters.setdefault("preview_format", "jpeg")
        id = parameters.pop("id", "")
        request = Request(model.name, inputs, version, str(id), parameters=parameters)
        return self._forward(request, exchange.head.pairs)


def _refuse_twins(body: Body, specs: Mapping[str, TensorSpec]) -> None:
    """A parser keeps the last of two equal keys; Triton takes them for the same input twice."""
    names = [name for name, _ in json.loads(bytes(body), object_pairs_hook=_Pairs)]
    for index, name in enumerate(names):
        if name in specs and name in names[:index]:
            raise invalid(f"input '{name}' already exists in request")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it was written."""


def _sort(
    document: Mapping[str, Any],
    specs: Mapping[str, TensorSpec],
    inputs: dict[str, Tensor],
    parameters: dict[str, Parameter],
) -> None:
    """Tell tensors from parameters; those in a nested `parameters` object count as well."""
    for key, value in document.items():
        if key == "parameters" and key not in specs:
            if not isinstance(value, dict):
                raise invalid("Expected JSON object for keyword: 'parameters'")
            try:
                _sort(value, specs, inputs, parameters)
            except InferenceError as error:
                text = f"Converting keyword: 'parameters': {error.message}"
                raise InferenceError(error.status, text) from None
        elif key in specs:
            inputs[key] = _tensor(specs[key], value)
        else:
            parameters[key] = scalar_parameter(key, value)


def _tensor(spec: TensorSpec, value: Any) -> Tensor:
    """A scalar or a list in the input's shape: -1 is filled from the innermost dimension out."""
    data = value if isinstance(value, list) else [value]
    left = len(data)
    shape = list(spec.shape)
    for dim in shape:
        if dim != -1:
            if left % dim:
                raise _misfit(spec)
            left //= dim
    for axis in reversed(range(len(shape))):
        if shape[axis] == -1:
            shape[axis], left = left, 1
    if left != 1:
        raise _misfit(spec)
    return json_tensor(spec.name, spec.datatype, tuple(shape), data)


def _misfit(spec: TensorSpec) -> InferenceError:
    return invalid(
        f"The schema can not convert input '{spec.name}' to tensor with proper shape. Its shape is "
        f"{list(spec.shape)}."
    )


def _document(request: Request, version: str, response: Response) -> dict[str, Any]:
    """Outputs by name, one-element tensors as scalars; keys in Triton's order, the alphabet's."""
    document: dict[str, Any] = {"model_name": request.model, "model_version": version}
    if request.id:
        document["id"] = request.id
    document |= response.parameters
    for name, tensor in response.outputs.items():
        document[name] = _plain(name, tensor)
    return dict(sorted(document.items()))


def _plain(name: str, tensor: Tensor) -> Any:
    datatype = datatype_of(tensor)
    if datatype in ("FP16", "BF16"):
        raise invalid(
            f"sending {datatype} data via JSON is not supported. Please use the binary data "
            f"format for output {name}"
        )
    values = np.asarray(tensor).reshape(-1).tolist()
    if datatype == "BYTES":
        values = [item.decode(errors="replace") if isinstance(item, bytes) else str(item)
                  for item in values]  # fmt: skip
    return values[0] if len(values) == 1 else values


class _Single:
    """Waits for the end, and answers if exactly one response came.

    told: what comes before the last is only how far it is, which a stream would be told.
    """

    def __init__(self, exchange: Exchange, version: str, *, told: bool) -> None:
        self._told = told
        self._exchange = exchange
        self._version = version
        self._responses: list[Response] = []

    def deliver(self, call: Call, answer: Answer) -> None:
        if isinstance(answer, InferenceError):
            answer_error(self._exchange, answer)
            return
        if (answer.outputs or answer.error is not None) and (answer.final or not self._told):
            self._responses.append(answer)
        if not answer.final:
            return
        try:
            if len(self._responses) != 1:
                raise InferenceError(Status.INTERNAL, _ONE)
            (response,) = self._responses
            if response.error is not None:
                raise response.error
            document = _document(call.request, self._version, response)
            answer_json(self._exchange, document)
        except Exception as error:  # whoever delivers knows nothing of this exchange
            answer_error(self._exchange, error)


class _Events:
    """Writes every response as it comes; the first decides the status."""

    def __init__(self, exchange: Exchange, version: str) -> None:
        self._exchange = exchange
        self._version = version
        self._started = False

    def deliver(self, call: Call, answer: Answer) -> None:
        if not self._exchange.open:
            return
        try:
            self._tell(call, answer)
        except Exception as error:  # likewise
            answer_error(self._exchange, error)

    def _tell(self, call: Call, answer: Answer) -> None:
        if isinstance(answer, InferenceError):
            self._fail(answer)
            self._exchange.end()
            return
        if answer.error is not None:
            self._fail(answer.error)
        elif answer.outputs:
            try:
                self._event(200, _document(call.request, self._version, answer))
            except InferenceError as error:
                self._fail(error)
        if answer.final:
            self._start(200)
            self._exchange.end()

    def _fail(self, error: InferenceError) -> None:
        self._event(http_status(error), {"error": error.message})

    def _start(self, status: int) -> None:
        if not self._started:
            self._started = True
            self._exchange.start(status, _EVENTS)

    def _event(self, status: int, document: dict[str, Any]) -> None:
        event = b"data: " + json_of(document) + b"\n\n"
        self._start(status)
        self._exchange.write(event)
