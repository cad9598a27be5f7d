"""gRPC clients measure a connection with pings while they get data, and may."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tritonclient.grpc import service_pb2

from .conftest import IDENTITY_CODE, Serve, add_model, identity

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ASKED = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/inference.GRPCInferenceService/ModelInfer",
    ":authority": "localhost",
    "te": "trailers",
    "content-type": "application/grpc",
}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def frames(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and payload of each that comes."""
    while head := file.read(9):
        size = int.from_bytes(head[:3], "big")
        payload = file.read(size) if size else b""
        yield head[3], head[4], payload


def question(values: np.ndarray) -> bytes:
    request = service_pb2.ModelInferRequest(model_name="echo")
    request.inputs.add(name="INPUT0", datatype="FP32", shape=values.shape)
    request.raw_input_contents.append(values.tobytes())
    message = request.SerializeToString()
    return b"\0" + struct.pack(">I", len(message)) + message


def test_pings_while_an_answer_comes(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "echo", identity("FP32"), IDENTITY_CODE)
    serving = serve(f"--model-repository={tmp_path}")
    host, port = serving.grpc.split(":")
    body = question(np.ones(1_000_000, np.float32))
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in ASKED.items()
    )
    with (
        socket.create_connection((host, int(port)), timeout=20) as connection,
        connection.makefile("rb") as file,
    ):
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
        connection.sendall(frame(HEADERS, END_HEADERS, 1, block))
        for start in range(0, len(body), 16_000):
            connection.sendall(frame(DATA, 0, 1, body[start : start + 16_000]))
        connection.sendall(frame(DATA, END_STREAM, 1, b""))
        received = sent = answered = 0
        for kind, flags, payload in frames(file):
            assert kind != GOAWAY, payload[8:]
            if kind == DATA:
                received += len(payload)
                if sent == answered:  # a client has one on its way, and asks again with new data
                    connection.sendall(frame(PING, 0, 0, bytes(8)))
                    sent += 1
                more = struct.pack(">I", len(payload))
                connection.sendall(frame(WINDOW_UPDATE, 0, 0, more))
                connection.sendall(frame(WINDOW_UPDATE, 0, 1, more))
            answered += kind == PING and flags == ACK
            if kind == HEADERS and flags & END_STREAM:
                break
        assert received > 4_000_000
        assert answered > 10
        # Without data it is as it was: the third of these is one too many.
        connection.sendall(4 * frame(PING, 0, 0, bytes(8)))
        assert any(kind == GOAWAY and b"too_many_pings" in payload
                   for kind, _, payload in frames(file))  # fmt: skip
