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

Dims = tuple[int, ...]


def steps(config: ModelConfig) -> Sequence[Any]:
    """The steps of an ensemble; none of any other model."""
    found: Sequence[Any] = config.ensemble_scheduling.step
    return found


def check_graph(config: ModelConfig) -> None:
    """Hold an ensemble's config to what can be known without its models. InferenceError."""
    name = config.name
    if config.backend:
        raise invalid(
            f"Ensemble model '{name}' must have platform type 'ensemble' and empty backend type. "
            "Remove 'backend'."
        )
    if config.platform != "ensemble":
        raise invalid(
            f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble. "
            "Set platform: \"ensemble\", or remove 'ensemble_scheduling'."
        )
    if not config.HasField("ensemble_scheduling"):
        raise invalid(
            f"ensemble scheduling must be set for ensemble {name} whose platform is ensemble. "
            "Add 'ensemble_scheduling' with the steps."
        )
    for field, verb, present in (
        ("instance group", "should", len(config.instance_group)),
        ("optimization", "should", config.HasField("optimization")),
        ("model_warmup", "can", len(config.model_warmup)),
    ):
        if present:
            raise invalid(
                f"{field} {verb} not be specified for ensemble '{name}'. "
                "Specify it for the models of its steps."
            )
    if not steps(config):
        raise invalid(f"must specify 'step' for ensemble '{name}'. An ensemble is its steps.")
    _check_maps(config)
    _check_flow(config)


def _check_maps(config: ModelConfig) -> None:
    written: set[str] = set()
    inputs = {item.name for item in config.input}
    for index, step in enumerate(steps(config)):
        for field in ("model_name", "input_map", "output_map"):
            if not len(getattr(step, field)):
                raise invalid(
                    f"must specify '{field}' in step {index} of ensemble '{config.name}'. "
                    "Each step names its model and maps the model's tensors to the ensemble's."
                )
        for tensor in step.output_map.values():
            if tensor in written:
                raise invalid(
                    f"ensemble tensor '{tensor}' can appear in an output map only once for "
                    f"ensemble '{config.name}' step {index}. Give this one another name."
                )
            if tensor in inputs:
                raise invalid(
                    f"ensemble tensor '{tensor}' is an input of ensemble '{config.name}', and step "
                    f"{index} writes it. Give what the step writes another name."
                )
            written.add(tensor)


def _check_flow(config: ModelConfig) -> None:
    """Every tensor is written by a step or a client, and read by a step or a client."""
    name = config.name
    sources = _sources(config)
    read = {tensor for step in steps(config) for tensor in step.input_map.values()}
    for item in config.input:
        if item.name not in read and item.name not in sources:
            raise invalid(
                f"ensemble input '{item.name}' for ensemble {name}' is not used. "
                "Map it to an input of a step, or remove it."
            )
    ready = _reached(config)
    outputs = {item.name for item in config.output}
    for output in [item.name for item in config.output]:
        if output not in read and output not in sources:
            raise invalid(
                f"ensemble output '{output}' for ensemble {name}' is not used. "
                "Map an output of a step to it, or remove it."
            )
        if output not in ready:
            raise invalid(f"output '{output}' for ensemble '{name}' is not written"
                          f"{_culprit(output, sources, ready)}. Map an output of a step to it; "
                          "steps must not wait for each other.")  # fmt: skip
    for tensor in [*read, *sources]:
        if tensor not in outputs and (tensor not in ready or tensor not in read):
            raise invalid(
                f"ensemble tensor '{tensor}' is unused in ensemble '{name}'. "
                "Every tensor must be written by a step or an input, and lead to an output."
            )


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
    tensors = {item.name: _node(config, item, own=True) for item in config.input}
    tensors.update({item.name: _node(config, item, own=True) for item in config.output})
    for step, model in zip(steps(config), models, strict=True):
        if 0 < model.max_batch_size < config.max_batch_size:
            raise invalid(
                f"ensemble {config.name} allows maximum batch size {config.max_batch_size}, but "
                f"it contains model {model.name} which only allows maximum batch size to be "
                f"{model.max_batch_size}. Lower the one 'max_batch_size' or raise the other."
            )
        _check_mapping(config.name, step, model)
        for tensor, node in _mapped(step, model):
            known = tensors.setdefault(tensor, node)
            _check_agreement(config.name, tensor, known, node)
    return _is_decoupled(config, models)


def _check_mapping(ensemble: str, step: Any, model: ModelConfig) -> None:
    inputs = {item.name: item for item in model.input}
    for key, tensor in step.input_map.items():
        if key not in inputs:
            raise invalid(
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapping to non-existing "
                f"input {key} in model {model.name}. Its inputs are {', '.join(inputs)}."
            )
    for name, item in inputs.items():
        if name not in step.input_map and not item.optional:
            raise invalid(
                f"in ensemble {ensemble}, input {name} in model {model.name} is not mapped to "
                "any ensemble tensors. Add it to the step's input_map."
            )
    outputs = [item.name for item in model.output]
    for key, tensor in step.output_map.items():
        if key not in outputs:
            raise invalid(
                f"in ensemble {ensemble}, ensemble tensor {tensor} is mapped from non-existing "
                f"output {key} in model {model.name}. Its outputs are {', '.join(outputs)}."
            )


def _mapped(step: Any, model: ModelConfig) -> Iterator[tuple[str, _Node]]:
    """The ensemble's tensors that a step has to do with, as its model words them."""
    for item in model.input:
        if item.name in step.input_map:
            yield step.input_map[item.name], _node(model, item)
    for item in model.output:
        if item.name in step.output_map:
            yield step.output_map[item.name], _node(model, item)


def _check_agreement(ensemble: str, tensor: str, known: _Node, found: _Node) -> None:
    where = f"in ensemble {ensemble}, ensemble tensor {tensor}: "
    if known.data_type != found.data_type:
        name = model_config_pb2.DataType.Name
        raise invalid(
            f"{where}inconsistent data type: {name(known.data_type)} is inferred from model "
            f"{known.model} while {name(found.data_type)} is inferred from model {found.model}. "
            "Both must have the same; a step between them can convert."
        )
    # Full shapes too: a model without batches may take a whole batch as one tensor.
    if not fits(known.dims, found.dims) and not fits(known.full, found.full):
        raise invalid(
            f"{where}inconsistent shape: {_text(known.full)} is inferred from model {known.model} "
            f"while {_text(found.full)} is inferred from model {found.model}. "
            "Mend 'dims' of one of them, or 'max_batch_size', which adds the -1 in front."
        )


def _text(dims: Dims) -> str:
    return f"[{','.join(map(str, dims))}]"


def _is_decoupled(config: ModelConfig, models: Sequence[ModelConfig]) -> bool:
    """Whether a request may have several answers, or none: as soon as a step's may.

    A step cannot join what comes once with what comes many times, nor two streams.
    """
    streams = {item.name: -1 for item in config.input}  # each tensor's, by its first step
    waiting = list(enumerate(zip(steps(config), models, strict=True)))
    while waiting:
        index, (step, model) = next(
            one for one in waiting if all(name in streams for name in one[1][0].input_map.values())
        )
        waiting.remove((index, (step, model)))
        read = [streams[name] for name in step.input_map.values()]
        stream = _joined(config.name, model.name, read)
        if model.model_transaction_policy.decoupled:
            stream = index
        streams.update({name: stream for name in step.output_map.values()})
    _joined(config.name, config.name, [streams[item.name] for item in config.output])
    return any(stream != -1 for stream in streams.values())


def _joined(ensemble: str, model: str, streams: Sequence[int]) -> int:
    found = set(streams)
    if len(found) > 1:
        raise invalid(
            f"in ensemble {ensemble}, step of model '{model}' receives inputs originated from "
            "different decoupled models. What it joins must come from one answer of one of them."
        )
    return found.pop()
