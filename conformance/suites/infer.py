"""Inference of every datatype, with shared memory, invalid requests, parameters, statistics."""

from collections.abc import Mapping

from conformance.models import Edit, Model, add, custom, docs, made, python, stand_in
from conformance.reasons import Reason
from conformance.suite import Cases, Change, Group, Skipped, Suite

ENSEMBLES = "qa_ensemble_model_repository/qa_model_repository"
CPU = add("instance_group [{ kind: KIND_CPU }]")
BFLOAT = "*bf16*"
SAME = ("float32", "int32", "int16", "int8")
TWIN = (
    Edit(r"^platform:.*", ""),
    Edit(r"^version_policy.*", 'backend: "python"'),
    CPU,
)
MODEL_PY = "server/qa/python_models/{}/model.py"


def _twins(pattern: str, code: str, prefix: str = "python") -> Model:
    return made(
        pattern,
        without=BFLOAT,
        rename=("onnx", prefix),
        edits=TWIN,
        files={"1/model.py": MODEL_PY.format(code)},
        versions=("1",),
        remove=("*/*.onnx",),
    )


def _zero(name: str, batch: int, dims: str) -> Model:
    return custom(
        "custom_zero_1_float32",
        CPU,
        Edit("max_batch_size: 1", f"max_batch_size: {batch}"),
        Edit(r"dims: \[ 1 \]", f"dims: [ {dims} ]"),
        name=name,
    )


# The Python models of equal types subtract first: tests swap the outputs.
PLAIN = (
    made("onnx_*", without=BFLOAT, edits=(CPU,)),
    _twins("onnx_*", "add_sub"),
    *(
        _twins(f"onnx_{nobatch}{kind}_{kind}_{kind}", "sub_add")
        for kind in SAME
        for nobatch in ("", "nobatch_")
    ),
)
MIXED = (
    "wrong_label_int32_float32_float32",
    "label_override_int32_float32_float32",
    "mix_type_int32_float32_float32",
    "batch_to_nobatch_float32_float32_float32",
    "batch_to_nobatch_nobatch_float32_float32_float32",
    "nobatch_to_batch_float32_float32_float32",
    "nobatch_to_batch_nobatch_float32_float32_float32",
    "mix_nobatch_batch_float32_float32_float32",
)
COMPOSED = (
    made("*onnx*", ENSEMBLES, without=BFLOAT),
    made("nop_*", ENSEMBLES, without="*BF16*"),
    *(Model(f"server/qa/ensemble_models/{name}") for name in MIXED),
    _zero("custom_zero_1_float32", 8, "-1"),
    _zero("custom_nobatch_zero_1_float32", 0, "-1, -1"),
)
SKIPS = {"*plan*": Reason.TENSORRT, "*libtorch*": Reason.LIBTORCH}


def _infer(name: str, models: tuple[Model, ...], *flags: str, **env: str) -> Group:
    return Group(
        name,
        (Cases("infer_test.py", skips=SKIPS, seconds=900),),
        models,
        ("--exit-timeout-secs=120", *flags),
        {"BACKENDS": "onnx python", "ENSEMBLES": "0", "TEST_SYSTEM_SHARED_MEMORY": "0", **env},
    )


INFER = Suite(
    "L0_infer",
    3,
    (
        _infer("plain", PLAIN),
        _infer("shared_memory", PLAIN, "--allow-client-shm=true", TEST_SYSTEM_SHARED_MEMORY="1"),
        _infer("ensembles", (*PLAIN, *COMPOSED), ENSEMBLES="1"),
    ),
)

SHM = "--allow-client-shm=true"
EACH = (
    "test_invalid_create_shm",
    "test_valid_create_set_register",
    "test_unregister_before_register",
    "test_unregister_after_register",
    "test_reregister_after_register",
    "test_unregister_after_inference",
    "test_register_after_inference",
    "test_too_big_shm",
    "test_mixed_raw_shm",
    "test_unregisterall",
    "test_infer_offset_out_of_bound",
    "test_infer_byte_size_out_of_bound",
    "test_infer_integer_overflow",
    "test_register_out_of_bound",
    "test_register_reserved_names",
    "test_register_invalid_shm_key",
    "test_python_client_leak",
)
WHILE_RUNNING = (
    "test_unregister_shm_during_inference_single_req",
    "test_unregister_shm_during_inference_multiple_req",
    "test_unregister_shm_after_inference",
)
DELAYED = python("execute_delayed_model", name="simple")
LARGE = (
    made("onnx_int32_int32_int32", versions=("1",)),
    python(
        "add_sub",
        name="python_int32_int32_int32",
        edits=(Edit("TYPE_FP32", "TYPE_INT32"), add("max_batch_size: 8")),
    ),
)


def _shared(
    case: str, client: str, models: tuple[Model, ...], name: str = "", *flags: str
) -> Group:
    env = {"CLIENT_TYPE": client, "BACKENDS": "python onnx"}
    checks = (Cases("shared_memory_test.py", (name or case,)),)
    return Group(f"{case}-{client}", checks, models, ("--log-verbose=1", *flags), env)


def _both(
    cases: tuple[str, ...], models: tuple[Model, ...], *flags: str, suffix: bool = False
) -> tuple[Group, ...]:
    return tuple(
        _shared(case, client, models, f"{case}_{client}" if suffix else case, *flags)
        for case in cases
        for client in ("http", "grpc")
    )


SHARED_MEMORY = Suite(
    "L0_shared_memory",
    3,
    (
        *_both(("test_client_shm_disabled_by_default",), (docs("simple"),)),
        *_both(EACH, (docs("simple"),), SHM),
        *_both(WHILE_RUNNING, (DELAYED,), SHM, suffix=True),
        *_both(("test_large_shm_register_offset",), LARGE, SHM),
    ),
)

INPUT_VALIDATION = Suite(
    "L0_input_validation",
    3,
    (
        Group("values", (Cases("input_validation_test.py", ("InputValTest",)),)),
        Group(
            "shapes",
            (
                Cases(
                    "input_validation_test.py",
                    ("InputShapeTest",),
                    skips={
                        "test_input_shape_validation": Reason.LIBTORCH,
                        "test_wrong_input_shape_tensor_size": Reason.TENSORRT,
                    },
                ),
                Skipped(Reason.CPP, ("input_byte_size_test", "tensor_size_test")),
            ),
            (
                made("onnx_object_int32_int32"),
                *(
                    made(f"onnx_zero_1_{kind}", "qa_identity_model_repository")
                    for kind in ("float32", "object", "bool")
                ),
            ),
            (SHM,),
        ),
        Group(
            "names",
            (Cases("input_validation_test.py", ("ModelNameValidationTest",)),),
            flags=("--model-control-mode=explicit", "--log-verbose=1"),
            repositories=("test_models",),
        ),
    ),
)

HEADERS: Mapping[str, tuple[str, ...]] = {
    "test_params": (),
    "test_params_reserved_rejected": (),
    "test_headers": (
        "--grpc-header-forward-pattern=MY_HEADER.*",
        "--http-header-forward-pattern=MY_HEADER.*",
    ),
    "test_grpc_header_forward_pattern_case_sensitive": (
        "--grpc-header-forward-pattern=(?-i)MY_HEADER.*",
    ),
    "test_headers_reserved_rejected": (
        "--grpc-header-forward-pattern=.*",
        "--http-header-forward-pattern=.*",
    ),
}
COUNTED = (
    python("identity_fp32"),
    python("identity_fp32", name="identity_bytes", edits=(Edit("TYPE_FP32", "TYPE_STRING"),)),
)

PARAMETERS = Suite(
    "L0_parameters",
    3,
    (
        *(
            Group(
                name,
                (Cases("parameters_test.py", (name,)),),
                flags=flags,
                repositories=("model_repository",),
            )
            for name, flags in HEADERS.items()
        ),
        *(
            Group(
                f"class_count-{client}",
                (Cases("class_count_test.py"),),
                COUNTED,
                env={"CLIENT_TYPE": client},
            )
            for client in ("http", "grpc")
        ),
    ),
)

# The models of the backends that are not here, for tests that ask for theirs among the others.
FLOATS = (Edit(r"^version_policy:.*", "version_policy: { specific { versions: [1, 3] }}"),)
POLLED = (
    made("onnx_*", without=BFLOAT),
    stand_in("libtorch", "int32_int8_int8"),
    stand_in("libtorch", "int32_int32_int32"),
    stand_in("plan", "int32_int32_int32"),
    stand_in("libtorch", "float32_float32_float32", edits=FLOATS),
    stand_in("plan", "float32_float32_float32", edits=FLOATS),
    stand_in("plan", "float16_float32_float32", versions=("1",)),
)
STATUS = "server_status_test.py"
SERVER_STATUS = Suite(
    "L0_server_status",
    3,
    (
        Group(
            "status",
            (
                Cases(
                    STATUS,
                    ("ServerMetadataTest",),
                    skips={"test_model_latest_infer": Reason.TENSORRT},
                ),
                *(
                    Change(f"rm -r models/{kind}_int32_int32_int32/{version}")
                    for kind in ("onnx", "libtorch")
                    for version in (2, 3)
                ),
                Change(
                    "cp -r models/plan_float16_float32_float32/1"
                    " models/plan_float16_float32_float32/7"
                ),
                Cases(
                    STATUS,
                    ("ModelMetadataTest",),
                    # All of the backends' models, where these are half of them.
                    skips={"test_infer_stats_no_model": Reason.TENSORRT},
                ),
            ),
            POLLED,
            ("--repository-poll-secs=1", "--model-control-mode=poll"),
        ),
    ),
)
