"""What an ensemble's config must keep to: its own graph, and the models of its steps.

The first sentence of every text is Triton's, which its tests compare; what follows is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tritonclient.grpc import model_config_pb2

from nerite.core.errors import invalid
from nerite.core.tensor import fits
from nerite.repository.config import ModelConfig
from nerite.repository.problem import Breach, Place

Dims = tuple[int, ...]

_ONE = -1  # the one answer of what is not decoupled


def steps(config: ModelConfig) -> Sequence[Any]:
    """The steps of an ensemble; none of any other model."""
    found: Sequence[Any] = config.ensemble_scheduling.step
    return found


def graph_breaches(config: ModelConfig) -> Iterator[Breach]:
    """What is wrong with an ensemble's config as far as can be told without its models."""
    name = config.name
    if config.backend:
        yield Breach(
            f"Ensemble model '{name}' must have platform type 'ensemble' and empty backend type.",
            ("backend",),
            "Remove 'backend'.",
        )
    elif config.platform != "ensemble":
        yield Breach(
            f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble.",
            ("ensemble_scheduling",),
            "Set platform: \"ensemble\", or remove 'ensemble_scheduling'.",
        )
    if not config.HasField("ensemble_scheduling"):
        yield Breach(
            f"ensemble scheduling must be set for ensemble {name} whose platform is ensemble.",
            ("platform",),
            "Add 'ensemble_scheduling' with the steps.",
        )
        return
    for field, verb, at, present in (
        ("instance group", "should", "instance_group", len(config.instance_group)),
        ("optimization", "should", "optimization", config.HasField("optimization")),
        ("model_warmup", "can", "model_warmup", len(config.model_warmup)),
    ):
        if present:
            yield Breach(
                f"{field} {verb} not be specified for ensemble '{name}'.",
                (at,),
                "Specify it for the models of its steps.",
            )
    maps = list(_maps(config))
    yield from maps or _flow(config)  # what steps do not tell right cannot be followed


def _maps(config: ModelConfig) -> Iterator[Breach]:
    if not steps(config):
        text = f"must specify 'step' for ensemble '{config.name}'."
        yield Breach(text, ("ensemble_scheduling",), "An ensemble is its steps.")
    written: set[str] = set()
    inputs = {item.name for item in config.input}
    for index, step in enumerate(steps(config)):
        at = place_of(index)
        for field in ("model_name", "input_map", "output_map"):
            if not len(getattr(step, field)):
                yield Breach(
                    f"must specify '{field}' in step {index} of ensemble '{config.name}'.",
                    at,
                    "Each step names its model and maps the model's tensors to the ensemble's.",
                )
        for key, tensor in step.output_map.items():
            here = (*at, "output_map", key)
            if tensor in written:
                yield Breach(
                    f"ensemble tensor '{tensor}' can appear in an output map only once for "
                    f"ensemble '{config.name}' step {index}.",
                    here,
                    "Give this one another name.",
                )
            if tensor in inputs:
                yield Breach(
                    f"ensemble tensor '{tensor}' is an input of ensemble '{config.name}', and step "
                    f"{index} writes it.",
                    here,
                    "Give what the step writes another name.",
                )
            written.add(tensor)


def place_of(index: int) -> Place:
    """Where a step stands in its config."""
    return ("ensemble_scheduling", "step", index)


def _flow(config: ModelConfig) -> Iterator[Breach]:
    """Every tensor is written by a step or a client, and read by a step or a client."""
    name = config.name
    sources = _sources(config)
    read = {tensor for step in steps(config) for tensor in step.input_map.values()}
    for index, item in enumerate(config.input):
        if item.name not in read and item.name not in sources:
            yield Breach(
                f"ensemble input '{item.name}' for ensemble {name}' is not used.",
                ("input", index),
                "Map it to an input of a step, or remove it.",
            )
    ready = _reached(config)
    outputs = [item.name for item in config.output]
    for index, output in enumerate(outputs):
        if output not in read and output not in sources:
            yield Breach(
                f"ensemble output '{output}' for ensemble {name}' is not used.",
                ("output", index),
                "Map an output of a step to it, or remove it.",
            )
        elif output not in ready:
            yield Breach(
                f"output '{output}' for ensemble '{name}' is not written"
                f"{_culprit(output, sources, ready)}.",
                ("output", index),
                "Map an output of a step to it; steps must not wait for each other.",
            )
    for tensor, at in _ends(config).items():
        if tensor not in outputs and (tensor not in ready or tensor not in read):
            yield Breach(
                f"ensemble tensor '{tensor}' is unused in ensemble '{name}'.",
                at,
                "Every tensor must be written by a step or an input, and lead to an output.",
            )


def _ends(config: ModelConfig) -> dict[str, Place]:
    """The tensors that steps read or write, and where each is first named."""
    found: dict[str, Place] = {}
    for field in ("input_map", "output_map"):
        for index, step in enumerate(steps(config)):
            for key, tensor in getattr(step, field).items():
                found.setdefault(tensor, (*place_of(index), field, key))
    return found


def _sources(config: ModelConfig) -> dict[str, list[str]]:
    """Of each tensor that a step writes: those which the step reads."""
    return {
        tensor: list(step.input_map.values())
        for step in steps(config)
        for tensor in step.output_map.values()
    }


def _reached(config: ModelConfig) -> set[str]:
    """The tensors that a request brings forth."""
    ready = {item.name for item in config.input}
    waiting = list(steps(config))
    while waiting:
        runs = [step for step in waiting if ready.issuperset(step.input_map.values())]
        if not runs:
            break
        waiting = [step for step in waiting if step not in runs]
        ready.update(tensor for step in runs for tensor in step.output_map.values())
    return ready


def _culprit(output: str, sources: Mapping[str, Sequence[str]], ready: set[str]) -> str:
    """The far end of the chain that leaves an output unwritten; the walk ends in a circle too."""
    seen: list[str] = []
    found: str | None = output
    while found is not None:
        seen.append(found)
        needed = sources.get(found, ())
        found = next((one for one in needed if one not in ready and one not in seen), None)
    if len(seen) == 1:
        return ""
    return f": at least one of its depending tensors, '{seen[-1]}', is not connected"


class _Node(NamedTuple):
    """What is known of an ensemble's tensor. model: whose config says so. dims: without the
    batch dimension, full: with it."""

    model: str
    data_type: int
    dims: Dims
    full: Dims


def _node(config: ModelConfig, tensor: Any, *, own: bool = False) -> _Node:
    dims = tuple(tensor.reshape.shape if own and tensor.HasField("reshape") else tensor.dims)
    full = (-1, *dims) if config.max_batch_size > 0 else dims
    return _Node(config.name, tensor.data_type, dims, full)


def check_steps(config: ModelConfig, models: Sequence[ModelConfig]) -> bool:
    """Hold an ensemble to the models of its steps, which stand in the steps' order.

    Returns whether it is decoupled. Raises InferenceError.
    """
    for breach in step_breaches(config, models):
        raise invalid(str(breach))
    return any(stream != _ONE for stream in _streams(config, models)[0])


def step_breaches(config: ModelConfig, models: Sequence[ModelConfig]) -> Iterator[Breach]:
    """What `check_steps` raises, all of it."""
    tensors = {item.name: _node(config, item, own=True) for item in config.input}
    tensors.update({item.name: _node(config, item, own=True) for item in config.output})
    for index, (step, model) in enumerate(zip(steps(config), models, strict=True)):
        at = place_of(index)
        if 0 < model.max_batch_size < config.max_batch_size:
            yield Breach(
                f"ensemble {config.name} allows maximum batch size {config.max_batch_size}, but "
                f"it contains model {model.name} which only allows maximum batch size to be "
                f"{model.max_batch_size}.",
                ("max_batch_size",),
                "Lower the one 'max_batch_size' or raise the other.",
            )
        yield from _mapping(config.name, step, model, at)
        for tensor, node, here in _mapped(step, model, at):
            known = tensors.setdefault(tensor, node)
            yield from _agreement(config.name, tensor, known, node, here)
    yield from _streams(config, models)[1]


def _mapping(ensemble: str, step: Any, model: ModelConfig, at: Place) -> Iterator[Breach]:
    inputs = {item.name: item for item in model.input}
    for key, tensor in step.input_map.items():
        if key not in inputs:
            yield Breach(
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapping to non-existing "
                f"input {key} in model {model.name}.",
                (*at, "input_map", key),
                f"Its inputs are {', '.join(inputs)}.",
            )
    for name, item in inputs.items():
        if name not in step.input_map and not item.optional:
            yield Breach(
                f"in ensemble {ensemble}, input {name} in model {model.name} is not mapped to "
                "any ensemble tensors.",
                at,
                "Add it to the step's input_map.",
            )
    outputs = [item.name for item in model.output]
    for key, tensor in step.output_map.items():
        if key not in outputs:
            yield Breach(
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapped from non-existing "
                f"output {key} in model {model.name}.",
                (*at, "output_map", key),
                f"Its outputs are {', '.join(outputs)}.",
            )


def _mapped(step: Any, model: ModelConfig, at: Place) -> Iterator[tuple[str, _Node, Place]]:
    """The ensemble's tensors that a step has to do with, as its model words them, and where."""
    for item in model.input:
        if item.name in step.input_map:
            yield step.input_map[item.name], _node(model, item), (*at, "input_map", item.name)
    for item in model.output:
        if item.name in step.output_map:
            yield step.output_map[item.name], _node(model, item), (*at, "output_map", item.name)


def _agreement(
    ensemble: str, tensor: str, known: _Node, found: _Node, at: Place
) -> Iterator[Breach]:
    where = f"in ensemble {ensemble}, ensemble tensor {tensor}: "
    if known.data_type != found.data_type:
        name = model_config_pb2.DataType.Name
        yield Breach(
            f"{where}inconsistent data type: {name(known.data_type)} is inferred from model "
            f"{known.model} while {name(found.data_type)} is inferred from model {found.model}.",
            at,
            "Both must have the same; a step between them can convert.",
        )
    # Full shapes too: a model without batches may take a whole batch as one tensor.
    if not fits(known.dims, found.dims) and not fits(known.full, found.full):
        yield Breach(
            f"{where}inconsistent shape: {_text(known.full)} is inferred from model {known.model} "
            f"while {_text(found.full)} is inferred from model {found.model}.",
            at,
            "Mend 'dims' of one of them, or 'max_batch_size', which adds the -1 in front.",
        )


def _text(dims: Dims) -> str:
    return f"[{','.join(map(str, dims))}]"


def _streams(config: ModelConfig, models: Sequence[ModelConfig]) -> tuple[set[int], list[Breach]]:
    """The streams of answers that a request brings forth, and what joins several of them.

    A request may have several answers, or none, as soon as a step's may: each such step's are a
    stream. A step cannot join what comes once with what comes many times, nor two streams.
    """
    name = config.name
    streams = {item.name: _ONE for item in config.input}  # each tensor's, by its first step
    breaches = []
    waiting = list(enumerate(zip(steps(config), models, strict=True)))
    while waiting:
        index, (step, model) = next(
            one for one in waiting if all(read in streams for read in one[1][0].input_map.values())
        )
        waiting.remove((index, (step, model)))
        found = {streams[read] for read in step.input_map.values()}
        if len(found) > 1:
            breaches.append(_joins(name, model.name, place_of(index)))
        stream = index if model.model_transaction_policy.decoupled else max(found)
        streams.update({written: stream for written in step.output_map.values()})
    if len({streams[item.name] for item in config.output}) > 1:
        breaches.append(_joins(name, name, ("output",)))
    return set(streams.values()), breaches


def _joins(ensemble: str, model: str, at: Place) -> Breach:
    return Breach(
        f"in ensemble {ensemble}, step of model '{model}' receives inputs originated from "
        "different decoupled models.",
        at,
        "What it joins must come from one answer of one of them.",
    )
