"""Triton's flags that change nothing here, and those that it has renamed.

Scripts and Helm charts pass all of them, so each is read, checked, and answered with a sentence.
"""

from __future__ import annotations

from nerite.settings import kinds
from nerite.settings.options import Option

_PAIR = kinds.pair("<gpu>:<bytes>", ":", kinds.NUMBER, kinds.BYTES)
_NO_LIBRARIES = "nothing is loaded from shared libraries"
_NO_PLATFORM = "this platform's own protocol is not served"
_ONE_LOOP = "one event loop serves all connections"
_OWN_POOLS = "runtimes keep pools of their own"


def _ignored(flag: str, kind: kinds.Kind, why: str) -> Option:
    return Option(flag.replace("-", "_"), kind, None, why)


IGNORED = [
    _ignored("http-thread-count", kinds.NUMBER, _ONE_LOOP),
    _ignored("grpc-infer-thread-count", kinds.whole("number", 2, 128), _ONE_LOOP),
    _ignored("grpc-infer-allocation-pool-size", kinds.NUMBER, "requests are not pooled"),
    _ignored("grpc-max-response-pool-size", kinds.whole("number", 1), "responses are not pooled"),
    _ignored("allow-sagemaker", kinds.BOOLEAN, _NO_PLATFORM),
    _ignored("sagemaker-port", kinds.PORT, _NO_PLATFORM),
    _ignored(
        "sagemaker-safe-port-range",
        kinds.pair("<port>-<port>", "-", kinds.PORT, kinds.PORT),
        _NO_PLATFORM,
    ),
    _ignored("sagemaker-thread-count", kinds.NUMBER, _NO_PLATFORM),
    _ignored("allow-vertex-ai", kinds.BOOLEAN, _NO_PLATFORM),
    _ignored("vertex-ai-port", kinds.PORT, _NO_PLATFORM),
    _ignored("vertex-ai-thread-count", kinds.NUMBER, _NO_PLATFORM),
    _ignored("vertex-ai-default-model", kinds.TEXT, _NO_PLATFORM),
    _ignored("cache-directory", kinds.PATH, _NO_LIBRARIES),
    _ignored("repoagent-directory", kinds.PATH, _NO_LIBRARIES),
    _ignored("pinned-memory-pool-byte-size", kinds.BYTES, _OWN_POOLS),
    _ignored("cuda-memory-pool-byte-size", _PAIR, _OWN_POOLS),
    _ignored("cuda-virtual-address-size", _PAIR, _OWN_POOLS),
    _ignored(
        "min-supported-compute-capability",
        kinds.fraction("number"),
        "a runtime tells what it needs",
    ),
    _ignored("buffer-manager-thread-count", kinds.NUMBER, "tensors are not gathered by threads"),
    _ignored(
        "model-load-gpu-limit",
        kinds.GPU_LIMIT,
        "a load is tried whatever a GPU has free",
    ),
    _ignored("enable-peer-access", kinds.BOOLEAN, "GPUs do not read each other's memory"),
]

_TRACE_LEVEL = kinds.choice("OFF", "TIMESTAMPS", "TENSORS", "MIN", "MAX", "true", "false", "on")
# Each stands for another setting; `text` says which in Triton's words.
DEPRECATED = [
    Option("strict_model_config", kinds.BOOLEAN, None, "'--disable-auto-complete-config'"),
    Option("response_cache_byte_size", kinds.BYTES, None, "'--cache-config=local,size=<bytes>'"),
    Option("trace_file", kinds.PATH, None, "'--trace-config triton,file=<filepath>'"),
    Option(
        "trace_level",
        _TRACE_LEVEL,
        None,
        "'--trace-config level=<OFF|TIMESTAMPS|TENSORS>'",
        repeat=True,
    ),
    Option("trace_rate", kinds.NUMBER, None, "'--trace-config rate=<rate value>'"),
    Option("trace_count", kinds.NUMBER, None, "'--trace-config count=<count value>'"),
    Option(
        "trace_log_frequency",
        kinds.NUMBER,
        None,
        "'--trace-config triton,log-frequency=<log frequency value>'",
    ),
]
TRACE_KEYS = {
    "trace_file": ("triton", "file"),
    "trace_level": ("", "level"),
    "trace_rate": ("", "rate"),
    "trace_count": ("", "count"),
    "trace_log_frequency": ("triton", "log-frequency"),
}
