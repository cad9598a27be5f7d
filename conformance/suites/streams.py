"""Ensembles and models with none or many responses."""

from dataclasses import replace

from conformance.models import Edit, Model, add, parameters, python, tensor
from conformance.suite import Cases, Group, Logged, Refused, Suite

HERE = "server/qa/L0_simple_ensemble"
ONNX = "server/docs/examples/model_repository/simple/1/model.onnx"
SIMPLE = (
    Model(
        "./models/simple",
        files={"1/model.onnx": ONNX, "2/model.onnx": ONNX},
        versions=("1", "2"),
    ),
)
BATCH_1 = Edit("max_batch_size: 64", "max_batch_size: 1")
QUEUE = (
    "dynamic_batching {{ preferred_batch_size: [ 1 ]"
    " default_queue_policy {{ max_queue_size: {} }} }}"
)


def _consumer(name: str, *edits: Edit) -> Model:
    return python("ground_truth", name=name, edits=(BATCH_1, *edits))


def _producer(name: str, *edits: Edit) -> Model:
    return Model(f"{HERE}/backpressure_test_models/decoupled_producer", name=name, edits=edits)


def _ensemble(name: str, old: str, new: str) -> Model:
    return Model(
        f"{HERE}/backpressure_test_models/ensemble_disabled_max_inflight_requests",
        name=name,
        edits=(Edit(old, new),),
    )


def _step(model: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    maps = [f'input_map {{ key: "{key}" value: "{value}" }}' for key, value in inputs.items()]
    maps += [f'output_map {{ key: "{key}" value: "{value}" }}' for key, value in outputs.items()]
    return f'step {{ model_name: "{model}" model_version: -1 {" ".join(maps)} }}'


def _pipeline(name: str, batch: int, limit: str, *steps: str) -> Model:
    lines = [
        'platform: "ensemble"',
        f"max_batch_size: {batch}",
        f"input {tensor('IN', 'INT32', '1')}",
        f"output {tensor('OUT', 'FP32', '1')}",
        f"ensemble_scheduling {{ {limit}",
        *steps,
        "}",
    ]
    return Model(name=name, config="\n".join(lines))


CONSUMER = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", values)]))
            time.sleep({})
        return answers
"""


def _sleeper(name: str, seconds: float) -> Model:
    """A consumer that takes its time over each request of a batch."""
    lines = [
        'backend: "python"',
        "max_batch_size: 2",
        f"input {tensor('INPUT0', 'FP32', '1')}",
        f"output {tensor('OUTPUT0', 'FP32', '1')}",
        "instance_group [{ count: 1 kind: KIND_CPU }]",
        "dynamic_batching { preferred_batch_size: [ 2 ] }",
    ]
    code = add(CONSUMER.format(seconds), "1/model.py")
    return Model(name=name, config="\n".join(lines), edits=(code,))


LIMITED = (
    _producer("decoupled_producer", Edit("max_batch_size: 1", "max_batch_size: 2")),
    _sleeper("consumer_high_delay", 0.5),
    _sleeper("consumer_low_delay", 0.1),
    *(
        _pipeline(
            name,
            2,
            limit,
            _step("decoupled_producer", {"IN": "IN"}, {"OUT": "intermediate_1"}),
            _step("consumer_high_delay", {"INPUT0": "intermediate_1"}, {"OUTPUT0": "second"}),
            _step("consumer_low_delay", {"INPUT0": "second"}, {"OUTPUT0": "OUT"}),
        )
        for name, limit in (
            ("ensemble_disabled", ""),
            ("ensemble_limit_1", "max_inflight_requests: 1"),
            ("ensemble_limit_4", "max_inflight_requests: 4"),
        )
    ),
)
PARALLEL = (
    _producer("decoupled_producer_parallel_queue", Edit(r"0\.5", "2.0", "1/model.py")),
    _consumer("slow_consumer_queue_limited", add(QUEUE.format(1))),
    _consumer("fast_consumer", Edit(r"time\.sleep\(delay\)", "time.sleep(0)", "1/model.py")),
    python("join_add_sub"),
    _pipeline(
        "ensemble_parallel_step_failed_enqueue",
        0,
        "",
        _step("decoupled_producer_parallel_queue", {"IN": "IN"}, {"OUT": "intermediate"}),
        _step("slow_consumer_queue_limited", {"INPUT0": "intermediate"}, {"OUTPUT0": "slow_out"}),
        _step("fast_consumer", {"INPUT0": "intermediate"}, {"OUTPUT0": "fast_out"}),
        _step("join_add_sub", {"INPUT0": "slow_out", "INPUT1": "fast_out"}, {"OUTPUT0": "OUT"}),
    ),
)
QUEUED = (
    _ensemble(
        "ensemble_step1_enabled_max_queue_size",
        '"decoupled_producer"',
        '"decoupled_producer_enabled_max_queue_size"',
    ),
    _ensemble(
        "ensemble_step2_enabled_max_queue_size",
        '"slow_consumer"',
        '"slow_consumer_enabled_max_queue_size"',
    ),
    _producer("decoupled_producer_enabled_max_queue_size", add(QUEUE.format(4))),
    _producer("decoupled_producer"),
    _consumer("slow_consumer"),
    _consumer("slow_consumer_enabled_max_queue_size", add(QUEUE.format(4))),
)
BACKPRESSURE = "ensemble_backpressure_test.py"


def _bad_limit(name: str, value: str, text: str) -> Group:
    ensemble = _ensemble(
        name,
        r"ensemble_scheduling \{",
        f"ensemble_scheduling {{\n  max_inflight_requests: {value}",
    )
    models = (ensemble, _producer("decoupled_producer"), _consumer("slow_consumer"))
    return Group(name, (Refused(name, (text,)),), _in("bad", models), repositories=("bad",))


def _in(folder: str, models: tuple[Model, ...]) -> tuple[Model, ...]:
    return tuple(replace(one, into=folder) for one in models)


SIMPLE_ENSEMBLE = Suite(
    "L0_simple_ensemble",
    4,
    (
        *(
            Group(name, (Cases("ensemble_test.py", (name,)),), SIMPLE, ("--log-verbose=1",))
            for name in (
                "test_ensemble_add_sub",
                "test_ensemble_sequence_flags",
                "test_ensemble_add_sub_one_output",
                "test_ensemble_partial_add_sub",
            )
        ),
        Group(
            "max_queue_size",
            (Cases(BACKPRESSURE, ("EnsembleStepMaxQueueSizeTest",)),),
            _in("queued", QUEUED),
            repositories=("queued",),
        ),
        Group(
            "parallel_failed_enqueue",
            (Cases(BACKPRESSURE, ("EnsembleParallelFailedEnqueueTest",)),),
            _in("parallel", PARALLEL),
            env={"PARALLEL_FAILED_ENQUEUE_LOOPS": "1"},
            repositories=("parallel",),
        ),
        Group(
            "backpressure",
            (
                Cases(BACKPRESSURE, ("EnsembleBackpressureTest",)),
                *(
                    Logged(
                        f"limit {limit} is in the log",
                        f"Ensemble model 'ensemble_limit_{limit}' configured with "
                        f"max_inflight_requests: {limit}",
                    )
                    for limit in (1, 4)
                ),
            ),
            _in("limited", LIMITED),
            repositories=("limited",),
        ),
        _bad_limit("ensemble_invalid_negative_limit", "-5", "Expected integer, got: -"),
        _bad_limit(
            "ensemble_invalid_string_limit",
            '"invalid_value"',
            'Expected integer, got: "invalid_value"',
        ),
        _bad_limit(
            "ensemble_invalid_large_value_limit",
            "12345678901",
            r"Integer out of range \(12345678901\)",
        ),
    ),
)

JOIN = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            a, b = [
                pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in ("INPUT0", "INPUT1")
            ]
            outputs = [pb_utils.Tensor("OUTPUT__0", a - b), pb_utils.Tensor("OUTPUT__1", a + b)]
            answers.append(pb_utils.InferenceResponse(outputs))
        return answers
"""


def _join() -> Model:
    """In place of a libtorch model that joins what comes of each response."""
    tensors = [
        f"{kind} {tensor(name, 'INT32', '-1')}"
        for kind, name in (
            ("input", "INPUT0"),
            ("input", "INPUT1"),
            ("output", "OUTPUT__0"),
            ("output", "OUTPUT__1"),
        )
    ]
    config = "\n".join(['backend: "python"', *tensors])
    name = "libtorch_nobatch_int32_int32_int32"
    return Model(name=name, config=config, edits=(add(JOIN, "1/model.py"),))


DECOUPLED_EXAMPLES = tuple(
    Model(
        name=f"{name}_int32",
        files={
            "config.pbtxt": f"python_backend/examples/decoupled/{name}_config.pbtxt",
            "1/model.py": f"python_backend/examples/decoupled/{name}_model.py",
        },
    )
    for name in ("repeat", "square")
)
DECOUPLED_CUSTOM = tuple(
    Model(f"server/src/test/models/{name}_int32") for name in ("repeat", "square")
)
STREAM = (
    "test_one_to_none",
    "test_one_to_one",
    "test_one_to_many",
    "test_no_streaming",
    "test_response_order",
    "test_wrong_shape",
)


def _decoupled(trial: str, models: tuple[Model, ...]) -> tuple[Group, ...]:
    return (
        Group(trial, (Cases("decoupled_test.py", STREAM, seconds=5400),), models),
        Group(
            f"{trial}-many",
            # test.sh sets it when the server runs already: it is the test that looks at it.
            (
                Cases(
                    "decoupled_test.py",
                    ("test_one_to_multi_many",),
                    env={"TRITONSERVER_DELAY_GRPC_RESPONSE": "2000"},
                    seconds=5400,
                ),
            ),
            models,
        ),
        Group(
            f"{trial}-pool-of-one",
            (Cases("decoupled_test.py", STREAM, seconds=5400),),
            models,
            ("--grpc-max-response-pool-size=1",),
        ),
    )


DECOUPLED = Suite(
    "L0_decoupled",
    4,
    (
        *_decoupled("python", (*DECOUPLED_EXAMPLES, _join())),
        *_decoupled("custom", (*DECOUPLED_CUSTOM, _join())),
        Group(
            "non_decoupled",
            (Cases("decoupled_test.py", ("NonDecoupledTest",)),),
            (
                Model(
                    "server/src/test/models/repeat_int32",
                    edits=(Edit("decoupled: True", "decoupled: False"),),
                    into="non_decoupled",
                ),
            ),
            repositories=("non_decoupled",),
        ),
    ),
)


def _square(name: str, **values: int) -> Model:
    lines = [
        'backend: "square"',
        "max_batch_size: 0",
        "model_transaction_policy { decoupled: True }",
        f"input {tensor('IN', 'INT32', '1')}",
        f"output {tensor('OUT', 'INT32', '1')}",
        parameters(**values),
    ]
    return Model(name=name, config="\n".join(lines))


RESPONSE_STATISTICS = Suite(
    "L0_response_statistics",
    4,
    (
        Group(
            "square",
            (Cases("response_statistics_test.py"),),
            (
                _square(
                    "square_int32",
                    CUSTOM_INFER_DELAY_NS=400000000,
                    CUSTOM_OUTPUT_DELAY_NS=200000000,
                    CUSTOM_FAIL_COUNT=2,
                    CUSTOM_EMPTY_COUNT=1,
                ),
                _square(
                    "square_int32_slow",
                    CUSTOM_INFER_DELAY_NS=1200000000,
                    CUSTOM_OUTPUT_DELAY_NS=800000000,
                    CUSTOM_CANCEL_DELAY_NS=400000000,
                ),
            ),
        ),
    ),
)
