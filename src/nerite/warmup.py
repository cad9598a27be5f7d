"""Model warm-up: the requests a config asks to be tried on every instance before it serves."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nerite.contract import Contract
from nerite.core.call import Call, Responses
from nerite.core.errors import InferenceError, invalid
from nerite.core.request import Request
from nerite.core.tensor import Tensor, from_bytes, numpy_dtype
from nerite.instances.base import Executions, WarmUp
from nerite.repository.config import ModelConfig, datatype
from nerite.repository.problem import Breach, Place, nearest
from nerite.reshape import Reshape

log = logging.getLogger(__name__)

_FOLDER = "warmup"
_SMALL = 128  # random integers are below: they fit every type, and are likely to mean something


def warm_up_of(config: ModelConfig, folder: Path) -> WarmUp | None:
    """Runs all samples on an instance; None where there are none. Raises InferenceError for a
    sample that cannot be made, and when run, for one that fails.

    folder: the model's, whose `warmup` folder holds the samples' files.
    """
    samples = [
        (sample, _request(config, sample, folder))
        for sample in config.model_warmup
        if sample.batch_size
    ]
    return partial(_warm, config, samples) if samples else None


def breaches(config: ModelConfig, folder: Path) -> Iterator[Breach]:
    """What is wrong with the samples of a config that has its inputs; nothing is run.

    Stricter than `warm_up_of`, which leaves it to the model whether it takes larger batches than
    it says, and inputs that it does not name.
    """
    known = [*(one.name for one in config.input), *_unnamed(config)]
    largest = config.max_batch_size
    for index, sample in enumerate(config.model_warmup):
        at: Place = ("model_warmup", index)
        where = f"warmup sample '{sample.name}'"
        if 0 < largest < sample.batch_size:
            text = (
                f"{where} has a batch_size of {sample.batch_size}, and max_batch_size is {largest}"
            )
            yield Breach(text, (*at, "batch_size"), "Lower it, or raise 'max_batch_size'.")
        for name in sorted(sample.inputs):
            if name not in known:
                remedy = nearest(name, known) or f"The inputs are {', '.join(known)}."
                text = f"{where}: the model has no input '{name}'"
                yield Breach(text, (*at, "inputs", name), remedy)
        if sample.batch_size:
            yield from _sample_breaches(config, sample, folder, at)


def _sample_breaches(config: ModelConfig, sample: Any, folder: Path, at: Place) -> Iterator[Breach]:
    """Why the sample's request cannot be made."""
    zeros = type(sample)()
    zeros.CopyFrom(sample)
    failed = False
    for name, entry in sorted(zeros.inputs.items()):
        if entry.random_data:
            entry.zero_data = True  # which take no memory until they are read
        file = ("input_data_file",) if entry.input_data_file else ()
        try:
            _tensor(name, entry, folder)
        except (InferenceError, MemoryError, ValueError) as error:
            failed = True
            yield Breach(str(error), (*at, "inputs", name, *file), "Mend what the input says.")
    if failed:
        return
    try:
        _request(config, zeros, folder)
    except InferenceError as error:
        yield Breach(error.message, at, "Mend the sample's inputs.")


def _unnamed(config: ModelConfig) -> Iterator[str]:
    """The inputs that a sequence's scheduler adds."""
    for control in config.sequence_batching.control_input:
        yield control.name
    for state in config.sequence_batching.state:
        yield state.input_name


async def _warm(
    config: ModelConfig, samples: list[tuple[Any, Request]], instance: Executions
) -> None:
    for sample, request in samples:
        # A model without a batch dimension gets one request at a time.
        together = sample.batch_size if config.max_batch_size else 1
        for iteration in range(1, max(sample.count, 1) + 1):
            log.debug(
                "model '%s' is running warmup sample '%s' for iteration %d",
                *(config.name, sample.name, iteration),
            )
            for _ in range(sample.batch_size // together):
                errors = await _execute(instance, [request] * together)
                if errors:
                    said = "".join(f"{error.message}; " for error in errors)
                    raise invalid(f"failed to run warmup sample '{sample.name}': {said}")


async def _execute(instance: Executions, requests: list[Request]) -> list[InferenceError]:
    """One execution; the errors that it answered."""
    asked = []
    calls = []
    for request in requests:
        responses = Responses()
        call = Call(request, responses.deliver)
        asked.append(responses.watch(call))
        calls.append(call)
    done = asyncio.Event()
    instance.execute(calls, done.set)
    errors = []
    for responses in asked:
        try:
            async for _ in responses:
                pass
        except InferenceError as error:
            errors.append(error)
    return errors


def _request(config: ModelConfig, sample: Any, folder: Path) -> Request:
    """One request of a sample, as the model sees it. Raises InferenceError."""
    declared = {tensor.name for tensor in config.input}
    tensors = {name: _tensor(name, entry, folder) for name, entry in sorted(sample.inputs.items())}
    if config.max_batch_size:
        tensors = {name: tensor[np.newaxis] for name, tensor in tensors.items()}
    own = {name: tensor for name, tensor in tensors.items() if name in declared}
    request = Request(config.name, own)
    try:
        Contract(config).check(request)
    except InferenceError as error:
        raise invalid(f"warmup sample '{sample.name}': {error.message}") from None
    reshape = Reshape.of(config)
    if reshape is not None:
        request = reshape.request(request)
    # What is not declared is a sequence's control, which its scheduler would have added.
    return request._replace(inputs={**tensors, **request.inputs})


def _tensor(name: str, entry: Any, folder: Path) -> Tensor:
    kind, shape = datatype(entry.data_type), tuple(entry.dims)
    if any(dim < 0 for dim in shape):
        raise invalid(
            f"warmup setting expects all variable-size dimensions are specified for input '{name}'"
        )
    source = entry.WhichOneof("input_data_type")
    if source is None:
        raise invalid(f"warmup setting expects input '{name}' to have input_data_type set")
    try:
        if source == "input_data_file":
            return _read(folder / _FOLDER, entry.input_data_file, kind, shape)
        dtype = numpy_dtype(kind)
    except KeyError:
        raise invalid(f"warmup setting of input '{name}': it has no data_type") from None
    if kind == "BYTES":
        return np.full(shape, b"", dtype)
    if source == "zero_data":
        return np.zeros(shape, dtype)
    random = np.random.default_rng()
    if dtype.kind in "biu":
        return random.integers(0, 2 if kind == "BOOL" else _SMALL, shape).astype(dtype)
    return random.random(shape).astype(dtype)


def _read(folder: Path, file: str, kind: str, shape: tuple[int, ...]) -> Tensor:
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise invalid(f"warmup setting: '{file}' is not in the model's folder '{_FOLDER}'")
    try:
        data = path.read_bytes()
        if kind != "BYTES":
            size = math.prod(shape) * numpy_dtype(kind).itemsize
            if len(data) < size:
                raise invalid(
                    f"warmup setting expects {size} bytes, but the data provided from {file} only "
                    f"has {len(data)} bytes"
                )
            data = data[:size]
        return from_bytes(memoryview(data), kind, shape)
    except OSError as error:
        raise invalid(f"warmup setting: {path}: {error.strerror}") from None
    except ValueError as error:
        raise invalid(f"warmup setting: {path} is not a {kind} of {list(shape)}: {error}") from None
