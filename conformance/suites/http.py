"""L0_http: bodies, headers, limits, generate, the asyncio client, restricted endpoints."""

from conformance.models import Edit, Model, add, docs, made
from conformance.reasons import Reason
from conformance.suite import Ask, Cases, Group, Refused, Skipped, Suite
from conformance.suites.clients import HTTP_MODELS

IDENTITY = "qa_identity_model_repository"
QUEUE = (
    "dynamic_batching { max_queue_delay_microseconds: 1000000 preferred_batch_size: [ 8 ]"
    " default_queue_policy { max_queue_size: 1 } }"
)
ZERO = (
    *(made(f"onnx_zero_{name}", IDENTITY) for name in ("1_float32", "1_object", "1_float16")),
    made("onnx_zero_3_float32", IDENTITY),
    made(
        "onnx_zero_1_object",
        IDENTITY,
        name="onnx_zero_1_object_1_element",
        edits=(Edit(r"(?s)\A(.*?)-1", r"\g<1>1"),),
    ),
    made("onnx_zero_1_float32", IDENTITY, name="onnx_zero_1_float32_queue", edits=(add(QUEUE),)),
    docs("simple_identity"),
    Model(
        "server/docs/examples/model_repository/simple_identity",
        name="simple_identity_int64",
        edits=(Edit("TYPE_STRING", "TYPE_INT64"),),
    ),
)
BODIES = (
    "test_raw_binary",
    "test_raw_binary_longer",
    "test_byte",
    "test_byte_too_many_elements",
    "test_multi_variable_dimensions",
    "test_multi_inputs",
    "test_content_encoding_chunked_manually",
    "test_content_encoding_unsupported_client",
    "test_descriptive_status_code",
    "test_buffer_size_overflow",
    "test_negative_dimensions",
    "test_load_oversized_file_parameter",
    "test_json_recursion_depth_limit",
    "test_duplicate_output_names",
    "test_repository_index_deeply_nested_json",
    "test_inference_header_content_length_out_of_range",
)
LIMITED = (made("onnx_zero_1_float32", IDENTITY), docs("simple_identity"))


def _tensor(name: str, count: int = 16) -> str:
    data = ",".join(str(number) for number in range(1, count + 1))
    return f'{{"name":"{name}","datatype":"INT32","shape":[1,16],"data":[{data}]}}'


def _body(outputs: str = "", parameters: str = "") -> str:
    inputs = f'"inputs":[{_tensor("INPUT0")},{_tensor("INPUT1")}]'
    return f"{{{parameters}{inputs}{outputs}}}"


INFER = "v2/models/simple/infer"
SUM = f"[{','.join(str(2 * number) for number in range(1, 17))}]"
DIFFERENCE = f"[{','.join(['0'] * 16)}]"
BINARY = '"parameters":{"binary_data_output":true},'


def _outputs(first: str, second: str) -> str:
    return f',"outputs":[{{"name":"OUTPUT0"{first}}},{{"name":"OUTPUT1"{second}}}]'


TRUE = ',"parameters":{"binary_data":true}'
FALSE = ',"parameters":{"binary_data":false}'
BY_HAND = (
    Ask("no parameters", INFER, _body(), holds=(SUM, DIFFERENCE)),
    Ask(
        "first binary, second not",
        INFER,
        _body(_outputs(TRUE, FALSE)),
        holds=(DIFFERENCE,),
        lacks=(SUM,),
    ),
    Ask(
        "first binary, second not said",
        INFER,
        _body(_outputs(TRUE, "")),
        holds=(DIFFERENCE,),
        lacks=(SUM,),
    ),
    Ask("binary, no outputs said", INFER, _body(parameters=BINARY), lacks=(SUM, DIFFERENCE)),
    Ask(
        "binary, outputs said",
        INFER,
        _body(_outputs(FALSE, ""), BINARY),
        holds=(SUM, DIFFERENCE),
    ),
    Ask(
        "too little data",
        INFER,
        f'{{"inputs":[{_tensor("INPUT0", 15)}]}}',
        ok=False,
        holds=('{"error":"Failed to parse \'data\' field: shape does not match true shape"}',),
    ),
    Ask(
        "too much data",
        INFER,
        f'{{"inputs":[{_tensor("INPUT0", 18)}]}}',
        ok=False,
        holds=(
            '{"error":"Unable to parse \'data\': Shape does not match true shape'
            " of 'data' field\"}",
        ),
    ),
    Ask("still working", INFER, _body(), holds=(SUM, DIFFERENCE)),
)
NO_LIMIT = r"Error: --http-max-input-size must be greater than 0\."
EXPLICIT = "--model-control-mode=explicit"
SHM = "--allow-client-shm=true"

HTTP = Suite(
    "L0_http",
    3,
    (
        Group(
            "plugin",
            (
                Cases("http_client_plugin_test.py"),
                Skipped(
                    Reason.CONTAINER,
                    (
                        "HTTPBasicAuthTest.test_client_call",
                        "HTTPBasicAuthAsyncTest.test_client_call",
                    ),
                ),
                Skipped(
                    Reason.CPP,
                    ("cc_client_test", "LoadWithFileOverride", "LoadWithConfigOverride"),
                ),
            ),
            (docs("simple"),),
            (SHM,),
        ),
        Group("by_hand", BY_HAND, (docs("simple"),)),
        Group("aio", (Cases("python_http_aio_test.py"),), HTTP_MODELS, (SHM,)),
        Group(
            "http_test",
            (Cases("http_test.py", BODIES, seconds=900),),
            ZERO,
            (EXPLICIT, "--load-model=*", "--allow-model-overrides"),
        ),
        # It builds a body of 2.7 GB, and ends all others with it where there is not memory enough.
        Group(
            "http_test-large",
            (Cases("http_test.py", ("test_loading_large_invalid_model",), seconds=900),),
            ZERO,
            (EXPLICIT, "--load-model=*", "--allow-model-overrides"),
        ),
        Group(
            "generate",
            (Cases("generate_endpoint_test.py"),),
            (Model("server/qa/python_models/generate_models/*"),),
            ("--log-verbose=1",),
        ),
        Group(
            "restricted_twice",
            (
                Refused(
                    "restricted_twice",
                    ("api 'health' can not be specified in multiple config groups",),
                ),
            ),
            flags=(
                "--http-restricted-api=model-repository,health:k1=v1",
                "--http-restricted-api=metadata,health:k2=v2",
            ),
        ),
        Group(
            "restricted_unknown",
            (Refused("restricted_unknown", ("unknown restricted api 'model-reposit'",)),),
            flags=(
                "--http-restricted-api=model-reposit,health:k1=v1",
                "--http-restricted-api=metadata,health:k2=v2",
            ),
        ),
        Group(
            "restricted",
            (Cases("http_restricted_api_test.py", ("RestrictedAPITest",)),),
            (docs("simple"),),
            (
                "--http-restricted-api=model-repository:admin-key=admin-value",
                "--http-restricted-api=inference,metadata:infer-key=infer-value",
            ),
        ),
        Group(
            "limit_default",
            (
                Cases(
                    "http_input_size_limit_test.py",
                    (
                        "test_default_limit_raw_binary",
                        "test_default_limit_json",
                        "test_large_string_in_json",
                        "test_default_limit_compressed",
                        "test_json_dtype_size_expansion_exceeds_limit_error",
                        "test_no_leak_on_invalid_inference_header_length",
                    ),
                ),
            ),
            LIMITED,
        ),
        Group(
            "limit_128M",
            (
                Cases(
                    "http_input_size_limit_test.py",
                    (
                        "test_large_input_raw_binary",
                        "test_large_input_json",
                        "test_large_input_compressed",
                    ),
                ),
            ),
            LIMITED,
            (f"--http-max-input-size={2**27}",),
        ),
        Group("limit_0", (Refused("limit_0", (NO_LIMIT,)),), flags=("--http-max-input-size=0",)),
        Group(
            "limit_negative",
            (Refused("limit_negative", (NO_LIMIT,)),),
            flags=("--http-max-input-size=-1024",),
        ),
        Group(
            "many_chunks",
            (Cases("http_request_many_chunks.py", seconds=900),),
            (docs("simple"),),
            (SHM, "--log-verbose=1", EXPLICIT, "--load-model=simple"),
        ),
    ),
)
