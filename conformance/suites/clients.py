"""The client repository's own Python examples, with the models of Triton's documentation."""

from conformance.models import Edit, Model, add, docs, identity
from conformance.reasons import Reason
from conformance.suite import Check, Group, Logged, Script, Skipped, Suite

EXAMPLES = "client/src/python/examples"

# The custom backend with string correlation ids, as test.sh derives it from the ONNX one.
STRING_SEQUENCE = Model(
    "server/docs/examples/model_repository/simple_dyna_sequence",
    name="simple_string_dyna_sequence",
    edits=(
        Edit(r"^platform: .*", 'backend: "dyna_sequence"'),
        Edit(r"(CONTROL_SEQUENCE_CORRID\s*\n\s*)data_type:.*", r"\1data_type: TYPE_STRING"),
    ),
    remove=("1/model.onnx",),
)

# Stands in for the image model of the documentation, which is a download: tests count models.
DENSENET = Model("server/docs/examples/model_repository/simple", name="densenet_onnx")

CLASSES = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        nothing = pb_utils.Tensor("fc6_1", np.zeros((1, 1000, 1, 1), np.float32))
        return [pb_utils.InferenceResponse([nothing]) for _ in requests]
"""
# And for a client that asks it.
IMAGES = Model(
    "server/docs/examples/model_repository/densenet_onnx",
    edits=(Edit(r"^platform: .*", 'backend: "python"'), add(CLASSES, "1/model.py")),
)

PLAIN = (docs("simple"), docs("simple_identity"), docs("simple_string"))
INT8 = docs("simple_int8")
SEQUENCES = (docs("simple_sequence"), docs("simple_dyna_sequence"), STRING_SEQUENCE)
HTTP_MODELS = (*PLAIN, *SEQUENCES, DENSENET)
GRPC_MODELS = (*HTTP_MODELS, INT8)
GROWTH = identity("custom_identity_int32", "INT32", 8)


def script(name: str, *arguments: str, prints: str = "", fails: bool = False) -> Script:
    """One example; `arguments` are part of the case's name."""
    shown = " ".join((name, *arguments))
    return Script(shown, f"{EXAMPLES}/{name}.py", ("-v", *arguments), prints, fails)


HTTP: tuple[Check, ...] = (
    script("simple_http_health_metadata"),
    script("simple_http_infer_client"),
    script("simple_http_aio_infer_client"),
    script("simple_http_async_infer_client"),
    script("simple_http_string_infer_client"),
    script("simple_http_shm_client"),
    script("simple_http_shm_string_client"),
    script("reuse_infer_objects_client"),
    script("simple_http_infer_client", "-u", "localhost:8000/base_path", fails=True),
    Skipped(Reason.CUDA, ("simple_http_cudashm_client",)),
)
GRPC: tuple[Check, ...] = (
    script("simple_grpc_health_metadata"),
    script("simple_grpc_infer_client", prints="PASS"),
    script("simple_grpc_aio_infer_client", prints="PASS"),
    script("simple_grpc_async_infer_client", prints="PASS"),
    script("simple_grpc_string_infer_client", prints="PASS"),
    script("simple_grpc_shm_client", prints="PASS"),
    script("simple_grpc_shm_string_client", prints="PASS"),
    script("simple_grpc_keepalive_client", prints="PASS"),
    script("simple_grpc_custom_args_client", prints="PASS"),
    script("grpc_explicit_byte_content_client", prints="PASS"),
    script("grpc_explicit_int_content_client", prints="PASS"),
    script("grpc_explicit_int8_content_client", prints="PASS"),
    script("grpc_client", prints="PASS"),
    script("reuse_infer_objects_client", "-i", "grpc", "-u", "localhost:8001"),
    Skipped(Reason.CUDA, ("simple_grpc_cudashm_client",)),
)
SEQUENCE: tuple[Check, ...] = (
    script("simple_http_sequence_sync_infer_client"),
    script("simple_grpc_sequence_sync_infer_client", prints="PASS"),
    script("simple_grpc_sequence_stream_infer_client", prints="PASS"),
    script("simple_grpc_aio_sequence_stream_infer_client", prints="PASS"),
    script("simple_http_sequence_sync_infer_client", "-d"),
    script("simple_grpc_sequence_sync_infer_client", "-d"),
    script("simple_grpc_sequence_stream_infer_client", "-d"),
)

CLIENTS = Suite(
    "client_examples",
    3,
    folder=EXAMPLES,
    groups=(
        Group("http", HTTP, (*PLAIN, INT8), ("--allow-client-shm=true",)),
        Group("grpc", GRPC, (*PLAIN, INT8, IMAGES), ("--allow-client-shm=true",)),
        Group("sequence", SEQUENCE, (*PLAIN, *SEQUENCES)),
        Group(
            "memory_growth",
            (
                script("memory_growth_test", "-i", "http", "-r", "100"),
                script("memory_growth_test", "-i", "grpc", "-r", "100"),
            ),
            (GROWTH,),
        ),
        Group(
            "decoupled",
            (script("simple_grpc_custom_repeat", prints="PASS"),),
            (
                docs("simple"),
                Model(
                    name="repeat_int32",
                    files={
                        "config.pbtxt": "python_backend/examples/decoupled/repeat_config.pbtxt",
                        "1/model.py": "python_backend/examples/decoupled/repeat_model.py",
                    },
                ),
            ),
        ),
        Group(
            "http_model_control",
            (
                script("simple_http_model_control", prints="PASS"),
                Logged("invalid override", "Invalid config override"),
            ),
            HTTP_MODELS,
            ("--model-control-mode=explicit",),
        ),
        Group(
            "grpc_model_control",
            (script("simple_grpc_model_control", prints="PASS"),),
            GRPC_MODELS,
            ("--model-control-mode=explicit", "--allow-model-overrides"),
        ),
    ),
)
