"""The Python backend: L0_backend_python and the suites in its folders."""

from collections.abc import Mapping

from conformance.models import Edit, Model, add, made, python
from conformance.reasons import Reason
from conformance.suite import Ask, Cases, Check, Group, Inside, Logged, Refused, Skipped, Suite
from conformance.suites.streams import DECOUPLED_EXAMPLES

LEAK = "../test_infer_shm_leak.py"
VERBOSE = ("--log-verbose=1",)
# The tests look into Triton's shared memory for leaks, except on such a machine.
NO_SHARED_MEMORY = {"TEST_JETSON": "1"}


def retyped(name: str, datatype: str, *edits: Edit, of: str = "identity_fp32") -> Model:
    """`of` for another datatype under another name."""
    return python(of, name=name, edits=(Edit("TYPE_FP32", f"TYPE_{datatype}"), *edits))


BATCH_8 = Edit(r"^max_batch_size:.*", "max_batch_size: 8")
LONG_DELAY = "dynamic_batching {{ preferred_batch_size: [8], max_queue_delay_microseconds: {} }}"

MODELS = (
    python("identity_fp32"),
    python("identity_bf16"),
    retyped("identity_uint8", "UINT8", BATCH_8, add(LONG_DELAY.format(12000000))),
    retyped("identity_uint8_nobatch", "UINT8", Edit(r"^max_batch_size:.*", "")),
    retyped("identity_uint32", "UINT32"),
    retyped("identity_bool", "BOOL"),
    python(
        "identity_fp32",
        name="default_model_name",
        edits=(add('default_model_filename: "mymodel.py"'),),
        files={"1/mymodel.py": "server/qa/python_models/identity_fp32/model.py"},
        remove=("model.py",),
    ),
    python("pytorch_fp32_fp32", edits=(Edit(r"^name:.*", 'name: "pytorch_fp32_fp32"'),)),
    python("delayed_model"),
    # Its path is wherever the run is.
    python(
        "init_args",
        edits=(
            Edit(
                r"^    repo_path = triton_dir.*",
                "    repo_path = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))",
                "1/model.py",
            ),
        ),
    ),
    python("optional"),
    python("non_contiguous"),
    python("string"),
    python("string_fixed"),
    python("dlpack_identity"),
)


def one(
    name: str,
    checks: tuple[Check, ...],
    models: tuple[Model, ...],
    flags: tuple[str, ...] = VERBOSE,
    **env: str,
) -> Group:
    """A group in a folder of the suite, named like the folder or FOLDER-WORD."""
    folder = name.split("-")[0]
    log = f"{folder}_server.log"  # some tests look into it by this name
    return Group(name, checks, models, flags, NO_SHARED_MEMORY | env, cwd=folder, log=log)


def in_model(name: str, models: tuple[Model, ...], model: str, *more: Check, **env: str) -> Group:
    """A model that runs unittest cases of its own when it is asked."""
    return one(name, (Inside(model, LEAK), *more), models, VERBOSE, **env)


def backend(
    name: str,
    file: str,
    models: tuple[Model, ...],
    *more: Check,
    flags: tuple[str, ...] = VERBOSE,
) -> Group:
    return one(name, (Cases(file), *more), models, flags)


BLS = (
    *(
        python(name)
        for name in (
            "bls",
            "bls_async",
            "bls_memory",
            "bls_memory_async",
            "dlpack_add_sub",
            "add_sub",
            "execute_error",
            "identity_fp32",
            "dlpack_identity",
            "dlpack_square",
            "identity_fp32_timeout",
        )
    ),
    made("onnx_nobatch_sequence_int32", "qa_sequence_implicit_model_repository"),
    DECOUPLED_EXAMPLES[1],
)
ON_GPU = {
    "test_bls_sequence": Reason.CUDA,
    "test_bls_tensor_lifecycle": Reason.CUDA,
    "test_gpu_bls": Reason.CUDA,
    "test_preferred_memory": Reason.LIBTORCH,
}


def _bls(kind: str) -> tuple[Group, ...]:
    memory = Inside("bls_memory", LEAK)
    asynchronous = Cases(LEAK, env={"MODEL_NAME": "bls_memory_async"})
    name = f"bls-{kind}"
    return (
        one(
            f"{name}-bls",
            (
                Inside("bls", LEAK, ON_GPU),
                Logged("time-out", "Request timeout: 11000000000"),
            ),
            BLS,
            BLS_KIND=kind,
        ),
        one(f"{name}-memory", (memory,), BLS, BLS_KIND=kind),
        one(f"{name}-memory_async", (asynchronous,), BLS, BLS_KIND=kind),
        one(f"{name}-async", (Skipped(Reason.CUDA, ("bls_async",)),), (), BLS_KIND=kind),
    )


LOADING = (
    *BLS,
    python("bls_model_loading"),
    made("onnx_int32_int32_int32", versions=("2", "3")),
)


def _senders() -> tuple[Model, ...]:
    models = []
    for decoupled in ("", "_decoupled"):
        for asynchronous in ("", "_async"):
            for batching in ("", "_batching"):
                edits = []
                if decoupled:
                    edits.append(add("model_transaction_policy { decoupled: True }"))
                if batching:
                    edits.append(add("dynamic_batching { max_queue_delay_microseconds: 500000 }"))
                source = "server/qa/python_models/response_sender"
                models.append(
                    Model(
                        name=f"response_sender{decoupled}{asynchronous}{batching}",
                        files={
                            "config.pbtxt": f"{source}/config.pbtxt",
                            "1/model.py": f"{source}/model{asynchronous}.py",
                            "1/model_common.py": f"{source}/model_common.py",
                        },
                        edits=tuple(edits),
                    )
                )
    return tuple(models)


READINESS = "server/qa/L0_backend_python/model_readiness/test_models"


def _readiness(name: str, value: str, delay: str, file: str = "readiness_model.py") -> Model:
    lines = [
        f'parameters {{ key: "{key}" value {{ string_value: "{text}" }} }}'
        for key, text in (("READINESS_FN_RETURN_VALUE", value), ("READINESS_FN_DELAY_SECS", delay))
    ]
    return python(
        "identity_fp32",
        name=name,
        remove=("model.py",),
        files={"1/model.py": f"{READINESS}/{file}"},
        edits=(add("\n".join(lines)),),
    )


READY_MODELS = (
    python("identity_fp32"),
    _readiness("is_ready_fn_returns_true", "true", "0.1"),
    _readiness("is_ready_fn_returns_false", "false", "0.1"),
    _readiness("is_ready_fn_raises_error", "exception", "0.1"),
    _readiness("is_ready_fn_returns_non_boolean", "non_boolean", "0.1"),
    _readiness("is_ready_fn_timeout", "true", "8"),
    _readiness(
        "is_ready_fn_coroutine_returns_true", "coroutine", "0.1", "readiness_coroutine_model.py"
    ),
    Model(f"{READINESS}/is_ready_fn_returns_true_decoupled"),
)


def _io_one(name: str, *models: Model, trial: str = "default") -> Group:
    return one(
        f"io-{name}", (Cases("io_test.py", (name.split("-")[0],)),), models, VERBOSE, TRIAL=trial
    )


def _bad(name: str, *texts: str, models: tuple[Model, ...] = (), **changes: object) -> Group:
    found = models or (python(name, **changes),)
    return Group(name, (Refused(name, texts),), found)


def _logging(name: str, body: Mapping[str, str], plain: int, verbose: int) -> Group:
    asks = tuple(Ask(f"set {key}", "v2/logging", text) for key, text in body.items())
    words = ("Specific", "Info", "Warning", "Error")
    logged = tuple(Logged(f"{word} Msg!", f"{word} Msg!", plain) for word in words)
    return one(
        f"logging-{name}",
        (*asks, Cases("logging_test.py"), *logged, Logged("Verbose", "Verbose Msg!", verbose)),
        (python("identity_fp32_logging"),),
        (),
    )


BACKENDS = "server/qa/python_models/python_based_backends/add_sub_backend/model.py"


def _operation(name: str) -> Model:
    text = f'{{ "operation": "{name}" }}'
    files = tuple(add(text, f"{version}/model.json") for version in (1, 2))
    versions = ("1", "2") if name == "add" else ("1",)
    return Model(
        name=name, config='backend: "add_sub"', edits=files[: len(versions)], versions=versions
    )


ADD_SUB = "server/qa/python_models/add_sub/model.py"
PYTHON_BASED = (
    Model(
        name="add_sub",
        files={"model.py": BACKENDS},
        versions=(),
        into="backends",
        remove=("config.pbtxt",),
    ),
    _operation("add"),
    _operation("sub"),
    python(
        "add_sub",
        versions=("1", "2"),
        files={"2/model.py": "server/qa/python_models/add_sub/model.py"},
    ),
    made("add_sub_pytorch", "qa_pytorch_model_repository"),
)

NO_MODEL_FILE = r"Python model file not found in '.*/non_existent_model/1/model\.py'"
SMALL = (
    Group(
        "python_test",
        (
            Cases(
                "python_test.py",
                skips={"test_growth_error": Reason.CONTAINER},
                seconds=600,
            ),
        ),
        MODELS,
        (
            "--allow-client-shm=true",
            "--backend-config=python,shm-default-byte-size=5242880",
            *VERBOSE,
        ),
        NO_SHARED_MEMORY,
    ),
    Group(
        "multi_file",
        (Ask("ready", "v2/models/multi_file/ready"),),
        (
            Model(
                "server/qa/python_models/multi_file",
                files={"config.pbtxt": "server/qa/python_models/identity_fp32/config.pbtxt"},
                edits=(Edit(r"^name:.*", 'name: "multi_file"'),),
            ),
        ),
    ),
    Group(
        "model_env",
        (Ask("ready", "v2/models/model_env/ready"),),
        (python("model_env"),),
        env={"MY_ENV": "MY_ENV"},
    ),
    _bad("init_exit", r"Stub process 'init_exit_0_0' is not healthy\."),
    *(
        Group(
            f"non_existent_model-{word}",
            (
                Refused(
                    word, (r"Python model file not found in '.*/non_existent_model/1/model\.py'",)
                ),
            ),
            (python("identity_fp32", name="non_existent_model", remove=("model.py",)),),
            flags,
        )
        for word, flags in (("default", ()), ("no_auto", ("--disable-auto-complete-config",)))
    ),
    Group(
        "skipped",
        (
            Skipped(Reason.CUDA, ("add_sub_gpu",)),
            Skipped(Reason.CPP, ("variants", "env")),
        ),
    ),
)

BACKEND_PYTHON = Suite(
    "L0_backend_python",
    4,
    (
        *SMALL,
        *(group for kind in ("non_decoupled", "decoupled") for group in _bls(kind)),
        Group(
            "bls-init_error",
            (Refused("bls_init_error", ("BLS is only supported during the 'execute' function",)),),
            (python("bls_init_error"),),
            cwd="bls",
        ),
        one(
            "bls-finalize_error",
            (
                Ask("ready", "v2/models/bls_finalize_error/ready"),
                Logged("error", "BLS is only supported during the 'execute' function"),
            ),
            (python("bls_finalize_error"),),
        ),
        one(
            "bls-model_loading",
            (
                # The model sleeps half a minute three times.
                Ask("load", "v2/repository/models/bls_model_loading/load", "", seconds=300),
                Inside("bls_model_loading", LEAK),
            ),
            LOADING,
            ("--model-control-mode=explicit", *VERBOSE),
        ),
        one("bls-parameters", (Cases("bls_parameters_test.py"),), (python("bls_parameters"),)),
        one(
            "decoupled",
            (
                # Its model computes with torch on a GPU, and then does not finalize without.
                Cases("decoupled_test.py", skips={"test_decoupled_bls": Reason.CUDA}),
                Skipped(Reason.CUDA, ("finalized",)),
                *(
                    Logged(f"{word} Msg!", f"{word} Msg!")
                    for word in ("Specific", "Info", "Warning")
                ),
                Logged("finalize", "Finalize invoked", 3),
            ),
            (
                python("identity_fp32"),
                python(
                    "execute_cancel",
                    edits=(add("model_transaction_policy { decoupled: True }"),),
                ),
                python("response_sender_until_cancelled"),
                DECOUPLED_EXAMPLES[1],
                python("dlpack_add_sub"),
            ),
        ),
        backend("response_sender", "response_sender_test.py", _senders()),
        backend(
            "response_sender-complete_final",
            "response_sender_complete_final_test.py",
            (python("response_sender_complete_final"),),
        ),
        backend(
            "lifecycle",
            "lifecycle_test.py",
            (
                python("error_code"),
                python("execute_cancel"),
                python("execute_error", edits=(BATCH_8, add(LONG_DELAY.format(12000000)))),
                python("execute_grpc_error", edits=(BATCH_8, add(LONG_DELAY.format(1200000)))),
                python("decoupled_grpc_error"),
                python("execute_return_error"),
                retyped(
                    "wrong_model",
                    "UINT32",
                    Edit(r"^name:.*", 'name: "wrong_model"'),
                    of="wrong_model",
                ),
            ),
        ),
        _bad("init_error", "name 'lorem_ipsum' is not defined"),
        Group(
            "fini_error",
            (
                Ask("ready", "v2/models/fini_error/ready"),
                Logged("error", "name 'undefined_variable' is not defined"),
            ),
            (python("fini_error"),),
        ),
        _bad("auto_complete_error", "name 'undefined_variable' is not defined"),
        backend(
            "parameters",
            "response_parameters_test.py",
            tuple(python(f"response_parameters{suffix}") for suffix in ("", "_decoupled", "_bls")),
        ),
        one(
            "model_readiness",
            (Cases("test_model_readiness.py", ("TestUserDefinedModelReadinessFunction",)),),
            READY_MODELS,
            ("--strict-readiness=false", *VERBOSE),
        ),
        one(
            "model_readiness-before",
            (Cases("test_model_readiness.py", ("test_model_ready",)),),
            (python("identity_fp32"),),
        ),
        backend(
            "async_execute",
            "concurrency_test.py",
            (python("async_execute_decouple"), python("async_execute_decouple_bls")),
        ),
        one(
            "model_control",
            (Cases("model_control_test.py"),),
            (python("identity_fp32"), python("simple_identity_fp32")),
            ("--model-control-mode=explicit", "--allow-model-overrides", *VERBOSE),
        ),
        one(
            "ensemble",
            (Cases("ensemble_test.py", skips={"test_ensemble_gpu": Reason.CUDA}),),
            (
                python("ensemble"),
                python("add_sub", name="add_sub_1"),
                python("add_sub", name="add_sub_2"),
            ),
        ),
        _logging("default", {}, 4, 0),
        _logging("verbose", {"log_verbose_level": '{"log_verbose_level":1}'}, 4, 3),
        one(
            "request_rescheduling-bls",
            (Inside("bls_request_rescheduling", LEAK),),
            (
                python("bls_request_rescheduling"),
                python("request_rescheduling_addsub"),
                python("iterative_sequence"),
                python("wrong_return_type"),
            ),
            ("--model-control-mode=explicit", "--load-model=*", *VERBOSE),
        ),
        backend(
            "request_rescheduling-grpc",
            "grpc_endpoint_test.py",
            (
                python("request_rescheduling_addsub"),
                python("iterative_sequence"),
                python("wrong_return_type"),
            ),
            flags=("--model-control-mode=explicit", "--load-model=*", *VERBOSE),
        ),
        one("restart", (Cases("restart_test.py", ("test_infer",)),), ()),
        one(
            "python_based_backends",
            (Cases("python_based_backends_test.py"),),
            PYTHON_BASED,
            ("--backend-directory={here}/backends", "--model-control-mode=explicit", *VERBOSE),
        ),
        _io_one(
            "test_requested_output_default",
            python("add_sub"),
            python("dlpack_io_identity_decoupled"),
        ),
        _io_one(
            "test_requested_output_decoupled_prior_crash",
            Model("server/qa/L0_backend_python/io/requested_output_model", name="llm"),
        ),
        one(
            "io-gpu",
            (
                Skipped(
                    Reason.CUDA,
                    (
                        "test_empty_gpu_output",
                        "test_variable_gpu_output",
                        "test_ensemble_io default",
                        "test_ensemble_io decoupled",
                        "test_requested_output_decoupled",
                    ),
                ),
            ),
            (),
        ),
        in_model("argument_validation", (), "argument_validation"),
        in_model("custom_metrics", (python("custom_metrics"),), "custom_metrics"),
    ),
)
