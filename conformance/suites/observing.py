"""Metrics, traces and the log."""

from conformance.models import (
    Edit,
    Model,
    Text,
    add,
    identity,
    made,
    parameters,
    python,
    stand_in,
)
from conformance.reasons import Reason
from conformance.suite import Ask, Cases, Group, Logged, Refused, Script, Skipped, Suite
from conformance.suites.batching import SLOW_DYNAMIC
from conformance.suites.clients import EXAMPLES

CONFIG = "metrics_config_test.py"
EXPLICIT = "--model-control-mode=explicit"
OFF = (EXPLICIT, "--load-model=identity_cache_off")
QUANTILES = "0.1:0.0.1,0.7:0.01,0.75:0.01"


def _metrics(name: str, cases: str, *flags: str, **env: str) -> Group:
    """Cases of one configuration of the latencies."""
    chosen = tuple(f"test_{case}" for case in cases.split())
    return Group(
        name,
        (Cases(CONFIG, chosen),),
        flags=flags,
        env=env,
        repositories=("unit_test_models",),
    )


DELAY = Edit(r"^max_batch_size.*", "max_batch_size: 4")


def _queued(name: str, batching: str = "") -> Model:
    edits = (DELAY, add(batching)) if batching else (DELAY,)
    return Model("./identity_delay", name=name, edits=edits, into="queued")


WAIT = "max_queue_delay_microseconds: 100000"
QUEUED = (
    _queued("default"),
    _queued("dynamic", f"dynamic_batching {{ {WAIT} }}"),
    _queued(
        "max_queue_size",
        f"dynamic_batching {{ {WAIT} default_queue_policy {{ max_queue_size: 4 }} }}",
    ),
    _queued(
        "sequence_direct",
        f"sequence_batching {{ direct {{ {WAIT}, minimum_slot_utilization: 1.0 }} }}",
    ),
    _queued(
        "sequence_oldest",
        f"sequence_batching {{ oldest {{ {WAIT}, max_candidate_sequences: 4 }} }}",
    ),
    Model("./ensemble_delay", name="ensemble", into="queued"),
    _queued("default_composing"),
    _queued("dynamic_composing", f"dynamic_batching {{ {WAIT} }}"),
)
BUCKETS = add(
    "model_metrics { metric_control: [ { metric_identifier: {"
    ' family: "nv_inference_first_response_histogram_ms" }'
    " histogram_options: { buckets: [ -1, 0.0, 1, 2.5 ] } } ] }"
)
DECOUPLED = "async_execute_decouple"
ONE_DECOUPLED = (EXPLICIT, f"--load-model={DECOUPLED}", "--log-verbose=1")

METRICS = Suite(
    "L0_metrics",
    3,
    (
        Group(
            "cpu",
            (
                Cases("cpu_metrics_test.py"),
                Skipped(Reason.CPP, ("metrics_api_test",)),
                Skipped(
                    Reason.CUDA,
                    (
                        "test_pinned_memory_metrics_exist",
                        "test_pinned_memory_metrics_asynchronous_requests",
                        "test_pinned_memory_metrics_synchronous_requests",
                        "custom pool asynchronous_requests",
                        "custom pool synchronous_requests",
                        "peer access",
                        "two GPUs",
                        "one GPU",
                        "energy is updated",
                    ),
                ),
            ),
            (stand_in("libtorch", "float32_float32_float32"),),
            ("--metrics-interval-ms=1000", "--log-verbose=1"),
        ),
        _metrics(
            "default",
            "inf_counters_exist inf_histograms_missing inf_summaries_missing"
            " cache_counters_missing cache_summaries_missing",
            *OFF,
        ),
        _metrics(
            "histogram",
            "inf_counters_exist inf_histograms_exist inf_summaries_missing"
            " cache_counters_missing cache_summaries_missing",
            *OFF,
            "--metrics-config=histogram_latencies=true",
        ),
        _metrics(
            "summary",
            "inf_counters_exist inf_summaries_exist cache_counters_missing cache_summaries_missing",
            *OFF,
            "--metrics-config=summary_latencies=true",
        ),
        _metrics(
            "summary_only",
            "inf_counters_missing inf_summaries_exist cache_counters_missing"
            " cache_summaries_missing",
            *OFF,
            "--metrics-config=summary_latencies=true",
            "--metrics-config=counter_latencies=false",
        ),
        _metrics(
            "cache",
            "inf_counters_exist inf_summaries_exist_with_cache cache_counters_exist"
            " cache_summaries_exist",
            EXPLICIT,
            "--load-model=identity_cache_on",
            "--cache-config=local,size=1048576",
            "--metrics-config=summary_latencies=true",
            "--metrics-config=counter_latencies=true",
        ),
        _metrics(
            "quantiles",
            "summaries_custom_quantiles",
            *OFF,
            "--metrics-config=summary_latencies=true",
            f"--metrics-config=summary_quantiles={QUANTILES}",
            SUMMARY_QUANTILES=QUANTILES,
        ),
        Group(
            "namespacing",
            (
                Cases(CONFIG, ("test_model_namespacing_label_with_namespace_off",)),
                Skipped(Reason.CONTAINER, ("test_model_namespacing_label_with_namespace_on",)),
            ),
            flags=("--model-namespacing=false", "--allow-metrics=true"),
            repositories=("model_namespacing_repos/addsub_repo",),
        ),
        Group(
            "queue_size",
            (Cases("metrics_queue_size_test.py"),),
            QUEUED,
            ("--log-verbose=1",),
            {"MAX_BATCH_SIZE": "4", "MAX_QUEUE_DELAY_US": "100000"},
            ("queued",),
        ),
        Group(
            "histogram_ensemble",
            (Cases("histogram_metrics_test.py", ("test_ensemble_decoupled",)),),
            (
                Model(
                    f"./ensemble_decoupled/{DECOUPLED}",
                    name="async_execute",
                    edits=(Edit(r"model_transaction_policy \{ decoupled: True \}", ""),),
                    into="ensemble_decoupled",
                ),
            ),
            ("--metrics-config=histogram_latencies=true", "--log-verbose=1"),
            repositories=("ensemble_decoupled",),
        ),
        Group(
            "histogram_buckets",
            (Cases("histogram_metrics_test.py", ("test_buckets_override",)),),
            (python(DECOUPLED, edits=(BUCKETS,)),),
            (*ONE_DECOUPLED, "--metrics-config=histogram_latencies=true"),
            {"OVERRIDE_BUCKETS": "-1,0,1,2.5,+Inf"},
        ),
        Group(
            "histogram_off",
            (Cases(CONFIG, ("test_inf_histograms_missing",)),),
            (python(DECOUPLED, edits=(BUCKETS,)),),
            (*ONE_DECOUPLED, "--metrics-config=histogram_latencies=false"),
        ),
    ),
)

SIMPLE = made("onnx_int32_int32_int32", name="simple", versions=("1",))
GLOBAL = made("onnx_int32_int32_int32", name="global_simple", versions=("1",))
ENSEMBLE = made(
    "simple_onnx_int32_int32_int32",
    "qa_ensemble_model_repository/qa_model_repository",
    name="ensemble_add_sub_int32_int32_int32",
    versions=("1",),
    edits=(Edit(r"model_name:.*", 'model_name: "simple"'),),
)
BLS = Model(
    name="bls_simple",
    files={"1/model.py": "server/qa/python_models/bls_simple/bls_simple.py"},
)


def _activities(*more: str) -> Model:
    return identity(
        "custom_identity_int32",
        "INT32",
        1024,
        parameters(execute_delay_ms=500, enable_custom_tracing="true"),
        *more,
    )


TRACED = (
    SIMPLE,
    ENSEMBLE,
    BLS,
    SLOW_DYNAMIC,
    Model(
        "server/src/test/models/repeat_int32",
        edits=(Edit("decoupled: True", "decoupled: False"),),
    ),
    _activities(parameters(nested_span_count=6, single_activity_frequency=3)),
    Model(
        name="trace_context",
        files={"1/model.py": "server/qa/L0_trace/trace_context.py"},
    ),
)
COLLECTOR = Text("otelcol", "ours/collector.py")
# Each infers twice: twenty requests in all.
CLIENTS = tuple(
    Script(f"{protocol} client {number}", f"{EXAMPLES}/simple_{protocol}_infer_client.py")
    for number in range(1, 6)
    for protocol in ("http", "grpc")
)


def triton(file: str, **settings: object) -> tuple[str, ...]:
    """`--trace-config` for Triton's own files."""
    return (
        f"--trace-config=triton,file={file}",
        *(f"--trace-config={key}={value}" for key, value in settings.items()),
    )


def _shows(*settings: str) -> tuple[str, ...]:
    """Settings as they stand in an answer: NAME=VALUE."""
    pairs = [setting.split("=", 1) for setting in settings]
    return tuple(
        f'"{name}":["{value}"]' if name == "trace_level" else f'"{name}":"{value}"'
        for name, value in pairs
    )


GLOBAL_SETTING, MODEL_SETTING = "v2/trace/setting", "v2/models/simple/trace/setting"
SPAN = r'"name":"COMPUTE_INPUT_END"'
TRACE = Suite(
    "L0_trace",
    3,
    (
        Group(
            "endpoint",
            (Cases("trace_endpoint_test.py"),),
            (SIMPLE, GLOBAL),
            triton("global_unittest.log", level="TIMESTAMPS", rate=1),
        ),
        Group(
            "off_to_min",
            (
                Ask(
                    "level is set",
                    GLOBAL_SETTING,
                    '{"trace_level":["TIMESTAMPS"]}',
                    holds=_shows(
                        "trace_level=TIMESTAMPS",
                        "trace_rate=1",
                        "log_frequency=0",
                        "trace_file=trace_off_to_min.log",
                        "trace_mode=triton",
                    ),
                ),
                *CLIENTS,
                Logged("twenty traces", SPAN, 20, "trace_off_to_min.log"),
            ),
            (SIMPLE,),
            triton("trace_off_to_min.log", level="OFF", rate=1),
        ),
        Group(
            "frequency",
            (
                Ask(
                    "file stays",
                    MODEL_SETTING,
                    '{"trace_file":"global_trace.log"}',
                    ok=False,
                    holds=("trace file location can not be updated through network protocol",),
                ),
                Ask(
                    "frequency is set",
                    MODEL_SETTING,
                    '{"log_frequency":"2"}',
                    holds=_shows("trace_rate=6", "trace_count=-1", "log_frequency=2"),
                ),
                *CLIENTS,
                Logged("two in the first file", SPAN, 2, "global_trace.log.0"),
                Logged("one in the second", SPAN, 1, "global_trace.log.1"),
            ),
            (SIMPLE,),
            triton("global_trace.log", level="TIMESTAMPS", rate=6),
        ),
        Group(
            "update_and_clear",
            (
                Ask("rate", MODEL_SETTING, '{"trace_rate":"1"}'),
                Ask(
                    "off",
                    MODEL_SETTING,
                    '{"trace_level":["OFF"]}',
                    holds=_shows("trace_level=OFF", "trace_rate=1"),
                ),
                *CLIENTS,
                Ask(
                    "cleared",
                    MODEL_SETTING,
                    '{"trace_level":null}',
                    holds=_shows("trace_level=TIMESTAMPS", "trace_rate=1"),
                ),
                *CLIENTS[:5],
                Logged("ten traces", SPAN, 10, "global_trace.log"),
            ),
            (SIMPLE,),
            triton("global_trace.log", level="TIMESTAMPS", rate=6),
        ),
        Group(
            "count",
            (
                *CLIENTS,
                Ask(
                    "count is set",
                    GLOBAL_SETTING,
                    '{"trace_count":"5"}',
                    holds=_shows("trace_count=5", "trace_file=global_count.log"),
                ),
                *CLIENTS,
                Ask("count is down", MODEL_SETTING, holds=_shows("trace_count=0")),
                *(
                    Ask(
                        f"{name} is too large",
                        MODEL_SETTING,
                        f'{{"{name}":"10000000000"}}',
                        ok=False,
                    )
                    for name in ("trace_count", "trace_rate", "log_frequency")
                ),
                Logged("twenty before", SPAN, 20, "global_count.log"),
                Logged("five after", SPAN, 5, "global_count.log.0"),
            ),
            (SIMPLE,),
            triton("global_count.log", level="TIMESTAMPS", rate=1),
        ),
        Group(
            "unloaded",
            (
                Ask("load", "v2/repository/models/simple/load", ""),
                Ask("unknown", "v2/models/does-not-exist/trace/setting", ok=False),
                Ask(
                    "unknown is not set",
                    "v2/models/does-not-exist/trace/setting",
                    '{"log_frequency":"1"}',
                    ok=False,
                ),
                Ask("loaded", MODEL_SETTING),
                Ask("loaded is set", MODEL_SETTING, '{"log_frequency":"1"}'),
                Ask("unload", "v2/repository/models/simple/unload", ""),
                Ask("unloaded", MODEL_SETTING, ok=False),
                Ask("unloaded is not set", MODEL_SETTING, '{"log_frequency":"1"}', ok=False),
                Ask("load again", "v2/repository/models/simple/load", ""),
                Ask("loaded again", MODEL_SETTING),
            ),
            (SIMPLE,),
            (EXPLICIT,),
        ),
        Group(
            "custom",
            (
                Ask(
                    "infer",
                    "v2/models/custom_identity_int32/infer",
                    '{"inputs":[{"name":"INPUT0","datatype":"INT32","shape":[1,1],"data":[4]}]}',
                ),
                *(
                    Logged(name, name, 1, "custom.log")
                    for name in (
                        "CUSTOM_SINGLE_ACTIVITY",
                        "CUSTOM_ACTIVITY_START",
                        "CUSTOM_ACTIVITY_END",
                    )
                ),
            ),
            (_activities(),),
            triton("custom.log", level="TIMESTAMPS", rate=1, mode="triton"),
        ),
        Group(
            "opentelemetry",
            (
                Cases(
                    "opentelemetry_unittest.py",
                    skips={"*sagemaker*": Reason.CONTAINER},
                    seconds=900,
                ),
            ),
            (*TRACED, COLLECTOR),
            (
                "--trace-config=level=TIMESTAMPS",
                "--trace-config=rate=1",
                "--trace-config=count=-1",
                "--trace-config=mode=opentelemetry",
                "--trace-config=opentelemetry,resource=test.key=test.value",
                "--trace-config=opentelemetry,resource=service.name=test_triton",
                "--trace-config=opentelemetry,url=localhost:10000/v1/traces",
            ),
            repositories=("models",),
        ),
    ),
)

LOGGED = made("onnx_int32_int32_int32", name="simple", versions=("1",), into="log_models")
LOGGING_URL = "v2/logging"
TWO_CLIENTS = CLIENTS[:2]
LINE = r"^[IWEV]\d{4}"
RECORD = r"\d{4} \d{2}:\d{2}:\d{2}\.\d{6} \d+ [\w.]+:\d+\] "


def _settings(
    file: str = "",
    info: str = "true",
    warning: str = "true",
    verbose: int = 0,
    error: str = "true",
    form: str = "default",
) -> Ask:
    return Ask(
        f"settings {verbose} {form} {info}",
        LOGGING_URL,
        holds=(
            f'"log_file":"{file}"',
            f'"log_info":{info}',
            f'"log_warning":{warning}',
            f'"log_error":{error}',
            f'"log_verbose_level":{verbose}',
            f'"log_format":"{form}"',
        ),
    )


def _log(name: str, checks: tuple[Ask | Script | Logged | Cases, ...], *flags: str) -> Group:
    return Group(name, checks, (LOGGED,), flags, repositories=("log_models",))


ONNX = "data/qa_model_repository/onnx_int32_int32_int32"
FILE = "--log-file=log_file.log"
LOGGING = Suite(
    "L0_logging",
    3,
    (
        _log("default", (_settings(), *TWO_CLIENTS)),
        _log(
            "file",
            (
                _settings("log_file.log"),
                *TWO_CLIENTS,
                Logged("lines in the file", r"(?s)(^[IWEV]\d{4}.*){19}", None, "log_file.log"),
                Logged("none on the console", LINE, 0),
            ),
            FILE,
        ),
        _log(
            "file_verbose",
            (
                Ask(
                    "file stays",
                    LOGGING_URL,
                    '{"log_file":"other_log.log"}',
                    ok=False,
                    holds=("log file location can not be updated through network protocol",),
                ),
                _settings("log_file.log", verbose=1),
                *TWO_CLIENTS,
                Logged("none on the console", LINE, 0),
            ),
            FILE,
            "--log-verbose=1",
        ),
        _log(
            "info",
            (
                _settings("log_file.log", info="false", verbose=1),
                Ask("info on", LOGGING_URL, '{"log_info":true}'),
                _settings("log_file.log", verbose=1),
                Logged("not at the start", "Started HTTPService at", 0, "log_file.log"),
                Logged(
                    "at the end",
                    "Waiting for in-flight requests to complete",
                    1,
                    "log_file.log",
                ),
            ),
            FILE,
            "--log-info=false",
            "--log-verbose=1",
        ),
        _log("warning", (_settings(warning="false"),), "--log-warning=false"),
        _log("error", (_settings(error="false"),), "--log-error=false"),
        _log(
            "verbose",
            (
                _settings("log_file.log", verbose=1),
                Ask("verbose off", LOGGING_URL, '{"log_verbose_level":0}'),
                _settings("log_file.log"),
                Logged("questions in the log", "/v2/logging", 2, "log_file.log"),
            ),
            FILE,
            "--log-verbose=1",
        ),
        _log(
            "format",
            (
                _settings("log_file.log", verbose=1, form="ISO8601"),
                Ask("format", LOGGING_URL, '{"log_format":"default"}'),
                _settings("log_file.log", verbose=1),
                Logged("first is ISO", r"\A\d{4}-\d{2}-\d{2}T", None, "log_file.log"),
                Logged("last is not", rf"{LINE}.*\n\Z", None, "log_file.log"),
            ),
            FILE,
            "--log-verbose=1",
            "--log-format=ISO8601",
        ),
        _log(
            "bad_values",
            (
                *(
                    Ask(f"{name} {value}", LOGGING_URL, f'{{"{name}":{value}}}', ok=value == "true")
                    for name in ("log_info", "log_warning", "log_error")
                    for value in ("1", "False", '"false"', "true")
                ),
                *(
                    Ask(
                        f"verbose {value}",
                        LOGGING_URL,
                        f'{{"log_verbose_level":{value}}}',
                        ok=value == "0",
                    )
                    for value in ("-1", '"1"', "0")
                ),
            ),
            "--log-warn=false",
        ),
        _log("endpoint", (Cases("logging_endpoint_test.py"),)),
        Group(
            "log_format",
            (Cases("log_format_test.py", seconds=900),),
            (LOGGED,),
            env={"TRITON_SERVER_ESCAPE_LOG_MESSAGES": "1"},
            wait="alone",
        ),
        Group(
            "levels",
            (
                Refused("levels", (rf"^W{RECORD}", rf"^E{RECORD}")),
                Skipped(Reason.CPP, ("logging_test",)),
            ),
            (
                Model(
                    ONNX,
                    name="simple",
                    versions=(),
                    files={"01/model.onnx": f"{ONNX}/1/model.onnx"},
                ),
            ),
            ("--log-verbose=1",),
        ),
    ),
)
