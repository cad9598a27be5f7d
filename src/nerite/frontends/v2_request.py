"""KServe v2 over HTTP: a request's body, JSON or JSON with binary tensors, to Request.

Texts and status of errors are Triton's: a malformed document is INTERNAL (500), a wrong value
INVALID_ARG (400).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.layout import Layout, Packed, aligned, tight
from nerite.core.request import NO_PARAMETERS, Parameter, Request
from nerite.core.tensor import Tensor, from_bytes, numpy_dtype, split_bytes
from nerite.frontends.http1 import Body
from nerite.frontends.regions import FAR, Regions
from nerite.frontends.v2_json import (
    NOT_IN_JSON,
    flag,
    json_bytes,
    json_tensor,
    malformed,
    member_object,
    objects,
    scalar_parameter,
    shape_of,
    string,
    unsigned,
)
from nerite.frontends.v2_response import OutputForm, Wish
from nerite.model import Model

_new: Any = tuple.__new__  # past a NamedTuple's own, which is slow


def take_values(document: Mapping[str, Any]) -> list[Any]:
    """The values that stand in the document, which keeps an empty list in the place of each."""
    inputs = document.get("inputs")
    values: list[Any] = []
    for entry in inputs if isinstance(inputs, list) else []:
        if isinstance(entry, dict) and "data" in entry:
            values.append(entry["data"])
            entry["data"] = []
    return values


def raw_request(model: Model, version: str, body: Body) -> Request:
    """A body that is nothing but the one input's data (header length 0); its shape is deduced.

    Raises InferenceError with Triton's texts.
    """
    specs = list(model.contract.inputs.values())
    if len(specs) != 1:
        raise invalid(
            "Raw request must only have 1 input (found 1) to be deduced but got "
            f"{len(specs)} inputs in '{model.name}' model configuration"
        )
    (spec,) = specs
    shape = [1, *spec.shape[1:]] if model.contract.max_batch_size > 0 else list(spec.shape)
    if spec.datatype == "BYTES":
        if any(dim != 1 for dim in shape):
            raise invalid(
                f"For BYTE datatype raw input '{spec.name}', the model must have input shape [1]"
            )
        tensor = np.empty(1, dtype=object)
        tensor[0] = bytes(body)
        return Request(model.name, {spec.name: tensor.reshape(shape)}, version)
    if shape.count(-1) > 1:
        raise invalid(
            f"The shape of the raw input '{spec.name}' can not be deduced because there are more "
            "than one variable-sized dimension"
        )
    item = numpy_dtype(spec.datatype).itemsize
    known = math.prod(dim for dim in shape if dim != -1) * item
    full = tuple(len(body) // known if dim == -1 else dim for dim in shape)
    count = math.prod(full)
    try:
        data = tensor_from(memoryview(body), spec.name, model.name, spec.datatype, full, count)
    except Misfit as error:
        raise error.of("") from None
    return Request(model.name, {spec.name: data}, version)


class Template:
    """A request document without data. values: those of a document that had binary data too."""

    def __init__(
        self, model: str, version: str, document: Mapping[str, Any], has_binary: bool
    ) -> None:
        self._model = model
        self._inputs: list[_Input] = []
        self.values: list[Any] = []
        names = set()
        for entry in objects(document, "inputs"):
            one = _Input(entry, has_binary)
            if one.name in names:
                raise invalid(f"input '{one.name}' already exists in request")
            names.add(one.name)
            self._inputs.append(one)
        self._layout = self._lay_out()
        self._filed = self._lay_out_files()
        self._in_document = bool(self._inputs) and all(one.in_document for one in self._inputs)
        parameters = dict(member_object(document, "parameters"))
        default = flag(parameters.pop("binary_data_output", False), "binary_data_output")
        wishes = _wishes(document)
        self.form = OutputForm(wishes, default)
        self._request = Request(
            model=model,
            version=version,
            id=string(document, "id") if "id" in document else "",
            inputs={},
            outputs=tuple(wishes),
            **_scheduling(parameters),
            parameters=_parameters(parameters) or NO_PARAMETERS,
        )
        self._rest = tuple(self._request[2:])

    def _lay_out(self) -> Layout | None:
        """Of inputs that are all in the document or all behind it, as long as their shapes say."""
        if any(
            one.region
            or one.datatype == "BYTES"
            or one.in_document != self._inputs[0].in_document
            or not (one.in_document or one.size == one.count * one.dtype.itemsize)
            for one in self._inputs
        ):
            return None
        return tight(
            (one.name, one.datatype, one.shape, one.count * one.dtype.itemsize)
            for one in self._inputs
        )

    def _lay_out_files(self) -> Layout | None:
        """Of inputs that are all in shared memory, and large: copied by who reads them alone."""
        if not self._inputs or any(
            not one.region or one.datatype == "BYTES" or one.size != one.count * one.dtype.itemsize
            for one in self._inputs
        ):
            return None
        if sum(one.size for one in self._inputs) < FAR:
            return None
        return aligned((one.name, one.datatype, one.shape, one.size) for one in self._inputs)

    def request(
        self, data: memoryview, values: Sequence[Any], regions: Regions, name: str
    ) -> Request:
        """The request. data: what follows the document; values: what was taken out of it. Both go
        to the inputs in their order. name: an id that was taken out too, for errors.
        """
        layout, packed = self._layout, data
        if layout is not None and self._in_document and not data:
            packed = memoryview(b"".join(map(_json_data, self._inputs, values)))
        if layout is not None and layout.size == len(packed):
            made = (self._model, Packed(layout, packed), *self._rest)
            return _new(Request, made)  # type: ignore[no-any-return]
        if self._filed is not None and not data:
            parts = ((one.region, one.offset, one.size) for one in self._inputs)
            filed = regions.pack(self._filed, parts)
            if filed is not None:
                return self._request._replace(inputs=filed)
        try:
            tensors = self._tensors(data, iter(values), regions)
        except Misfit as error:
            raise error.of(name or self._request.id) from None
        return self._request._replace(inputs=tensors)

    def _tensors(
        self, data: memoryview, values: Iterator[Any], regions: Regions
    ) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        misfit = ""
        position = 0
        model = self._request.model
        for one in self._inputs:
            if one.in_document:
                value = _array(one.datatype, next(values))
                tensors[one.name] = json_tensor(one.name, one.datatype, one.shape, value)
                continue
            if one.region:
                held = regions.find(one.region, one.offset, one.size)
                part = memoryview(held.read(one.offset, one.size))
            else:
                part = data[position : position + one.size]
                position += one.size
            if len(part) < one.size:
                missing = one.size - len(part)
                raise invalid(
                    f"unexpected size for input '{one.name}', expecting {missing} additional "
                    f"bytes for model '{model}'"
                )
            try:
                tensors[one.name] = tensor_from(
                    part, one.name, model, one.datatype, one.shape, one.count
                )
            except Misfit as error:
                misfit = error.message  # the error itself would hold this frame, and the tensors
        if misfit:
            raise Misfit(misfit)
        if position != len(data):
            raise invalid(f"unexpected additional input data for model '{model}'")
        return tensors


class _Input:
    """What the document says of one input.

    in_document: its data stands there too; else `size` bytes follow the document, or lie in the
    shared memory `region` at `offset`.
    """

    __slots__ = ("count", "datatype", "dtype", "in_document", "name", "offset", "region", "shape",
                 "size")  # fmt: skip

    def __init__(self, entry: Mapping[str, Any], has_binary: bool) -> None:
        self.name = string(entry, "name")
        self.datatype = string(entry, "datatype")
        self.shape = shape_of(entry)
        try:
            self.dtype = numpy_dtype(self.datatype)
        except KeyError:
            raise invalid(f"invalid datatype '{self.datatype}' for input {self.name}") from None
        self.count = element_count(self.name, self.shape, self.dtype.itemsize)
        self._read_place(entry, has_binary)

    def _read_place(self, entry: Mapping[str, Any], has_binary: bool) -> None:
        """Where the data is: exactly one of document, binary section and shared memory."""
        parameters = member_object(entry, "parameters")
        places = [
            *(["data"] if "data" in entry else []),
            *(key for key in ("binary_data_size", "shared_memory_region") if key in parameters),
        ]
        if len(places) != 1:
            found = (
                " set " + " ".join(f"'{one}'" for one in places) if places else " no field is set"
            )
            raise invalid(
                "Input must set only one of the following fields: 'data', 'binary_data_size' in "
                f"'parameters', 'shared_memory_region' in 'parameters'. But{found}"
            )
        self.in_document = places == ["data"]
        self.size = self.offset = 0
        self.region = ""
        if places == ["binary_data_size"]:
            self.size = unsigned(parameters["binary_data_size"], "binary_data_size")
        elif places == ["shared_memory_region"]:
            self.region, self.offset, self.size = _shared(parameters)
        if places == ["binary_data_size"] and self.size and not has_binary:
            raise invalid(
                "must specify valid 'Infer-Header-Content-Length' in request header and "
                "'binary_data_size' when passing inputs in binary data format"
            )


class Misfit(InferenceError):
    """An input's data are too many or too few for its shape. Of several that are, Triton names
    the last."""

    def __init__(self, message: str) -> None:
        super().__init__(Status.INVALID_ARG, message)

    def of(self, id: str) -> InferenceError:
        """The same with the request's id before it, as Triton says it."""
        return invalid(f"{Request('', {}, id=id).label}{self.message}")


def element_count(name: str, shape: tuple[int, ...], size: int) -> int:
    """The elements, of `size` bytes each, in an input's shape.

    Raises InferenceError for a shape that no memory could hold, and so for one of which a further
    dimension is 0: numpy does not take it either.
    """
    most = 2**63 - 1
    count = math.prod(dim or 1 for dim in shape)
    if count > most:
        raise invalid(
            f"invalid shape for input '{name}': shape [{','.join(map(str, shape))}] causes total "
            f"element count to exceed maximum size of {most}"
        )
    if count * size > most:
        raise invalid(
            f"byte size overflow for input '{name}': element count ({count}) * data type size "
            f"({size}) exceeds maximum allowed size ({most})"
        )
    return 0 if 0 in shape else count


def tensor_from(
    data: memoryview, name: str, model: str, datatype: str, shape: tuple[int, ...], count: int
) -> Tensor:
    """An input's raw bytes as a tensor; a view of them for all types but BYTES.

    Raises Misfit with Triton's text where their number does not fit the shape.
    """
    if datatype == "BYTES":
        try:
            found = len(split_bytes(data))
        except ValueError as error:
            raise Misfit(
                f"incomplete string length indicator for inference input '{name}' for model "
                f"'{model}': {error}"
            ) from None
        if found > count:
            raise Misfit(
                f"unexpected number of string elements {count + 1} for inference input '{name}' "
                f"for model '{model}', expecting {count}"
            )
        if found < count:
            raise Misfit(
                f"expected {count} string elements for inference input '{name}' for model "
                f"'{model}', got {found}"
            )
    else:
        expected = count * numpy_dtype(datatype).itemsize
        if len(data) != expected:
            raise Misfit(
                f"input byte size mismatch for input '{name}' for model '{model}'. Expected "
                f"{expected}, got {len(data)}"
            )
    return from_bytes(data, datatype, shape)


def _json_data(one: _Input, value: Any) -> bytes:
    """The bytes of an input whose data stands in the document."""
    return json_bytes(one.name, one.datatype, one.shape, _array(one.datatype, value))


def _array(datatype: str, value: Any) -> list[Any]:
    if datatype in NOT_IN_JSON or isinstance(value, list):
        return value  # type: ignore[no-any-return]
    raise malformed("Unable to parse 'data': attempt to access non-array member 'data'")


def _shared(parameters: Mapping[str, Any]) -> tuple[str, int, int]:
    """The region, offset and size that an input's or output's parameters name."""
    region = string(parameters, "shared_memory_region")
    offset = unsigned(parameters.get("shared_memory_offset", 0), "shared_memory_offset")
    size = unsigned(parameters.get("shared_memory_byte_size", 0), "shared_memory_byte_size")
    return region, offset, size


def _wishes(document: Mapping[str, Any]) -> dict[str, Wish]:
    """The outputs asked for and how each is wanted, in their order."""
    wishes: dict[str, Wish] = {}
    for entry in objects(document, "outputs") if "outputs" in document else []:
        name = string(entry, "name")
        if name in wishes:
            raise invalid(f"output '{name}' already exists in request")
        wishes[name] = _wish(member_object(entry, "parameters"))
    return wishes


def _wish(parameters: Mapping[str, Any]) -> Wish:
    binary = flag(parameters.get("binary_data", False), "binary_data")
    classes = unsigned(parameters.get("classification", 0), "classification")
    if "shared_memory_region" not in parameters:
        return Wish(binary, classes)
    if "classification" in parameters:
        raise invalid("Output can't set both 'shared_memory_region' and 'classification'")
    if binary:
        raise invalid("Output can't set both 'shared_memory_region' and 'binary_data'")
    return Wish(False, 0, *_shared(parameters))


def _scheduling(parameters: dict[str, Any]) -> dict[str, Any]:
    """Take the parameters that Triton reserves out of `parameters`, as Request's fields."""
    values: dict[str, Any] = {}
    if "sequence_id" in parameters:
        value = parameters.pop("sequence_id")
        values["sequence_id"] = value if isinstance(value, str) else unsigned(value, "sequence_id")
    for key in ("sequence_start", "sequence_end"):
        if key in parameters:
            values[key] = flag(parameters.pop(key), key)
    if "priority" in parameters:
        values["priority"] = unsigned(parameters.pop("priority"), "priority")
    if "timeout" in parameters:
        values["timeout_us"] = unsigned(parameters.pop("timeout"), "timeout")
    return values


def _parameters(parameters: dict[str, Any]) -> dict[str, Parameter]:
    return {key: scalar_parameter(key, value) for key, value in parameters.items()}
