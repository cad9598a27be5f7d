"""Ragged batches, model warm-up, and the rate limiter."""

from conformance.models import Edit, Model, Text, add, custom, made, parameters
from conformance.suite import Cases, Group, Logged, Refused, Suite

_RAGGED = "qa_ragged_model_repository"
_COUNT = Edit("BATCH_ELEMENT_COUNT", "BATCH_ACCUMULATED_ELEMENT_COUNT")
_WITH_ZERO = "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO"


def _ragged(name: str, *edits: Edit) -> Model:
    return made("onnx_batch_input", _RAGGED, rename=("onnx_batch_input", name), edits=edits)


BATCH_INPUT = Suite(
    "L0_batch_input",
    4,
    (
        Group(
            "onnx",
            (Cases("batch_input_test.py"),),
            (
                _ragged("ragged_element_count_acc_zero"),
                _ragged(
                    "ragged_acc_shape",
                    _COUNT,
                    Edit(_WITH_ZERO, "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE"),
                ),
                _ragged(
                    "batch_item_flatten",
                    Edit(r"dims: \[ -1 \]\n    allow", "dims: [ -1, -1 ]\n    allow"),
                    _COUNT,
                    Edit(_WITH_ZERO, "BATCH_ITEM_SHAPE_FLATTEN"),
                ),
                made("onnx_batch_item", _RAGGED, rename=("onnx_batch_item", "batch_item")),
                made(
                    "onnx_nobatch_zero_1_float32",
                    "qa_identity_model_repository",
                    rename=("onnx_nobatch_zero_1_float32", "ragged_io"),
                    edits=(
                        Edit(r"^max_batch_size:.*", "max_batch_size: 4"),
                        Edit('name: "INPUT0"', 'name: "INPUT0"\nallow_ragged_batch: true'),
                        add(
                            'batch_output [{ target_name: "OUTPUT0" '
                            'kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "INPUT0" }]\n'
                            "dynamic_batching { max_queue_delay_microseconds: 1000000 }"
                        ),
                    ),
                ),
            ),
        ),
    ),
)


def _sample(name: str, batch: int, *inputs: tuple[str, str, int, str], count: int = 1) -> Edit:
    entries = "".join(
        f'inputs {{ key: "{key}" value {{ data_type: {kind} dims: {dims} {data} }} }}\n'
        for key, kind, dims, data in inputs
    )
    return add(f'model_warmup [{{ name: "{name}" batch_size: {batch} count: {count}\n{entries}}}]')


_ZERO = "zero_data: true"
_CONTROLS = (("START", "TYPE_INT32", 1, _ZERO), ("READY", "TYPE_INT32", 1, _ZERO))
_FAILED = Logged("no sample failed", "failed to run warmup", 0)


def _ran(sample: str, more: str = "") -> Logged:
    return Logged(f"{sample}{more}", f"is running warmup sample '{sample}'{more}")


WARMUP = Suite(
    "L0_warmup",
    4,
    (
        Group(
            "numbers",
            (
                _ran("regular sample"),
                _ran("sequence sample", " for iteration 1"),
                _ran("sequence sample", " for iteration 2"),
                _FAILED,
            ),
            (
                made(
                    "onnx_float32_float32_float32",
                    edits=(
                        _sample(
                            "regular sample",
                            1,
                            ("INPUT0", "TYPE_FP32", 16, _ZERO),
                            ("INPUT1", "TYPE_FP32", 16, "random_data: true"),
                        ),
                    ),
                ),
                made(
                    "onnx_sequence_int32",
                    "qa_sequence_model_repository",
                    edits=(
                        _sample(
                            "sequence sample",
                            8,
                            ("INPUT", "TYPE_INT32", 1, _ZERO),
                            *_CONTROLS,
                            count=2,
                        ),
                    ),
                ),
            ),
            ("--log-verbose=1",),
        ),
        Group(
            "texts",
            (
                _ran("zero string stateless"),
                _ran("random string stateless"),
                _ran("string statefull"),
                _FAILED,
            ),
            (
                made(
                    "onnx_zero_1_object",
                    "qa_identity_model_repository",
                    edits=(
                        _sample("zero string stateless", 1, ("INPUT0", "TYPE_STRING", 16, _ZERO)),
                        _sample(
                            "random string stateless",
                            1,
                            ("INPUT0", "TYPE_STRING", 16, "random_data: true"),
                        ),
                    ),
                ),
                made(
                    "onnx_sequence_object",
                    "qa_sequence_model_repository",
                    edits=(
                        _sample(
                            "string statefull",
                            8,
                            ("INPUT", "TYPE_STRING", 1, 'input_data_file: "raw_string_data"'),
                            *_CONTROLS,
                        ),
                    ),
                ),
                Text(
                    "models/onnx_sequence_object/warmup/raw_string_data",
                    "server/qa/L0_warmup/test.sh",
                    (Edit(r"\A[\s\S]*\Z", "\x03\x00\x00\x00233"),),
                ),
            ),
            ("--log-verbose=1",),
        ),
        Group(
            "failing",
            (
                Refused(
                    "failing", (r"failed to run warmup sample 'zero sample': An Error Occurred;",)
                ),
            ),
            (Model("server/qa/L0_warmup/failing_infer"),),
        ),
        Group(
            "decoupled",
            (_ran("decoupled sample"), _FAILED),
            (Model("server/qa/L0_warmup/decoupled"),),
            ("--log-verbose=1",),
        ),
    ),
)


def _limited(name: str, resources: str, *edits: Edit) -> Model:
    return custom(
        "custom_zero_1_float32",
        Edit(r"dims:.*\[.*\]", "dims: [ -1 ]"),
        Edit(r"max_batch_size:.*", "max_batch_size: 4"),
        _group(resources),
        add(parameters(execute_delay_ms=100)),
        *edits,
        rename=("custom_zero_1_float32", name),
    )


def _group(resources: str) -> Edit:
    return add(f"instance_group [{{ kind: KIND_GPU count: 1 rate_limiter {{ {resources} }} }}]")


_FOUR = 'resources [{ name: "resource1" count: 4 }]'
_TWO = (
    'resources [{ name: "resource1" count: 2 }, { name: "resource2" global: True count: 2 }] '
    "priority: 2"
)
_ONE = _limited("custom_zero_1_float32", _FOUR)
_PAIR = (_ONE, _limited("custom_zero_1_float32_v2", _TWO))
_THREE = (*_PAIR, _limited("custom_zero_1_float32_v3", _TWO.replace("True", "False")))
_BOTH = (_limited("custom_zero_1_float32", _FOUR, _group(_TWO)),)
_SLOW = (
    _limited(
        "custom_zero_1_float32",
        _FOUR,
        _group(_TWO),
        Edit('"100"', '"1000"'),
        add(
            "dynamic_batching { preferred_batch_size: [ 1, 2, 3, 4 ] "
            "max_queue_delay_microseconds: 5000000 }"
        ),
    ),
)
_ON = "--rate-limit=execution_count"


def _resources(*given: str) -> tuple[str, ...]:
    return (_ON, *(f"--rate-limit-resource={one}" for one in given))


def _scarce(name: str, found: int, models: tuple[Model, ...], *given: str) -> Group:
    text = (
        f'Resource count for "resource1" is limited to {found} which will prevent scheduling of '
        "one or more model instances, the minimum required count is 4"
    )
    return Group(name, (Refused(name, (text,)),), models, _resources(*given))


def _limits(name: str, case: str, models: tuple[Model, ...], *given: str) -> Group:
    hold = {"TRITONSERVER_DELAY_SCHEDULER": "8"} if "dynamic" in case else {}
    cases = Cases("rate_limiter_test.py", (f"RateLimiterTest.{case}",))
    return Group(name, (cases,), models, _resources(*given), env=hold)


_LIMITED = "test_cross_model_prioritization_limited_resource"
RATE_LIMITER = Suite(
    "L0_rate_limiter",
    4,
    (
        _scarce("one", 1, _PAIR, "resource1:1"),
        _scarce("three", 3, _PAIR, "resource1:3", "resource2:2"),
        _scarce("device", 0, _PAIR, "resource1:10:10", "resource2:2"),
        Group(
            "conflict",
            (Refused("conflict", ('Resource "resource2" is present as both global and device',)),),
            _THREE,
            _resources(),
        ),
        _limits("limited", _LIMITED, _PAIR, "resource1:4", "resource2:2"),
        _limits("unsaid", _LIMITED, _PAIR),
        _limits(
            "plenty",
            "test_cross_model_prioritization_plenty_resource",
            _PAIR,
            "resource1:6",
            "resource2:2",
        ),
        _limits("single", "test_single_model", _BOTH),
        _limits("single_plenty", "test_single_model", _BOTH, "resource1:6", "resource2:2"),
        _scarce("single_three", 3, _BOTH, "resource1:3", "resource2:2"),
        _limits("dynamic", "test_single_model_dynamic_batching", _SLOW),
    ),
)
