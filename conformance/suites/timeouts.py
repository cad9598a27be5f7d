"""Clients that wait no longer, and requests that are cancelled."""

from conformance.models import Model, identity, parameters
from conformance.reasons import Reason
from conformance.suite import Cases, Group, Logged, Skipped, Suite

LOAD = ("--model-control-mode=explicit", "--load-model=custom_identity_int32")
CLIENT_TIMEOUT = Suite(
    "L0_client_timeout",
    3,
    (
        Group(
            "infer",
            (
                Cases("client_infer_timeout_test.py", ("ClientInferTimeoutTest",)),
                Skipped(Reason.CPP, ("client_timeout_test",)),
            ),
            flags=("--log-verbose=2",),
        ),
        Group(
            "other",
            (
                Cases(
                    "client_non_infer_timeout_test.py",
                    skips={"*_register_cuda_shared_memory": Reason.CUDA},
                ),
            ),
            flags=(*LOAD, "--allow-client-shm=true", "--log-verbose=2"),
            env={"TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC": "2"},
        ),
    ),
)

CANCELLED = "Cancellation notification received for "
SLOW = identity("custom_identity_int32", "INT32", 1024, parameters(execute_delay_ms=10000))
# With the hooks that make Triton's own threads wait.
HOOKED = {
    "test_grpc_async_infer": {},
    "test_grpc_stream_infer": {},
    "test_aio_grpc_async_infer": {},
    "test_aio_grpc_stream_infer": {},
    "test_grpc_async_infer_cancellation_at_step_start": {"GRPC_PROCESS": 5000},
    "test_grpc_async_infer_response_complete_during_cancellation": {
        "GRPC_NOTIFICATION": 5000,
        "GRPC_ENQUEUE": 5000,
    },
    "test_grpc_async_infer_cancellation_before_finish_0": {
        "GRPC_NOTIFICATION": 5000,
        "RESPONSE_COMPLETION": 5000,
    },
    "test_grpc_async_infer_cancellation_before_finish_1": {
        "GRPC_PROCESS_ENTRY": 1000,
        "RESPONSE_COMPLETION": 5000,
    },
    "test_grpc_async_infer_cancellation_before_response_complete"
    "_and_process_after_final_response": {
        "GRPC_NOTIFICATION": 5000,
        "RESPONSE_COMPLETE_EXEC": 5000,
    },
}
SIX = parameters(execute_delay_ms=6000)


def _sequence(name: str, strategy: str) -> Model:
    line = f"sequence_batching {{ {strategy} max_sequence_idle_microseconds: 6000000 }}"
    return identity(name, "FP32", 1, line, SIX)


def _step(source: str, target: str) -> str:
    return (
        'step { model_name: "dynamic_batch" model_version: -1'
        f' input_map {{ key: "INPUT0" value: "{source}" }}'
        f' output_map {{ key: "OUTPUT0" value: "{target}" }} }}'
    )


SCHEDULED = (
    identity(
        "dynamic_batch", "FP32", 2, "dynamic_batching { max_queue_delay_microseconds: 600000 }", SIX
    ),
    _sequence("sequence_direct", "direct { }"),
    _sequence("sequence_oldest", "oldest { max_candidate_sequences: 1 }"),
    Model(
        name="ensemble_model",
        config="\n".join(
            [
                'platform: "ensemble"',
                "max_batch_size: 1",
                'input [{ name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]',
                'output [{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }]',
                f"ensemble_scheduling {{ {_step('INPUT0', 'out')} {_step('out', 'OUTPUT0')} }}",
            ]
        ),
    ),
)

REQUEST_CANCELLATION = Suite(
    "L0_request_cancellation",
    3,
    (
        *(
            Group(
                name,
                (
                    Cases("grpc_cancellation_test.py", (name,)),
                    Logged(f"{name} is in the log", CANCELLED, 1),
                ),
                (SLOW,),
                ("--log-verbose=2",),
                {f"TRITONSERVER_DELAY_{key}": str(value) for key, value in hooks.items()},
                log=f"grpc_cancellation_test.{name}.server.log",
            )
            for name, hooks in HOOKED.items()
        ),
        Group("scheduler", (Cases("scheduler_test.py"),), SCHEDULED, ("--log-verbose=2",)),
        Group(
            "skipped",
            (
                Skipped(Reason.LIBTORCH, ("implicit_state_test",)),
                Skipped(Reason.CPP, ("request_cancellation_test", "GrpcCancellationTest (10)")),
            ),
        ),
    ),
)
