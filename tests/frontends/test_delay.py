"""Late gRPC answers, as an environment variable asks for them."""

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from nerite.frontends.delay import delay

from ..server.conftest import ADD_SUB, ADD_SUB_CODE, Serving, add_model


def test_none_unless_asked_for() -> None:
    variable = "TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC"
    assert delay({}) is None
    assert delay({variable: "0"}) is None
    assert delay({variable: "0.5"}) is not None
    assert delay({"TRITONSERVER_DELAY_GRPC_PROCESS": "5"}) is not None
    with pytest.raises(ValueError):
        delay({variable: "soon"})


def test_a_client_that_does_not_wait(
    start_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC", "1")
    server = start_server("--model-repository", str(tmp_path))
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
            client.is_server_live(client_timeout=0.2)
        assert client.is_server_live(client_timeout=30)


def test_a_client_that_cancels_a_late_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONSERVER_DELAY_RESPONSE_COMPLETION", "60000")
    add_model(tmp_path, "add", ADD_SUB, ADD_SUB_CODE)
    tensors = [tritonclient.grpc.InferInput(f"INPUT{number}", [4], "FP32") for number in (0, 1)]
    for one in tensors:
        one.set_data_from_numpy(np.ones(4, np.float32))
    with (
        Serving(f"--model-repository={tmp_path}", "--log-verbose=1") as server,
        tritonclient.grpc.InferenceServerClient(server.grpc) as client,
    ):
        asked = client.async_infer("add", tensors, callback=lambda result, error: None)
        server.wait_for("model 'add' version 1: ")
        asked.cancel()
        server.wait_for("Cancellation notification received for a late answer")
