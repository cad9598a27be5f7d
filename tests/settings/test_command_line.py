"""Flags and variables as Triton's command line reads them, and what it refuses."""

from typing import Any

import pytest

from nerite.settings import OPTIONS, Settings, parse
from nerite.settings.others import DEPRECATED, IGNORED


def read(*arguments: str, **variables: str) -> Settings:
    return parse(arguments, environment=variables)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, **variables: str) -> str:
    with pytest.raises(SystemExit) as left:
        read(*arguments, **variables)
    assert left.value.code == 1
    return capsys.readouterr().err


def test_defaults_are_tritons_but_for_the_address() -> None:
    settings = read()
    assert settings.http_address == settings.grpc_address == settings.metrics_address == "127.0.0.1"
    ports = (settings.http_port, settings.grpc_port, settings.metrics_port)
    assert ports == (8000, 8001, 8002)
    assert (settings.exit_timeout_secs, settings.repository_poll_secs) == (30, 15)
    assert (settings.http_max_input_size, settings.metrics_interval_ms) == (67108864, 2000)
    assert not settings.allow_client_shm
    assert not settings.notices


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--http-port=1"], "http_port", 1),
        (["--http-port", "1"], "http_port", 1),
        (["--http-port=1", "--http-port=2"], "http_port", 2),
        (["--log-warn=false"], "log_warning", False),
        (["--http-m", "7"], "http_max_input_size", 7),  # unique among Triton's flags
        (["--http-max-c", "7"], "http_max_connections", 7),
        (["--model-store", "a", "--model-repository=b"], "model_repository", ["a", "b"]),
        (["--strict-readiness", "off"], "strict_readiness", False),
        (["--strict-readiness=ON"], "strict_readiness", True),
        (["--allow-http", "0", "--id", "x"], "allow_http", False),
        (["--disable-auto-complete-config", "--id=x"], "disable_auto_complete_config", True),
        (["--grpc-keepalive-permit-without-calls=1"], "grpc_keepalive_permit_without_calls", True),
        (["--log-verbose=true"], "log_verbose", 1),
        (["--log-verbose", "3"], "log_verbose", 3),
        (["--log-format=iso8601"], "log_format", "ISO8601"),
        (["--model-control-mode=EXPLICIT"], "model_control_mode", "explicit"),
        (["--metrics-config", "summary_quantiles=0.5:0.05,0.9:0.01"], "metrics_config",
         [("summary_quantiles", "0.5:0.05,0.9:0.01")]),
        (["--backend-config=default-max-batch-size=5"], "backend_config",
         [("", "default-max-batch-size", "5")]),
        (["--backend-config=python,shm-default-byte-size=1"], "backend_config",
         [("python", "shm-default-byte-size", "1")]),
        (["--trace-config", "level=TIMESTAMPS", "--trace-config=triton,file=/tmp/a=b"],
         "trace_config", [("", "level", "TIMESTAMPS"), ("triton", "file", "/tmp/a=b")]),
        (["--rate-limit-resource=R1:4", "--rate-limit-resource=R2:1:0"], "rate_limit_resource",
         [("R1", 4, -1), ("R2", 1, 0)]),
        (["--http-restricted-api=health,trace:k=v=w"], "http_restricted_api",
         [(("health", "trace"), "k", "v=w")]),
    ],
)  # fmt: skip
def test_flags(arguments: list[str], name: str, value: Any) -> None:
    assert getattr(read(*arguments), name) == value


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--htp-port=1"], "unknown argument '--htp-port=1'; did you mean --http-port?"),
        (["--http_port=1"], "unknown argument '--http_port=1'; did you mean --http-port?"),
        (["--xyzzy"], "unknown argument '--xyzzy'; --help lists what there is"),
        (["--http-port=eight"], 'Bad option: "--http-port".\nInvalid option value. Got eight'),
        (["--http-port=65536"], "Provided option value is out of bound. Got 65536"),
        (["--strict-readiness=maybe"], "invalid value for bool option: maybe"),
        (["--http"], "argument '--http' is ambiguous; it could be --http-address"),
        (["--id"], "option '--id' requires an argument"),
        (["--id", "--http-port=1"], "option '--id' requires an argument"),
        (["models"], "Unexpected argument: models"),
        (["--strict-readiness", "models"], "Unexpected argument: models"),
        (["--http-max-input-size=0"], "Error: --http-max-input-size must be greater than 0."),
        (["--grpc-infer-thread-count=1"], "it must be from 2 to 128"),
        (["--log-format=xml"], "Got xml; it must be one of default, ISO8601, json"),
        (["--backend-config=,a=b"], "--backend-config option format is"),
        (["--cache-config=size=1"], "--cache-config option format is '<cache>,<setting>=<value>'"),
        (["--metrics-config=a"], "--metrics-config option format is <setting>=<value>. Got a"),
        (["--rate-limit-resource=R"], "--rate-limit-resource option format is"),
        (["--rate-limit-resource=:4"], "--rate-limit-resource option format is"),
        (["--rate-limit-resource=R:-1"], "is out of bound. Got -1; it must be at least 0"),
        (["--http-header-forward-pattern=("], "'(' is not a regular expression"),
        (["--http-restricted-api=helth:a=b"], "unknown restricted api 'helth'"),
        (["--grpc-restricted-protocol=helth:a=b"], "unknown restricted protocol 'helth'"),
        (["--http-restricted-api=health"], "'<config name>:<setting>=<value>'. Got health"),
        (
            ["--http-restricted-api=health:a=b", "--http-restricted-api=trace,health:c=d"],
            "restricted api 'health' can not be specified in multiple config groups",
        ),
        (["--load-model=a"], "Use of '--load-model' requires setting '--model-control-mode="),
        (
            ["--model-control-mode=explicit", "--load-model=a", "--load-model=*"],
            "Wildcard model name '*' must be the ONLY startup model",
        ),
        (
            ["--http-port=9000", "--metrics-port=9000"],
            "The server cannot listen to HTTP requests and metrics requests at the same address "
            "and port 127.0.0.1:9000",
        ),
        (["--https-cert=a"], "--https-cert and --https-key are only of use together"),
        (["--grpc-use-ssl"], "gRPC over TLS needs --grpc-server-cert"),
        (
            ["--grpc-use-ssl-mutual", "--grpc-server-cert=a", "--grpc-server-key=b"],
            "gRPC over TLS needs --grpc-root-cert",
        ),
        (["--cors-origin=example.org"], "is no origin like https://example.org:8443"),
        (
            ["--response-cache-byte-size=1", "--cache-config=local,size=1"],
            "Incompatible flags --response-cache-byte-size and --cache-config both provided.",
        ),
        (["--sagemaker-safe-port-range=8"], "argument requires format <first>-<second>. Found: 8"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    said = refused(capsys, *arguments)
    assert said.startswith("Usage: nerite serve [options], see nerite serve --help\nerror: ")
    assert expected in said


def test_services_that_do_not_meet_may_share_a_port() -> None:
    assert read("--http-port=9", "--grpc-port=9", "--allow-grpc=false").http_port == 9
    assert read("--http-port=9", "--grpc-port=9", "--grpc-address=::1").grpc_port == 9
    assert read("--http-port=0", "--grpc-port=0").grpc_port == 0


def test_addresses_follow_each_other() -> None:
    settings = read("--host=0.0.0.0", "--http-address=10.0.0.1")
    assert settings.http_address == settings.metrics_address == "10.0.0.1"
    assert settings.grpc_address == "0.0.0.0"


def test_variables() -> None:
    settings = read(NERITE_HTTP_PORT="9000", NERITE_MODEL_REPOSITORY="s3://a/b;/c")
    assert (settings.http_port, settings.model_repository) == (9000, ["s3://a/b", "/c"])
    assert read("--http-port=1", NERITE_HTTP_PORT="9000").http_port == 1
    assert read("--model-repository=a", NERITE_MODEL_REPOSITORY="b").model_repository == ["a"]
    assert read(NERITE_HTTP_PORT="").http_port == 8000
    assert read(NERITE_LOG_INFO="off").log_info is False


def test_a_wrong_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert "NERITE_HTTP_PORT: Invalid option value. Got x" in refused(capsys, NERITE_HTTP_PORT="x")


def test_a_misspelt_variable() -> None:
    others = {"NERITE_TEST_REQUIRE_SERVICES": "1", "NERITE_URL": "x", "NERITE_API_KEY": "x"}
    settings = read(NERITE_HTPP_PORT="9000", **others)
    assert settings.notices == [
        "the environment variable NERITE_HTPP_PORT names no setting; did you mean NERITE_HTTP_PORT?"
    ]


def test_flags_without_effect_are_told_once() -> None:
    settings = read("--http-thread-count=4", "--pinned-memory-pool-byte-size=0", "--id=x")
    (notice,) = settings.notices
    assert notice.startswith("without effect here: --http-thread-count (one event loop ")
    assert "--pinned-memory-pool-byte-size (" in notice


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("-1:0.6", "expects device ID >= 0, got -1"),
        ("0:-0.4", "expects limit fraction to be in range [0.0, 1.0], got -0.4"),
    ],
)
def test_a_wrong_limit_of_a_gpu(
    capsys: pytest.CaptureFixture[str], limit: str, expected: str
) -> None:
    assert expected in refused(capsys, f"--model-load-gpu-limit={limit}")


def test_deprecated_flags_become_what_they_are_now() -> None:
    settings = read(
        "--strict-model-config=true",
        "--response-cache-byte-size=1024",
        "--trace-file=/tmp/t",
        "--trace-level=TIMESTAMPS",
        "--trace-level=tensors",
        "--trace-rate=1",
        "--trace-config=rate=7",
    )
    assert settings.disable_auto_complete_config
    assert settings.cache_config == [("local", "size", "1024")]
    assert settings.trace_config == [
        ("", "rate", "7"),
        ("triton", "file", "/tmp/t"),
        ("", "level", "TIMESTAMPS"),
        ("", "level", "TENSORS"),
    ]
    assert (
        "Warning: '--strict-model-config' has been deprecated! Please use "
        "'--disable-auto-complete-config' instead." in settings.notices
    )
    assert not read("--strict-model-config=false").disable_auto_complete_config
    both = read("--disable-auto-complete-config", "--strict-model-config=false")
    assert both.disable_auto_complete_config
    assert "Overriding deprecated '--strict-model-config' from False to True" in both.notices[-1]


def test_every_flag_of_triton_is_known() -> None:
    """The names in Triton 2.73's command_line_parser.cc."""
    known = {name for one in (*OPTIONS, *IGNORED, *DEPRECATED) for name in (one.flag, *one.aliases)}
    assert not set(TRITON.split()) - known
    ours = {option.flag for option in OPTIONS if option.ours}
    assert known - set(TRITON.split()) == ours


TRITON = """
    id exit-timeout-secs log-verbose log-info log-warning log-error log-format log-file
    model-store model-repository exit-on-error disable-auto-complete-config strict-readiness
    model-control-mode repository-poll-secs load-model model-config-name model-load-thread-count
    model-load-retry-count model-namespacing enable-peer-access allow-http http-address http-port
    reuse-http-port http-header-forward-pattern http-thread-count http-max-input-size
    http-restricted-api allow-grpc grpc-address grpc-port reuse-grpc-port
    grpc-header-forward-pattern grpc-infer-thread-count grpc-infer-allocation-pool-size
    grpc-max-response-pool-size grpc-use-ssl grpc-use-ssl-mutual grpc-server-cert grpc-server-key
    grpc-root-cert grpc-infer-response-compression-level grpc-keepalive-time
    grpc-keepalive-timeout grpc-keepalive-permit-without-calls grpc-http2-max-pings-without-data
    grpc-http2-min-recv-ping-interval-without-data grpc-http2-max-ping-strikes
    grpc-max-connection-age grpc-max-connection-age-grace grpc-restricted-protocol allow-sagemaker
    sagemaker-port sagemaker-safe-port-range sagemaker-thread-count allow-vertex-ai vertex-ai-port
    vertex-ai-thread-count vertex-ai-default-model allow-metrics allow-gpu-metrics
    allow-cpu-metrics metrics-address metrics-port metrics-interval-ms metrics-config trace-config
    cache-config cache-directory rate-limit rate-limit-resource pinned-memory-pool-byte-size
    cuda-memory-pool-byte-size cuda-virtual-address-size min-supported-compute-capability
    buffer-manager-thread-count host-policy model-load-gpu-limit allow-client-shm
    backend-directory backend-config repoagent-directory strict-model-config
    response-cache-byte-size trace-file trace-level trace-rate trace-count trace-log-frequency
"""


def test_a_pattern_as_re2_writes_it() -> None:
    """RE2 switches a flag off for what follows, where Python wants a group."""
    settings = read("--grpc-header-forward-pattern=(?-i)MY_HEADER.*")
    assert settings.grpc_header_forward_pattern == "(?-i:MY_HEADER.*)"
