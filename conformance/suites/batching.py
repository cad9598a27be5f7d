"""Dynamic batching, its queue, optional inputs, and the response cache."""

from conformance.models import Edit, Model, add, custom, identity, made, parameters
from conformance.reasons import Reason
from conformance.suite import Cases, Group, Refused, Skipped, Suite

BATCHED = (
    Edit(r"^max_batch_size:.*", "max_batch_size: 8"),
    Edit(r"^version_policy:.*", "version_policy { specific { versions: [1] }}"),
)
TWIN = ("onnx", "python")
ADD_SUB = {"1/model.py": "server/qa/python_models/add_sub/model.py"}
PREFERRED = "preferred_batch_size: [ 2, 6 ], max_queue_delay_microseconds: 10000000"

NO_DELAY = (
    "test_static_batch_preferred",
    "test_static_batch_lt_any_preferred",
    "test_static_batch_not_preferred",
    "test_static_batch_gt_max_preferred",
    "test_multi_batch_not_preferred",
    "test_multi_batch_gt_max_preferred",
    "test_multi_batch_sum_gt_max_preferred",
    "test_multi_same_output0",
    "test_multi_same_output1",
    "test_multi_different_outputs",
    "test_multi_different_output_order",
)
# How many requests the scheduler waits for.
DELAYED = {
    "test_multi_batch_delayed_sum_gt_max_preferred": 2,
    "test_multi_batch_use_biggest_preferred": 6,
    "test_multi_batch_use_best_preferred": 3,
    "test_multi_batch_delayed_use_max_batch": 3,
}
SHAPES = {
    "test_multi_batch_not_preferred_different_shape": 0,
    "test_multi_batch_preferred_different_shape": 0,
    "test_multi_batch_different_shape_allow_ragged": 0,
    "test_multi_batch_different_shape": 0,
    "test_multi_batch_delayed_preferred_different_shape": 4,
}
PREFERRED_ONLY = {
    "test_preferred_batch_only_aligned": 4,
    "test_preferred_batch_only_unaligned": 5,
    "test_preferred_batch_only_use_biggest_preferred": 7,
    "test_preferred_batch_only_use_no_preferred_size": 3,
}


def _pair(repository: str, *edits: Edit) -> tuple[Model, ...]:
    """The ONNX model and its twin of the Python backend."""
    name, python = "onnx_float32_float32_float32", Edit(r"^platform:.*", 'backend: "python"')
    return (
        made(name, repository, edits=(*BATCHED, *edits)),
        made(
            name,
            repository,
            rename=TWIN,
            edits=(python, *BATCHED, *edits),
            files=ADD_SUB,
            remove=("*/*.onnx",),
        ),
    )


FIXED = _pair("qa_model_repository", add(f"dynamic_batching {{ {PREFERRED} }}"))
ONLY = _pair("qa_model_repository", add("dynamic_batching { preferred_batch_size: [ 4, 6 ] }"))
RAGGED = Edit(r'name:.*"INPUT0"', 'name: "INPUT0"\nallow_ragged_batch: true')
VARIABLE = (
    *_pair(
        "qa_variable_model_repository",
        add(f"dynamic_batching {{ {PREFERRED} }}"),
        Edit("16", "-1"),
    ),
    custom(
        "custom_zero_1_float32",
        *BATCHED,
        Edit(r"dims:.*\[.*\]", "dims: [ -1 ]"),
        RAGGED,
        add(f"dynamic_batching {{ {PREFERRED} }}"),
    ),
    made(
        "onnx_nobatch_zero_1_float32",
        "qa_identity_model_repository",
        rename=("nobatch_", ""),
        edits=(
            BATCHED[0],
            RAGGED,
            add(
                'batch_output [{ target_name: "OUTPUT0" '
                'kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "INPUT0" }]\n'
                f"dynamic_batching {{ {PREFERRED} }}"
            ),
        ),
    ),
)


def _one(name: str, kind: str, models: tuple[Model, ...], delay: int) -> Group:
    env = {"BACKENDS": "onnx python", "BATCHER_TYPE": kind}
    if delay:
        env["TRITONSERVER_DELAY_SCHEDULER"] = str(delay)
    return Group(f"{kind}-{name}", (Cases("batcher_test.py", (name,)),), models, env=env)


def _custom(batch: int, batching: str, instances: str, **values: object) -> Model:
    return custom(
        "custom_zero_1_float32",
        Edit(r"dims:.*\[.*\]", "dims: [ -1 ]"),
        Edit(r"max_batch_size:.*", f"max_batch_size: {batch}"),
        add(f"dynamic_batching {{ {batching} }}\ninstance_group [ {{ {instances} }} ]"),
        add(parameters(**values)),
    )


def _ordered(name: str, batching: str) -> Group:
    return Group(
        name,
        (Cases("batcher_test.py", ("test_multi_batch_preserve_ordering",)),),
        (
            _custom(
                4,
                batching,
                "kind: KIND_CPU count: 2",
                execute_delay_ms=100,
                instance_wise_delay_multiplier=4,
            ),
        ),
        ("--trace-file=trace.log", "--trace-level=MIN", "--trace-rate=1"),
        {"TRITONSERVER_DELAY_SCHEDULER": "12", "BATCHER_TYPE": "FIXED"},
    )


REJECT = (
    "dynamic_batching { preferred_batch_size: [ 1 ] default_queue_policy { "
    "timeout_action: REJECT default_timeout_microseconds: 1000000 max_queue_size: 8 } }"
)
SLOW_DYNAMIC = identity("dynamic_batch", "FP32", 1, REJECT, parameters(execute_delay_ms=8000))

BATCHER = Suite(
    "L0_batcher",
    4,
    (
        *(_one(name, "FIXED", FIXED, 0) for name in NO_DELAY),
        *(_one(name, "FIXED", FIXED, delay) for name, delay in DELAYED.items()),
        *(_one(name, "VARIABLE", VARIABLE, 0) for name in NO_DELAY),
        *(_one(name, "VARIABLE", VARIABLE, delay) for name, delay in DELAYED.items()),
        *(_one(name, "VARIABLE", VARIABLE, delay) for name, delay in SHAPES.items()),
        *(_one(name, "FIXED", ONLY, delay) for name, delay in PREFERRED_ONLY.items()),
        *(
            Group(
                name,
                (Cases("batcher_test.py", (name,)),),
                (
                    _custom(
                        100,
                        "max_queue_delay_microseconds: 0",
                        "kind: KIND_CPU",
                        execute_delay_ms=100,
                    ),
                ),
                env={"MAX_QUEUE_DELAY_MICROSECONDS": delay, "BATCHER_TYPE": "FIXED"},
            )
            for name, delay in (
                ("test_max_queue_delay_only_default", "0"),
                ("test_max_queue_delay_only_non_default", "20000"),
            )
        ),
        _ordered("any_order", "preferred_batch_size: [ 4 ]"),
        _ordered("preserve_ordering", "preferred_batch_size: [ 4 ] preserve_ordering: true"),
        Group(
            "queue_timeout",
            (Cases("queue_timeout_test.py"), Skipped(Reason.CPP, ("instance_queue_test",))),
            (SLOW_DYNAMIC,),
        ),
    ),
)

OPTIONAL_INPUT = Suite(
    "L0_optional_input",
    4,
    tuple(
        Group(name, (Cases("optional_input_test.py", (name,)),))
        for name in (
            "test_all_inputs",
            "test_optional_same_input",
            "test_optional_mix_inputs",
            "test_optional_mix_inputs_2",
            "test_ensemble_all_inputs",
            "test_ensemble_optional_same_input",
            "test_ensemble_optional_mix_inputs",
            "test_ensemble_optional_mix_inputs_2",
            "test_ensemble_optional_pipeline",
            "test_ensemble_optional_connecting_tensor",
        )
    ),
)

SIMPLE = "simple_onnx_float32_float32_float32"
CACHED = (
    made(SIMPLE, "qa_ensemble_model_repository/qa_model_repository"),
    made("onnx_float32_float32_float32"),
)
ON = add("response_cache { enable: true }")
EXPLICIT = "--model-control-mode=explicit"
IDENTITY = (EXPLICIT, "--load-model=identity_cache")


def _cache_refused(name: str, text: str, *flags: str) -> Group:
    return Group(name, (Refused(name, (text,)),), flags=(*flags, *IDENTITY))


RESPONSE_CACHE = Suite(
    "L0_response_cache",
    4,
    (
        *(
            Group(
                name,
                (Cases("ensemble_cache_test.py", (name,)),),
                tuple(Model(one.source, into="models/ensemble_models") for one in CACHED),
                (f"--cache-config=local,size={size}", EXPLICIT),
                repositories=("models/ensemble_models",),
            )
            for name, size in (
                ("test_ensemble_top_level_response_cache", 10840),
                ("test_ensemble_all_models_cache_enabled", 10840),
                ("test_ensemble_composing_model_cache_enabled", 10840),
                ("test_ensemble_cache_insertion_failure", 200),
            )
        ),
        Group(
            "decoupled",
            (Refused("decoupled", (r"(?i)response cache does not currently support",)),),
            flags=("--cache-config=local,size=10480", EXPLICIT, "--load-model=decoupled_cache"),
        ),
        _cache_refused(
            "two_caches",
            "multiple cache configurations",
            "--cache-config=local,size=8192",
            "--cache-config=redis,key=value",
        ),
        _cache_refused(
            "two_flags",
            "(?i)incompatible flags",
            "--response-cache-byte-size=12345",
            "--cache-config=local,size=67890",
        ),
        Group("unit", (Skipped(Reason.CPP, ("response_cache_test",)),)),
    ),
)
