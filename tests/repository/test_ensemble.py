"""What an ensemble's config must keep to, on its own and with the models of its steps."""

from typing import Any

import pytest
from google.protobuf import text_format

from nerite.core.errors import InferenceError
from nerite.repository.config import ModelConfig
from nerite.repository.ensemble import check_steps, graph_breaches, step_breaches


def tensor(name: str, kind: str = "FP32", dims: str = "4", more: str = "") -> str:
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] {more} }}'


def step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    maps = [("input_map", pair) for pair in inputs.items()]
    maps += [("output_map", pair) for pair in outputs.items()]
    body = " ".join(f'{name} {{ key: "{key}" value: "{value}" }}' for name, (key, value) in maps)
    return f'{{ model_name: "{model}" model_version: -1 {body} }}'


def parse(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def ensemble(
    *steps: str, inputs: str = tensor("in"), outputs: str = tensor("out"), more: str = ""
) -> ModelConfig:
    return parse(
        f'name: "e" platform: "ensemble" {more} input [ {inputs} ] output [ {outputs} ] '
        f"ensemble_scheduling {{ step [ {', '.join(steps)} ] }}"
    )


def model(
    inputs: str = tensor("a"), outputs: str = tensor("b"), name: str = "m", more: str = ""
) -> ModelConfig:
    return parse(f'name: "{name}" {more} input [ {inputs} ] output [ {outputs} ]')


FIRST = step("m", {"a": "in"}, {"b": "between"})
SECOND = step("n", {"a": "between"}, {"b": "out"})
ONLY = step("m", {"a": "in"}, {"b": "out"})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ensemble(ONLY, more='backend: "python"'), "must have platform type 'ensemble' and empty"),
        (ensemble(ONLY, more="instance_group [ {} ]"), "instance group should not be specified"),
        (ensemble(ONLY, more="optimization {}"), "optimization should not be specified for"),
        (ensemble(ONLY, more="model_warmup [ {} ]"), "model_warmup can not be specified for"),
        (ensemble(), "must specify 'step' for ensemble 'e'"),
        (parse('name: "e" platform: "ensemble"'), "ensemble scheduling must be set for ensemble e"),
        (
            parse('name: "e" platform: "x" ensemble_scheduling {}'),
            "ensemble scheduling cannot be set for model 'e' whose platform is not ensemble",
        ),
        (ensemble(FIRST, step("", {"a": "in"}, {})), "must specify 'model_name' in step 1"),
        (ensemble(step("m", {}, {"b": "out"})), "must specify 'input_map' in step 0"),
        (ensemble(step("m", {"a": "in"}, {})), "must specify 'output_map' in step 0"),
        (ensemble(ONLY, ONLY), "'out' can appear in an output map only once for ensemble 'e' step"),
        (ensemble(ONLY, step("m", {"a": "out"}, {"b": "in"})), "'in' is an input of ensemble 'e'"),
        (
            ensemble(ONLY, inputs=f"{tensor('in')}, {tensor('more')}"),
            "ensemble input 'more' for ensemble e' is not used",
        ),
        (
            ensemble(ONLY, outputs=f"{tensor('out')}, {tensor('more')}"),
            "ensemble output 'more' for ensemble e' is not used",
        ),
        (ensemble(ONLY, FIRST), "ensemble tensor 'between' is unused in ensemble 'e'"),
        (
            ensemble(SECOND, step("m", {"a": "in"}, {"b": "x"})),
            "output 'out' for ensemble 'e' is not written: at least one of its depending tensors, "
            "'between', is not connected",
        ),
        (
            ensemble(
                step("m", {"a": "in", "c": "back"}, {"b": "between"}),
                step("n", {"a": "between"}, {"b": "out", "c": "back"}),
            ),
            "output 'out' for ensemble 'e' is not written",
        ),
    ],
)
def test_a_bad_graph(config: ModelConfig, expected: str) -> None:
    first = str(next(graph_breaches(config)))
    assert expected in first
    assert first.endswith(".")


@pytest.mark.parametrize(
    ("config", "models", "expected"),
    [
        (
            ensemble(ONLY, more="max_batch_size: 3"),
            [model(more="max_batch_size: 2")],
            "allows maximum batch size 3, but it contains model m which only allows maximum batch",
        ),
        (
            ensemble(ONLY),
            [model(inputs=tensor("x"))],
            "tensor in is mapping to non-existing input a in model m. Its inputs are x.",
        ),
        (
            ensemble(ONLY),
            [model(outputs=tensor("x"))],
            "tensor out is mapped from non-existing output b in model m. Its outputs are x.",
        ),
        (
            ensemble(ONLY),
            [model(inputs=f"{tensor('a')}, {tensor('c')}")],
            "in ensemble e, input c in model m is not mapped to any ensemble tensors",
        ),
        (
            ensemble(FIRST, SECOND),
            [model(), model(inputs=tensor("a", "INT8"), name="n")],
            "inconsistent data type: TYPE_FP32 is inferred from model m while TYPE_INT8 is "
            "inferred from model n",
        ),
        (
            ensemble(FIRST, SECOND),
            [model(), model(inputs=tensor("a", dims="4, 4"), name="n")],
            "inconsistent shape: [4] is inferred from model m while [4,4] is inferred from model n",
        ),
    ],
)
def test_models_that_do_not_fit(
    config: ModelConfig, models: list[ModelConfig], expected: str
) -> None:
    assert not list(graph_breaches(config))
    with pytest.raises(InferenceError) as caught:
        check_steps(config, models)
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("config", "models"),
    [
        (ensemble(FIRST, SECOND), [model(), model(inputs=tensor("a", dims="-1"))]),
        # A model without batches takes the whole batch as one tensor.
        (ensemble(ONLY, more="max_batch_size: 8"), [model(tensor("a", dims="-1, 4"))]),
        (ensemble(ONLY), [model(f"{tensor('a')}, {tensor('c', more='optional: true')}")]),
        (
            ensemble(ONLY, inputs=tensor("in", dims="2, 2", more="reshape { shape: [ 4 ] }")),
            [model()],
        ),
    ],
)
def test_models_that_fit(config: ModelConfig, models: list[ModelConfig]) -> None:
    assert not list(graph_breaches(config))
    assert check_steps(config, models) is False


DECOUPLED = "model_transaction_policy { decoupled: true }"
JOIN = {"inputs": f"{tensor('x')}, {tensor('y')}"}


@pytest.mark.parametrize(
    ("joined", "fits"), [({"x": "s", "y": "t"}, True), ({"x": "s", "y": "in"}, False)]
)
def test_streams_meet_only_themselves(joined: dict[str, str], fits: bool) -> None:
    used = {"b": "s", "c": "t"} if fits else {"b": "s"}
    config = ensemble(step("m", {"a": "in"}, used), step("n", joined, {"b": "out"}))
    outputs = f"{tensor('b')}, {tensor('c')}"
    models: list[Any] = [model(outputs=outputs, more=DECOUPLED), model(**JOIN, name="n")]
    assert not list(graph_breaches(config))
    if fits:
        assert check_steps(config, models) is True
        return
    with pytest.raises(InferenceError, match="step of model 'n' receives inputs originated from"):
        check_steps(config, models)


def test_all_that_is_wrong_is_told_with_its_place() -> None:
    wrong = ensemble(
        ONLY,
        step("", {"a": "in"}, {"b": "out"}),
        more="instance_group {} max_batch_size: 3",
    )
    at = ("ensemble_scheduling", "step", 1)
    places = [breach.at for breach in graph_breaches(wrong)]
    assert places == [("instance_group",), at, (*at, "output_map", "b")]
    config = ensemble(ONLY, more="max_batch_size: 3")
    models = [model(tensor("x"), tensor("b", "INT8"), more="max_batch_size: 2")]
    step_at = ("ensemble_scheduling", "step", 0)
    assert [breach.at for breach in step_breaches(config, models)] == [
        ("max_batch_size",),
        (*step_at, "input_map", "a"),
        step_at,
        (*step_at, "output_map", "b"),
    ]
