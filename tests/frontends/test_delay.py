"""Late gRPC answers, as an environment variable asks for them."""

from pathlib import Path

import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from nerite.frontends.delay import delays


def test_none_unless_asked_for() -> None:
    variable = "TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC"
    assert not delays({})
    assert not delays({variable: "0"})
    assert len(delays({variable: "0.5"})) == 1
    with pytest.raises(ValueError):
        delays({variable: "soon"})


def test_a_client_that_does_not_wait(
    start_server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITONSERVER_SERVER_DELAY_GRPC_RESPONSE_SEC", "1")
    server = start_server("--model-repository", str(tmp_path))
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
            client.is_server_live(client_timeout=0.2)
        assert client.is_server_live(client_timeout=30)
