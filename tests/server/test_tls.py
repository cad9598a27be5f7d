"""TLS on both doors, with certificates made for the test, and the flags of the gRPC port."""

import contextlib
import http.client
import shutil
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from .conftest import ADD_SUB, ADD_SUB_CODE, IDENTITY_CODE, Serve, add_model, identity


@dataclass(frozen=True)
class Authority:
    """A folder of keys and certificates: of itself, of the server and of a client."""

    folder: Path

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    new = ("req", "-newkey", "rsa:2048", "-nodes")
    openssl(folder, *new, "-x509", "-days", "2", "-subj", "/CN=authority",
            "-keyout", "ca.key", "-out", "ca.crt")  # fmt: skip
    for name in ("server", "client"):
        (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        openssl(folder, *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "request")
        sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl(folder, "x509", "-req", "-in", "request", *sign, "-out", f"{name}.crt")
    return Authority(folder)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_model(tmp_path / "models", "add_sub", ADD_SUB, ADD_SUB_CODE)
    return tmp_path / "models"


def infer(door: Any, client: Any, **more: Any) -> None:
    inputs = [door.InferInput(f"INPUT{index}", [4], "FP32") for index in (0, 1)]
    for one in inputs:
        one.set_data_from_numpy(np.ones(4, np.float32))
    result = client.infer("add_sub", inputs, **more)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), [2, 2, 2, 2])


def test_https(serve: Serve, repository: Path, authority: Authority) -> None:
    serving = serve(
        f"--model-repository={repository}",
        f"--https-cert={authority['server.crt']}",
        f"--https-key={authority['server.key']}",
        "--http-max-connections=9",
    )
    with tritonclient.http.InferenceServerClient(
        serving.http, ssl=True, ssl_options={"ca_certs": authority["ca.crt"]}
    ) as client:
        assert client.is_server_ready()
        infer(tritonclient.http, client)
    context = ssl.create_default_context(cafile=authority["ca.crt"])
    for address in (serving.http, serving.metrics):
        connection = http.client.HTTPSConnection(address, context=context, timeout=10)
        body = b"x" * 3_000_000  # many records
        connection.request("POST", "/v2/repository/index", body)
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (405, 500)
        connection.request("GET", "/metrics")
        assert b"nv_inference_count" in connection.getresponse().read()
        connection.close()
    plain = http.client.HTTPConnection(serving.http, timeout=10)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        plain.request("GET", "/v2")
        plain.getresponse()
    plain.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        http.client.HTTPSConnection(serving.http, timeout=10).request("GET", "/v2")
    assert serving.stop() == 0


def test_grpc(serve: Serve, repository: Path, authority: Authority) -> None:
    serving = serve(
        f"--model-repository={repository}",
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={authority['server.crt']}",
        f"--grpc-server-key={authority['server.key']}",
        "--grpc-infer-response-compression-level=high",
        "--grpc-keepalive-time=1000",
        "--grpc-keepalive-timeout=500",
        "--grpc-max-connection-age=60000",
    )
    with tritonclient.grpc.InferenceServerClient(
        serving.grpc, ssl=True, root_certificates=authority["ca.crt"]
    ) as client:
        infer(tritonclient.grpc, client)
        infer(tritonclient.grpc, client, compression_algorithm="gzip")
    with (
        tritonclient.grpc.InferenceServerClient(serving.grpc) as client,
        pytest.raises(InferenceServerException),
    ):
        client.is_server_live()


def test_grpc_mutual(serve: Serve, repository: Path, authority: Authority) -> None:
    serving = serve(
        f"--model-repository={repository}",
        "--grpc-use-ssl-mutual=1",
        f"--grpc-server-cert={authority['server.crt']}",
        f"--grpc-server-key={authority['server.key']}",
        f"--grpc-root-cert={authority['ca.crt']}",
    )
    with tritonclient.grpc.InferenceServerClient(
        serving.grpc,
        ssl=True,
        root_certificates=authority["ca.crt"],
        private_key=authority["client.key"],
        certificate_chain=authority["client.crt"],
    ) as client:
        infer(tritonclient.grpc, client)
    with (
        tritonclient.grpc.InferenceServerClient(
            serving.grpc, ssl=True, root_certificates=authority["ca.crt"]
        ) as client,
        pytest.raises(InferenceServerException),
    ):
        client.is_server_live()


def test_files_that_cannot_be_used(serve: Serve, tmp_path: Path, authority: Authority) -> None:
    none = tmp_path / "none.pem"
    cert, key = f"--https-cert={authority['server.crt']}", f"--https-key={authority['client.key']}"
    for flags, expected in (
        ((cert, key), "for HTTPS: "),
        ((f"--https-cert={none}", key), "No such file or directory"),
        (
            ("--grpc-use-ssl", f"--grpc-server-cert={none}", f"--grpc-server-key={none}"),
            f"cannot use {none} and {none} for gRPC: ",
        ),
    ):
        serving = serve(*flags)
        assert serving.wait() == 1
        assert serving.lines[-1].startswith("error: ")
        assert expected in serving.lines[-1]


class Relay:
    """Stands between a client and a server, and counts what the server says."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.count = 0
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for pair in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.count += len(data) if counted else 0
                target.sendall(data)
        target.close()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize(("level", "smaller"), [("none", False), ("low", True), ("high", True)])
def test_grpc_compression(serve: Serve, tmp_path: Path, level: str, smaller: bool) -> None:
    add_model(tmp_path, "identity", identity("FP32"), IDENTITY_CODE)
    flag = f"--grpc-infer-response-compression-level={level}"
    relay = Relay(serve(f"--model-repository={tmp_path}", flag).grpc)
    entry = tritonclient.grpc.InferInput("INPUT0", [100_000], "FP32")
    entry.set_data_from_numpy(np.zeros(100_000, np.float32))
    with tritonclient.grpc.InferenceServerClient(relay.address) as client:
        result = client.infer("identity", [entry])
    assert not result.as_numpy("OUTPUT0").any()
    assert (relay.count < 50_000) is smaller
    relay.close()


def test_ports_may_be_shared(serve: Serve, repository: Path) -> None:
    first = serve(f"--model-repository={repository}", "--reuse-http-port=1", "--reuse-grpc-port=1")
    ports = [address.split(":")[1] for address in (first.http, first.grpc)]
    second = serve(
        f"--model-repository={repository}",
        "--reuse-http-port=1",
        "--reuse-grpc-port=1",
        f"--http-port={ports[0]}",
        f"--grpc-port={ports[1]}",
    )
    assert (second.http, second.grpc) == (first.http, first.grpc)
