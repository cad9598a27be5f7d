"""KServe v2 over gRPC: ModelInferRequest to Request, Response to ModelInferResponse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from nerite.core.errors import InferenceError, invalid
from nerite.core.layout import Packed, aligned
from nerite.core.request import Parameter, Request, Response
from nerite.core.tensor import Tensor, datatype_of, item_size, numpy_dtype, to_bytes
from nerite.frontends.outputs import classify, written
from nerite.frontends.regions import FAR, Regions
from nerite.frontends.v2_request import Misfit, element_count, tensor_from
from nerite.frontends.v2_response import OutputForm, Target, Wish

# The field of InferTensorContents that carries each datatype.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_LARGEST = {field: datatype for datatype, field in _CONTENTS.items()}
_ALLOWED = "triton_enable_empty_final_response"


def decode(message: Any, regions: Regions) -> tuple[Request, OutputForm]:
    """A ModelInferRequest as Request, and the form its answer is wanted in.

    Raises InferenceError with Triton's texts.
    """
    inputs: Mapping[str, Tensor] | None = _filed(message, regions)
    if inputs is None:
        try:
            inputs = _inputs(message, regions)
        except Misfit as error:
            raise error.of(message.id) from None
    wishes: dict[str, Wish] = {}
    for entry in message.outputs:
        if entry.name in wishes:
            raise invalid(f"output '{entry.name}' already exists in request")
        wishes[entry.name] = _wish(entry)
    request = Request(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        inputs=inputs,
        outputs=tuple(wishes),
        **_scheduling(message.parameters),
    )
    return request, OutputForm(wishes, True)


def _filed(message: Any, regions: Regions) -> Packed | None:
    """Inputs that are all in shared memory, as whoever needs them is told; None for others, and
    where there is something to complain of."""
    names = {entry.name for entry in message.inputs}
    if message.raw_input_contents or not names or len(names) < len(message.inputs):
        return None
    cuts: list[tuple[str, str, tuple[int, ...], int]] = []
    parts: list[tuple[str, int, int]] = []
    for entry in message.inputs:
        shape = tuple(entry.shape)
        if "shared_memory_region" not in entry.parameters or entry.HasField("contents"):
            return None
        if any(dim < 0 for dim in shape):
            return None
        parts.append(_shared(entry.parameters))
        size = math.prod(shape) * item_size(entry.datatype)
        if not size or size != parts[-1][2]:
            return None
        cuts.append((entry.name, entry.datatype, shape, size))
    if sum(size for *_, size in cuts) < FAR:
        return None
    return regions.pack(aligned(cuts), parts)


def _inputs(message: Any, regions: Regions) -> dict[str, Tensor]:
    inputs: dict[str, Tensor] = {}
    misfit = ""
    raw = iter(message.raw_input_contents)
    for entry in message.inputs:
        if entry.name in inputs:
            raise invalid(f"input '{entry.name}' already exists in request")
        try:
            inputs[entry.name] = _input(entry, message, raw, regions)
        except Misfit as error:
            misfit = error.message  # the error itself would hold this frame, and the tensors
    if misfit:
        raise Misfit(misfit)
    if next(raw, None) is not None:
        raise invalid(f"unexpected additional input data for model '{message.model_name}'")
    return inputs


def _wish(entry: Any) -> Wish:
    parameters = entry.parameters
    if "shared_memory_region" in parameters:
        if "classification" in parameters:
            raise invalid("output can't set both 'shared_memory_region' and 'classification'")
        return Wish(False, 0, *_shared(parameters))
    if "classification" not in parameters:
        return Wish(True)
    classes = parameters["classification"].int64_param
    if classes <= 0:
        raise invalid("invalid value for 'classification' parameter, expected value > 0.")
    return Wish(True, classes)


def _shared(parameters: Any) -> tuple[str, int, int]:
    """The region, offset and size that an input's or output's parameters name."""
    region = parameters["shared_memory_region"].string_param
    offset = _size(parameters, "shared_memory_offset")
    return region, offset, _size(parameters, "shared_memory_byte_size")


def _size(parameters: Any, key: str) -> int:
    if key not in parameters:
        return 0
    parameter = parameters[key]
    value: int = max(parameter.int64_param, parameter.uint64_param)
    if parameter.WhichOneof("parameter_choice") not in ("int64_param", "uint64_param"):
        raise _wrong_kind(key, "int64_param")
    if parameter.int64_param < 0:
        raise invalid(f"invalid value for '{key}', expected value >= 0.")
    return value


def _input(entry: Any, message: Any, raw: Any, regions: Regions) -> Tensor:
    model, name, datatype = message.model_name, entry.name, entry.datatype
    shape = tuple(entry.shape)
    try:
        dtype = numpy_dtype(datatype)
    except KeyError:
        raise invalid(f"invalid datatype '{datatype}' for input {name}") from None
    if any(dim < 0 for dim in shape):
        raise invalid(
            f"invalid shape for input '{name}': shape [{','.join(map(str, shape))}] contains one "
            "or more invalid dimensions"
        )
    count = element_count(name, shape, dtype.itemsize)
    if "shared_memory_region" in entry.parameters:
        if entry.HasField("contents"):
            raise invalid(
                f"unexpected 'content' provided when using shared memory for input tensor '{name}' "
                f"for model '{model}'"
            )
        region, offset, size = _shared(entry.parameters)
        held = regions.find(region, offset, size).read(offset, size)
        return tensor_from(memoryview(held), name, model, datatype, shape, count)
    if entry.HasField("contents"):
        if message.raw_input_contents:
            raise invalid(
                "contents field must not be specified when using raw_input_contents for "
                f"'{name}' for model '{model}'"
            )
        return _from_contents(entry, model, shape, count)
    data = next(raw, None)
    if data is None:
        if count == 0:
            return np.empty(shape, dtype)
        raise invalid(
            f"unable to find data for input tensor '{name}' for model '{model}' in request."
        )
    return tensor_from(memoryview(data), name, model, datatype, shape, count)


def _from_contents(entry: Any, model: str, shape: tuple[int, ...], count: int) -> Tensor:
    field = _CONTENTS.get(entry.datatype, "raw_input_contents")
    filled = [one.name for one, _ in entry.contents.ListFields()]
    head = f"unexpected explicit tensor data for input tensor '{entry.name}' for model '{model}'"
    if filled and filled[0] != field:
        raise invalid(
            f"{head} of type '{_LARGEST[filled[0]]}', expected datatype '{entry.datatype}', whose "
            f"values go in {field}"
        )
    if len(filled) > 1:
        raise invalid(f"{head}, binary data was already supplied.")
    values = list(getattr(entry.contents, field, ()))
    try:
        items = np.array(values, dtype=numpy_dtype(entry.datatype))
    except OverflowError:
        raise invalid(
            f"a value of input '{entry.name}' is outside the range of {entry.datatype}"
        ) from None
    if len(values) == count:
        return items.reshape(shape)
    data = memoryview(to_bytes(items))
    return tensor_from(data, entry.name, model, entry.datatype, shape, count)  # raises


def _scheduling(parameters: Any) -> dict[str, Any]:
    """The request fields that Triton's reserved parameters set, and `parameters` for the rest."""
    values: dict[str, Any] = {}
    others: dict[str, Parameter] = {}
    for key, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        value = getattr(parameter, kind) if kind else None
        if key == "sequence_id":
            _expect(key, kind, "int64_param", "string_param")
            values["sequence_id"] = value
        elif key in ("sequence_start", "sequence_end"):
            _expect(key, kind, "bool_param")
            values[key] = value
        elif key == "priority":
            _expect(key, kind, "int64_param", "uint64_param")
            if value is None or value < 0:
                raise invalid("invalid value for 'priority', expected value >= 0.")
            values["priority"] = value
        elif key == "timeout":
            _expect(key, kind, "int64_param")
            values["timeout_us"] = value
        elif key.startswith("triton_") and key != _ALLOWED:
            raise invalid(
                "parameter keys starting with 'triton_' are reserved for Triton usage. Only the "
                f"following keys starting with 'triton_' are allowed: {_ALLOWED}"
            )
        elif value is None:
            raise _wrong_kind(key, "int64_param", "bool_param", "string_param")
        elif key != _ALLOWED:
            others[key] = value
    return {**values, "parameters": others}


def _expect(key: str, kind: str | None, *allowed: str) -> None:
    if kind not in allowed:
        raise _wrong_kind(key, *allowed)


def _wrong_kind(key: str, *allowed: str) -> InferenceError:
    *others, last = allowed
    comma = ", or" if len(others) > 1 else " or"
    expected = f"{', '.join(others)}{comma} {last}" if others else last
    return invalid(f"invalid value type for '{key}' parameter, expected {expected}.")


def encode(request: Request, response: Response, target: Target) -> Any:
    """A Response as ModelInferResponse: tensors raw, empty for those in shared memory.

    Raises InferenceError for what has no room there.
    """
    model, form, places = target
    message = pb.ModelInferResponse(
        model_name=request.model, model_version=str(model.version), id=request.id
    )
    for name in request.outputs or response.outputs:
        if name not in response.outputs:
            continue
        wish = form.of(name)
        cut = written(response.outputs, name)
        if cut is not None and name in places:
            entry = message.outputs.add(name=name, datatype=cut.datatype, shape=cut.shape)
            _say_where(entry, wish, cut.size)
            message.raw_output_contents.append(b"")
            continue
        tensor = response.outputs[name]
        if wish.classes:
            batched = model.contract.max_batch_size > 0
            tensor = classify(tensor, wish.classes, model.labels.get(name, []), batched=batched)
        entry = message.outputs.add(name=name, datatype=datatype_of(tensor), shape=tensor.shape)
        if name in places:
            _say_where(entry, wish, places[name].put(name, tensor))
            message.raw_output_contents.append(b"")
        else:
            message.raw_output_contents.append(bytes(to_bytes(tensor)))
    for key, value in response.parameters.items():
        _set_parameter(message.parameters[key], value)
    return message


def _say_where(entry: Any, wish: Wish, size: int) -> None:
    """Of an output in shared memory."""
    entry.parameters["shared_memory_region"].string_param = wish.region
    entry.parameters["shared_memory_offset"].int64_param = wish.offset
    entry.parameters["shared_memory_byte_size"].int64_param = size


def _set_parameter(parameter: Any, value: Parameter) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value
