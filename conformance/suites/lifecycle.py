"""L0_lifecycle: starting, polling, loading and unloading, overrides, stopping."""

from collections.abc import Mapping
from typing import Any

from conformance.models import (
    Edit,
    Model,
    Text,
    add,
    custom,
    made,
    parameters,
    python,
    stand_in,
)
from conformance.reasons import Reason
from conformance.suite import Ask, Cases, Change, Check, Group, Logged, Refused, Skipped, Suite

FLOAT = "float32_float32_float32"
INT = "int32_int32_int32"
ENSEMBLES = "qa_ensemble_model_repository/qa_model_repository"
NOWHERE = "--model-repository=/tmp/xyzx"
POLL = ("--repository-poll-secs=1", "--model-control-mode=poll")
NONE = ("--model-control-mode=none",)
EXPLICIT = ("--model-control-mode=explicit",)
LAX = ("--strict-readiness=false",)
STAY = ("--exit-on-error=false", "--exit-timeout-secs=5")
QUICK = ("--exit-timeout-secs=5",)
TWO = ("models", "models_0")


def one(
    case: str,
    models: tuple[Model | Text, ...] = (),
    flags: tuple[str, ...] = (),
    *more: Check,
    name: str = "",
    **changes: Any,
) -> Group:
    """A case on a server of its own."""
    return Group(
        name or case, (Cases("lifecycle_test.py", (case,)), *more), models, flags, **changes
    )


def kinds(
    names: str, into: str = "models", types: str = FLOAT, **changes: Any
) -> tuple[Model, ...]:
    """Models of `types`, one for each backend: the ONNX ones, and stand-ins for the others."""
    return tuple(
        made(f"onnx_{types}", into=into, **changes)
        if name == "onnx"
        else stand_in(name, types, into=into, **changes)
        for name in names.split()
    )


def asleep(function: str, seconds: int) -> Edit:
    """A function that takes its time, appended to a Python model."""
    return add(
        f"    def {function}:\n        import time\n        time.sleep({seconds})", "1/model.py"
    )


def _socket(service: str, port: int, *ports: str) -> Group:
    text = (
        f"failed to start {service} service: Unavailable - Socket '0.0.0.0:{port}' already in use"
    )
    return Group(
        f"socket_{port}",
        (Refused(f"socket_{port}", (text,)),),
        flags=ports,
        also=(("--model-repository={here}/models",),),
    )


STARTING = (
    one(
        "test_parse_error_noexit",
        (),
        (NOWHERE, *STAY),
        name="no_repository",
        repositories=(),
        wait="started",
    ),
    one(
        "test_parse_error_noexit",
        (),
        (NOWHERE, *LAX, *STAY),
        name="no_repository_lax",
        repositories=(),
        wait="started",
    ),
    one(
        "test_parse_error_noexit",
        (),
        (NOWHERE, *STAY),
        name="one_repository_of_two",
        wait="started",
    ),
    one(
        "test_parse_error_noexit",
        (),
        (NOWHERE, *LAX, *STAY),
        name="one_repository_of_two_lax",
        wait="started",
    ),
    _socket("GRPC", 8001, "--http-port=8003", "--metrics-port=8004"),
    _socket("HTTP", 8000, "--grpc-port=8003", "--metrics-port=8004"),
    _socket("Metrics", 8002, "--grpc-port=8003", "--http-port=8004"),
    Group(
        "same_ports",
        (
            Refused(
                "same_ports",
                (r"failed to start.*service: Unavailable - Socket '.*' already in use",),
            ),
        ),
        also=(("--model-repository={here}/models",),),
    ),
    Group(
        "other_ports",
        (
            Ask("first is ready", "v2/health/ready"),
            Change("for n in $(seq 300); do grep -q 8004 server.log && break; sleep 0.2; done"),
            Logged("second is ready", "Started HTTPService at 0.0.0.0:8004"),
        ),
        flags=("--grpc-port=8003", "--http-port=8004", "--metrics-port=8005"),
        also=(("--model-repository={here}/models",),),
    ),
    one(
        "test_parse_error_modelfail",
        (*kinds("openvino"), *kinds("libtorch", remove=("3/*",)), *kinds("onnx plan", "models_0")),
        STAY,
        repositories=TWO,
        wait="stable",
    ),
    one(
        "test_parse_error_modelfail_nostrict",
        (*kinds("openvino"), *kinds("libtorch", remove=("3/*",)), *kinds("onnx plan", "models_0")),
        (*STAY, *LAX),
        repositories=TWO,
        wait="stable",
    ),
    one(
        "test_parse_error_no_model_config",
        (
            *kinds("openvino", remove=("config.pbtxt",), edits=()),
            *kinds("libtorch"),
            *kinds("onnx plan", "models_0"),
        ),
        (*STAY, "--strict-model-config=true"),
        Logged("file", "failed to open text file for read"),
        Logged(
            "reason", r"openvino_float32_float32_float32/config\.pbtxt: No such file or directory"
        ),
        repositories=TWO,
        wait="stable",
    ),
    one(
        "test_init_error_modelfail",
        (
            made(
                "onnx_sequence_int32",
                "qa_sequence_model_repository",
                edits=(Edit("OUTPUT", "_OUTPUT"),),
            ),
            made(f"onnx_{INT}", into="models_0", edits=(Edit("OUTPUT", "_OUTPUT"),)),
            *kinds("openvino libtorch"),
            *kinds("onnx", "models_0"),
        ),
        STAY,
        repositories=TWO,
        wait="stable",
    ),
    one(
        "test_parse_error_model_no_version",
        (*kinds("libtorch onnx plan"), *kinds("openvino", versions=())),
        STAY,
        wait="stable",
    ),
    *(
        one(
            case,
            kinds(
                "libtorch",
                remove=("3",),
                files={
                    f"{folder}/model.onnx": f"data/qa_model_repository/onnx_{FLOAT}/3/model.onnx"
                },
            ),
            STAY,
            Logged(f"{folder} is in the log", f"ignore version directory '{folder}' which {why}"),
        )
        for case, folder, why in (
            (
                "test_parse_ignore_zero_prefixed_version",
                "003",
                "contains leading zeros in its directory name",
            ),
            (
                "test_parse_ignore_non_intergral_version",
                "abc",
                "fails to convert to integral number",
            ),
        )
    ),
)

CONFIG = f"data/qa_model_repository/onnx_{FLOAT}/config.pbtxt"


def _renamed(kind: str, *edits: Edit) -> tuple[Edit, ...]:
    return (
        Edit(r"^name:.*", f'name: "{kind}_{FLOAT}"'),
        Edit(r"^platform:.*", 'platform: "onnxruntime_onnx"'),
        *edits,
    )


LABELS = (Edit(r"label", "label9"),)


def _modified(kind: str) -> tuple[Model | Text, ...]:
    """A model, and the configurations and labels that the test exchanges for its own."""
    labels = f"data/qa_model_repository/onnx_{FLOAT}/output0_labels.txt"
    no_policy = _renamed(kind, Edit(r"^version_policy.*\n", ""))
    wrong = _renamed(kind, Edit("output0_labels", "wrong_output0_labels"))
    return (
        *kinds(kind),
        Text(f"config.pbtxt.{kind}", CONFIG, no_policy),
        Text(f"config.pbtxt.wrong.{kind}", CONFIG, wrong),
        Text(f"models/{kind}_{FLOAT}/wrong_output0_labels.txt", labels, LABELS),
    )


MOVED = (
    *kinds("openvino"),
    *kinds("onnx", "models_0"),
    *kinds("libtorch", "."),
    *kinds("libtorch", versions=("1", "2")),
)
CUSTOM_POLICY = Edit(r"^version_policy:.*", "version_policy: { specific: { versions: [2] }}")

POLLING = (
    one(
        "test_dynamic_model_load_unload",
        (*kinds("openvino onnx plan"), *kinds("libtorch", ".")),
        (*POLL, *QUICK),
    ),
    one(
        "test_dynamic_model_load_unload_disabled",
        (*kinds("openvino onnx plan"), *kinds("libtorch", ".")),
        (*NONE, *QUICK),
    ),
    one("test_dynamic_version_load_unload", kinds("libtorch", types=INT), (*POLL, *QUICK)),
    one("test_dynamic_version_load_unload_disabled", kinds("libtorch", types=INT), (*NONE, *QUICK)),
    one("test_dynamic_model_modify", (*_modified("libtorch"), *_modified("plan")), (*POLL, *QUICK)),
    one(
        "test_dynamic_file_delete",
        kinds("onnx plan"),
        (*POLL, *QUICK, "--strict-model-config=false"),
    ),
    one("test_multiple_model_repository_polling", MOVED, (*POLL, *QUICK), repositories=TWO),
    one("test_multiple_model_repository_control", MOVED, (*EXPLICIT, *QUICK), repositories=TWO),
    Group(
        "poll_control",
        (
            Ask("unload is refused", f"v2/repository/models/openvino_{FLOAT}/unload", "", ok=False),
            Ask("still ready", f"v2/models/openvino_{FLOAT}/ready"),
            Ask("load is refused", f"v2/repository/models/openvino_{FLOAT}/load", "", ok=False),
            Ask("ready at the end", f"v2/models/openvino_{FLOAT}/ready"),
        ),
        kinds("openvino libtorch onnx plan"),
        (
            "--repository-poll-secs=0",
            "--model-control-mode=poll",
            *QUICK,
            "--strict-model-config=false",
        ),
    ),
    one(
        "test_add_custom_config",
        (
            *kinds("libtorch"),
            Text("config.pbtxt.custom.libtorch", CONFIG, _renamed("libtorch", CUSTOM_POLICY)),
            Text(f"models/libtorch_{FLOAT}/configs/.keep", CONFIG),
        ),
        (*POLL, *QUICK, "--model-config-name=custom"),
    ),
    one(
        "test_delete_custom_config",
        (
            *kinds("libtorch"),
            Text(
                f"models/libtorch_{FLOAT}/configs/custom.pbtxt",
                CONFIG,
                _renamed("libtorch", CUSTOM_POLICY),
            ),
        ),
        (*POLL, *QUICK, "--model-config-name=custom"),
    ),
)

ONE_BATCH = (Edit(r"max_batch_size:.*", "max_batch_size: 1"),)


def _wrapped(kind: str, into: str = "models", *edits: Edit) -> Model:
    """The simple_ ensemble of one backend's model."""
    step = Edit(f"onnx_{FLOAT}", f"{kind}_{FLOAT}")
    return made(
        f"simple_onnx_{FLOAT}",
        ENSEMBLES,
        name=f"simple_{kind}_{FLOAT}",
        edits=(step, *edits),
        into=into,
    )


CONTROLLED = (*kinds("onnx", edits=ONE_BATCH), _wrapped("onnx", "models", *ONE_BATCH))
STARTUP = (
    *kinds("plan onnx", edits=ONE_BATCH),
    *(_wrapped(kind, "models_0", *ONE_BATCH) for kind in ("plan", "onnx")),
    *kinds("libtorch"),
    *kinds("libtorch", "models_0"),
)
INDEXED = (
    *kinds("plan libtorch onnx"),
    *(_wrapped(kind, "models_0") for kind in ("plan", "libtorch")),
    *kinds("onnx", "models_0"),
)
IDENTITY = "./identity_zero_1_int32"
POLICY = "version_policy: {{ specific {{ versions: [{}] }}}}"
RELOADED = (*EXPLICIT, *QUICK, *LAX, "--load-model=identity_zero_1_int32")
RELOAD_MODELS: Mapping[str, tuple[Model | Text, ...]] = {
    "test_model_availability_on_reload": (Model(IDENTITY),),
    "test_model_availability_on_reload_2": (
        Model(IDENTITY, versions=("1", "2"), edits=(add(POLICY.format(1)),)),
        Text("config.pbtxt.v2", f"{IDENTITY}/config.pbtxt", (add(POLICY.format(2)),)),
    ),
    "test_model_availability_on_reload_3": (
        Model(IDENTITY, versions=("1", "2"), edits=(add(POLICY.format(1)),)),
        Text("config.pbtxt.new", f"{IDENTITY}/config.pbtxt", (add(POLICY.format(1)),)),
    ),
}
OVERRIDES = "--allow-model-overrides"

CONTROL = (
    one("test_model_control", CONTROLLED, (*EXPLICIT, *QUICK, *LAX)),
    one(
        "test_model_control_fail",
        kinds("onnx", edits=ONE_BATCH, remove=("*/*",)),
        (*EXPLICIT, *QUICK, *LAX),
    ),
    one("test_model_control_ensemble", CONTROLLED, (*EXPLICIT, *QUICK, *LAX)),
    one(
        "test_multiple_model_repository_control_startup_models",
        STARTUP,
        (
            *EXPLICIT,
            *LAX,
            "--exit-on-error=false",
            f"--load-model=libtorch_{FLOAT}",
            f"--load-model=plan_{FLOAT}",
            f"--load-model=simple_onnx_{FLOAT}",
        ),
        repositories=TWO,
        wait="stable",
    ),
    one(
        "test_multiple_model_repository_control_startup_models",
        STARTUP,
        (*EXPLICIT, *LAX, "--exit-on-error=false", "--load-model=*"),
        name="startup_models_all",
        repositories=TWO,
        wait="stable",
    ),
    Group(
        "load_all_and_one",
        (Refused("load_all_and_one"),),
        kinds("onnx", edits=ONE_BATCH),
        (*EXPLICIT, "--load-model=*", f"--load-model=onnx_{FLOAT}"),
    ),
    Group(
        "load_unknown",
        (Refused("load_unknown", ("model not found in any model repository",)),),
        flags=(*EXPLICIT, "--load-model=does-not-exist"),
    ),
    one(
        "test_model_repository_index",
        INDEXED,
        (
            *EXPLICIT,
            *LAX,
            "--exit-on-error=false",
            f"--load-model=onnx_{FLOAT}",
            f"--load-model=plan_{FLOAT}",
            f"--load-model=simple_libtorch_{FLOAT}",
        ),
        repositories=TWO,
        wait="stable",
    ),
    *(
        one(case, models, RELOADED, name=f"{case}-{protocol}", env=env)
        for case, models in RELOAD_MODELS.items()
        for protocol, env in (("grpc", {"TRITONSERVER_USE_GRPC": "1"}), ("http", {}))
    ),
    Group(
        "unknown_paths",
        tuple(
            Ask(path, path, status=404)
            for path in ("notapi/v2", "v2/notapi", "v2/models/notapi/foo")
        ),
        kinds("openvino", types=INT),
        NONE,
    ),
    one(
        "test_config_override",
        kinds("onnx", remove=("1/*", "3/*")),
        (*EXPLICIT, "--model-repository={here}/models", "--strict-model-config=false"),
    ),
    *(
        one(
            case,
            kinds("onnx", versions=("2", "3")),
            (*EXPLICIT, f"--load-model=onnx_{FLOAT}", OVERRIDES),
        )
        for case in ("test_file_override", "test_file_override_security")
    ),
    one(
        "test_load_new_model_version",
        (
            python(
                "identity_fp32",
                files={
                    f"{version}/model.py": "server/qa/python_models/identity_fp32/model.py"
                    for version in (1, 2, 3)
                },
                remove=("model.py",),
                edits=(
                    add("version_policy: { specific: { versions: [1, 2] } }"),
                    *(
                        add(
                            "    def initialize(self, args):\n        pb_utils.Logger.log_info("
                            "f'[PB model] Loading version {args[\"model_version\"]}')",
                            f"{version}/model.py",
                        )
                        for version in (1, 2, 3)
                    ),
                ),
            ),
        ),
        (*EXPLICIT, "--load-model=*"),
        env={"PYTHONDONTWRITEBYTECODE": "True"},
    ),
)

DELAYED = custom(
    "custom_zero_1_float32", add("dynamic_batching {}"), add(parameters(execute_delay_ms=5000))
)
HANDLERS = Logged("connections", "Found 1 gRPC service connections and inference handlers")
VERBOSE = ("--log-verbose=1",)
FP32 = "identity_fp32"

STOPPING = (
    one("test_shutdown_dynamic", (DELAYED,), (*VERBOSE, "--exit-timeout-secs=120"), HANDLERS),
    one(
        "test_shutdown_sequence",
        (custom("custom_sequence_int32"),),
        VERBOSE,
        Logged(
            "in flight", r"Model 'custom_sequence_int32' \(version 1\) has 2 in-flight inferences"
        ),
    ),
    one("test_shutdown_ensemble", (Model("./ensemble_zero_1_float32"), DELAYED), VERBOSE, HANDLERS),
    one(
        "test_shutdown_while_background_unloading",
        (python(FP32, edits=(asleep("finalize(self)", 10),)),),
        (*EXPLICIT, f"--load-model={FP32}", "--log-verbose=2"),
        Logged("unloaded twice", "successfully unloaded", 2),
    ),
    one(
        "test_shutdown_while_loading",
        (python(FP32, edits=(asleep("initialize(self, args)", 10),)),),
        (*EXPLICIT, "--log-verbose=2"),
    ),
    one("test_shutdown_with_live_connection", (python("add_sub"),)),
)


def _numbered(number: int) -> tuple[Model, ...]:
    return (
        Model(IDENTITY, name=f"identity_zero_1_int32_{number}"),
        python(FP32, name=f"python_{FP32}_{number}", edits=(asleep("initialize(self, args)", 10),)),
    )


CONCURRENT = (
    one("test_concurrent_model_load_speedup", (*_numbered(1), *_numbered(2)), EXPLICIT),
    one(
        "test_concurrent_model_load",
        (
            Model(IDENTITY, name="identity_model"),
            python(FP32, name="identity_model", into="models_v2"),
        ),
        EXPLICIT,
    ),
    one(
        "test_concurrent_model_load_unload",
        (
            Model(IDENTITY),
            Model("./ensemble_zero_1_float32"),
            custom("custom_zero_1_float32", add(parameters(creation_delay_sec=10))),
        ),
        EXPLICIT,
    ),
    one(
        "test_concurrent_same_model_load_unload_stress",
        (Model(IDENTITY, edits=(Edit('string_value: "10"', 'string_value: "0"'),)),),
        (*EXPLICIT, "--model-load-thread-count=32", "--log-verbose=2"),
    ),
    one(
        "test_concurrent_model_instance_load_speedup",
        (python(FP32, remove=("config.pbtxt",), edits=(asleep("initialize(self, args)", 10),)),),
        EXPLICIT,
    ),
    one(
        "test_concurrent_model_instance_load_sanity",
        (
            python(FP32, name=f"python_{FLOAT}", remove=("config.pbtxt",)),
            made(f"onnx_{FLOAT}", versions=("1",), remove=("config.pbtxt",)),
        ),
        (*EXPLICIT, "--log-verbose=2"),
        env={"PARALLEL_BACKENDS": "python onnx"},
    ),
    Group("retry_none", (Refused("retry_none"),), (Model("./retry_model"),), NONE),
    Group(
        "retry_once",
        (Ask("ready", "v2/models/retry_model/ready"),),
        (Model("./retry_model"),),
        (*NONE, "--model-load-retry-count=1"),
    ),
    one(
        "test_model_config_overwite",
        (python(FP32, remove=("config.pbtxt",), edits=(asleep("initialize(self, args)", 5),)),),
        (*EXPLICIT, f"--load-model={FP32}"),
    ),
    Group(
        "gpu_limit_device",
        (Refused("gpu_limit_device", ("expects device ID >= 0, got -1",)),),
        flags=(*EXPLICIT, "--model-load-gpu-limit=-1:0.6"),
    ),
    Group(
        "gpu_limit_fraction",
        (
            Refused(
                "gpu_limit_fraction",
                (r"expects limit fraction to be in range \[0\.0, 1\.0\], got -0\.4",),
            ),
        ),
        flags=(*EXPLICIT, "--model-load-gpu-limit=0:-0.4"),
    ),
    Group(
        "skipped",
        (
            Skipped(Reason.CUDA, ("test_load_gpu_limit",)),
            Skipped(Reason.CPP, ("test_model_reload_fail",)),
            Skipped(
                Reason.TENSORRT,
                tuple(f"test_load_same_model_different_platform {n}" for n in range(1, 5)),
            ),
        ),
    ),
)

LIFECYCLE = Suite("L0_lifecycle", 3, (*STARTING, *POLLING, *CONTROL, *STOPPING, *CONCURRENT))
