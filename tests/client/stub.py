"""A server of the images API that answers as a test says, misbehaviour included."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import select
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


@dataclass
class Answer:
    """What one request gets.

    events: a stream instead of a body; it stays open where `endless`. hang_up: at the end of
    what is written, with no good end. silent: nothing is answered until the client leaves.
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] | None = None
    endless: bool = False
    hang_up: bool = False
    silent: bool = False


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Stub:
    """`answers` are given in order; without one a picture is. `left`: a client has hung up."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[Answer] = []
        self.asked: list[Asked] = []
        self.left = threading.Event()

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        return self.answers.pop(0) if self.answers else json_answer(painted(asked.body or {}))


def json_answer(document: Any, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(json.dumps(document).encode(), status, named)


def refusal(status: int, message: str = "no", **headers: str) -> Answer:
    error = {"message": message, "type": "invalid_request_error", "param": "steps", "code": "bad"}
    return json_answer({"error": error}, status, **headers)


def png(width: int = 16, height: int = 16) -> str:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def painted(body: dict[str, Any]) -> dict[str, Any]:
    """An ImagesResponse as the server gives it."""
    width, height = map(int, body.get("size", "16x16").split("x"))
    seed = body.get("seed", 99)
    data = [{"b64_json": png(width, height), "seed": seed + k} for k in range(body.get("n", 1))]
    return {"created": 1, "data": data, "model": "brush", "steps": body.get("steps", 20)}


def streamed(kind: str = "image_generation", previews: int = 2) -> list[tuple[str, dict[str, Any]]]:
    """A stream with progress, previews and a picture."""
    events: list[tuple[str, dict[str, Any]]] = []
    for step in range(1, previews + 1):
        progress = {"step": step, "steps": previews, "queue_position": 0, "eta_seconds": 0.5}
        events.append((f"{kind}.progress", progress))
        preview = {"b64_json": png(4, 4), "partial_image_index": step - 1}
        events.append((f"{kind}.partial_image", preview))
    events.append((f"{kind}.completed", {"b64_json": png(), "seed": 7, "model": "brush"}))
    return [(name, {"type": name, **data}) for name, data in events]


@contextlib.contextmanager
def serving(stub: Stub | None = None) -> Iterator[Stub]:
    stub = stub or Stub()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub)) as server:
        stub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield stub
        server.shutdown()
        thread.join()


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply()

        do_POST = do_DELETE = do_GET

        def reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            answer = stub.answer(asked)
            if answer.silent:
                self.wait_until_left()
            elif answer.events is not None:
                self.stream(answer)
            else:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) + answer.hang_up))
                self.end_headers()
                self.wfile.write(answer.body)
            self.close_connection = self.close_connection or answer.hang_up

        def stream(self, answer: Answer) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            if answer.hang_up:
                self.send_header("Content-Length", "1000000")
            self.end_headers()
            for name, data in answer.events or []:
                self.wfile.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
            self.wfile.flush()
            if answer.endless:
                self.wait_until_left()

        def wait_until_left(self) -> None:
            """A client that leaves makes its connection readable, with nothing to read."""
            select.select([self.connection], [], [], 20)
            stub.left.set()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler
