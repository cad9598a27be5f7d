"""L0_grpc: the asyncio client, raw protobuf, restricted protocols."""

from conformance.models import Edit, docs, python
from conformance.reasons import Reason
from conformance.suite import Cases, Group, Refused, Skipped, Suite
from conformance.suites.clients import GRPC_MODELS

GRPC = Suite(
    "L0_grpc",
    3,
    (
        Group(
            "plugin",
            (
                Cases("grpc_client_plugin_test.py"),
                Skipped(
                    Reason.CONTAINER,
                    (
                        "GRPCBasicAuthTest.test_client_call",
                        "GRPCBasicAuthAsyncTest.test_client_call",
                        "grpc_health_probe offline",
                        "grpc_health_probe online",
                    ),
                ),
                Skipped(
                    Reason.CPP,
                    ("cc_client_test", "LoadWithFileOverride", "LoadWithConfigOverride"),
                ),
            ),
            flags=("--http-header-forward-pattern=.*", "--grpc-header-forward-pattern=.*"),
            repositories=("client_plugin_models",),
        ),
        Group(
            "aio",
            (Cases("python_grpc_aio_test.py", skips={"*register_cuda*": Reason.CUDA}),),
            GRPC_MODELS,
            ("--allow-client-shm=true",),
        ),
        Group(
            "raw",
            (Cases("python_unit_test.py", ("GrpcTest",)),),
            (
                docs("simple"),
                python("string_identity", edits=(Edit(r"dims: \[ 1 \]", "dims: [ -1 ]"),)),
            ),
        ),
        Group(
            "restricted_twice",
            (
                Refused(
                    "restricted_twice",
                    ("protocol 'health' can not be specified in multiple config groups",),
                ),
            ),
            flags=(
                "--grpc-restricted-protocol=model-repository,health:k1=v1",
                "--grpc-restricted-protocol=metadata,health:k2=v2",
            ),
        ),
        Group(
            "restricted_unknown",
            (Refused("restricted_unknown", ("unknown restricted protocol 'model-reposit'",)),),
            flags=(
                "--grpc-restricted-protocol=model-reposit,health:k1=v1",
                "--grpc-restricted-protocol=metadata,health:k2=v2",
            ),
        ),
        Group(
            "restricted",
            (Cases("python_unit_test.py", ("RestrictedProtocolTest",)),),
            (docs("simple"),),
            (
                "--grpc-restricted-protocol=model-repository:admin-key=admin-value",
                "--grpc-restricted-protocol=inference,health:infer-key=infer-value",
            ),
        ),
    ),
)
