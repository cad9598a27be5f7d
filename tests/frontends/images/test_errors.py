"""What no client should send: each gets its error, and the server goes on as before."""

import base64
import io
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from ...conftest import ServerProcess, run_server
from .conftest import PROMPT, file_of, half_mask, options


@pytest.fixture
def web(painter_server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{painter_server.url}/v1", timeout=60) as made:
        yield made


def error_of(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of an answer, whose form is checked."""
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert answer.headers["x-request-id"]
    assert answer.headers["x-should-retry"] == "false"
    return error


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (b"", None, "not JSON"),
        (b"{", None, "not JSON"),
        (b"[1]", None, "JSON object"),
        (b'"tree"', None, "JSON object"),
        (b'{"prompt": "\xff"}', None, "not JSON"),
        (b'{"prompt": "\\ud800"}', None, "not JSON"),
        ({}, "prompt", "Missing required parameter"),
        ({"prompt": ""}, "prompt", "empty"),
        ({"prompt": None}, "prompt", "string"),
        ({"prompt": ["a tree"]}, "prompt", "string"),
        ({"prompt": "a" * (1 << 20)}, "prompt", "1048576 characters: at most 32000"),
        ({"prompt": "a", "negative_prompt": "a" * 40_000}, "negative_prompt", "40000"),
        ({"prompt": "a", "n": 0}, "n", "0"),
        ({"prompt": "a", "n": 11}, "n", "10"),
        ({"prompt": "a", "n": "2"}, "n", "integer"),
        ({"prompt": "a", "n": 1.5}, "n", "integer"),
        ({"prompt": "a", "n": True}, "n", "integer"),
        ({"prompt": "a", "size": "large"}, "size", "WIDTHxHEIGHT"),
        ({"prompt": "a", "size": "0x0"}, "size", "WIDTHxHEIGHT"),
        ({"prompt": "a", "size": "-8x8"}, "size", "WIDTHxHEIGHT"),
        ({"prompt": "a", "size": "99999x99999"}, "size", "try 256x256"),
        ({"prompt": "a", "size": "130x130"}, "size", "try 128x128"),
        ({"prompt": "a", "size": "1" * 5000 + "x8"}, "size", "..."),
        ({"prompt": "a", "quality": "best"}, "quality", "'hd'"),
        ({"prompt": "a", "response_format": "b64"}, "response_format", "b64_json"),
        ({"prompt": "a", "output_format": "gif"}, "output_format", "webp"),
        ({"prompt": "a", "output_compression": 101}, "output_compression", "100"),
        ({"prompt": "a", "output_compression": 50}, "output_compression", "lossless"),
        ({"prompt": "a", "background": "transparent"}, "background", "opaque"),
        ({"prompt": "a", "stream": "yes"}, "stream", "boolean"),
        ({"prompt": "a", "stream": True, "partial_images": 4}, "partial_images", "3"),
        ({"prompt": "a", "previews": 51}, "previews", "50"),
        ({"prompt": "a", "steps": 0}, "steps", "1"),
        ({"prompt": "a", "steps": 10**9}, "steps", "1000"),
        ({"prompt": "a", "num_inference_steps": 0}, "steps", "1"),
        ({"prompt": "a", "seed": 1 << 63}, "seed", "9223372036854775808"),
        ({"prompt": "a", "guidance_scale": -1}, "guidance_scale", "0"),
        ({"prompt": "a", "guidance_scale": 1e9}, "guidance_scale", "100"),
        ({"prompt": "a", "scheduler": "../../etc"}, "scheduler", "unknown scheduler"),
        ({"prompt": "a", "model": "../painter"}, "model", "does not exist"),
        ({"prompt": "a", "lora": "x"}, "lora", "Unknown parameter"),
        ({"prompt": "a", "image": "x"}, "image", "Unknown parameter"),
        ({"prompt": "a", "<script>": 1}, "<script>", "Unknown parameter"),
    ],
)
def test_generations(web: httpx.Client, body: Any, param: str | None, says: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = web.post("/images/generations", content=data)
    error = error_of(answer, 404 if param == "model" else 400)
    assert error["param"] == param
    assert says in error["message"]
    assert len(error["message"]) < 1000


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


GIF = io.BytesIO()
Image.new("RGB", (8, 8)).save(GIF, "gif")


@pytest.mark.parametrize(
    ("files", "param", "says"),
    [
        ({}, "image", "Missing required parameter"),
        ({"image": b""}, "image", "empty file"),
        ({"image": b"<svg xmlns='http://www.w3.org/2000/svg'/>"}, "image", "PNG, JPEG or WebP"),
        ({"image": GIF.getvalue()}, "image", "PNG, JPEG or WebP"),
        ({"image": file_of()[:200]}, "image", "broken PNG"),
        ({"image": file_of(kind="webp")[:60]}, "image", "WebP"),
        ({"image": bomb(60_000, 60_000)}, "image", "too many pixels"),
        ({"image": bomb(2_000_000_000, 2_000_000_000)}, "image", "too many pixels"),
        ({"image": bomb(4097, 4097)}, "image", "too many pixels"),
        ({"image": ("a.png", file_of(kind="jpeg"), "image/png")}, "image", "is a JPEG file"),
        ({"image": ("a.html", file_of(), "text/html")}, "image", "is called text/html"),
        ({"image": file_of(), "mask": half_mask((64, 64))}, "mask", "64x64 pixels"),
        ({"image": file_of(), "mask": b"no"}, "mask", "PNG, JPEG or WebP"),
        ({"image": file_of(), "mask": file_of(Image.new("L", (128, 128)))}, "mask", "leaves"),
        ({"image": file_of(), "other": b"x"}, "other", "must not be a file"),
    ],
)
def test_files(web: httpx.Client, files: Any, param: str, says: str) -> None:
    fields = {"prompt": "a tree", "steps": "1"}
    sent = files or {"user": (None, "nobody")}
    answer = web.post("/images/edits", data=fields, files=sent)
    error = error_of(answer)
    assert (error["param"], says in error["message"]) == (param, True), error


def test_names_of_files_are_nothing_but_names(web: httpx.Client) -> None:
    sent = {"image": ("../../../etc/cron.d/evil.png", file_of(), "image/png")}
    answer = web.post("/images/edits", data={"prompt": "a tree", "steps": "2"}, files=sent)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("content_type", "body", "says"),
    [
        ("multipart/form-data", b"--x", "boundary"),
        ("multipart/form-data; boundary=x", b"no boundary at all", ""),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: nonsense\r\n\r\n1\r\n",
            "",
        ),
        ("multipart/form-data; boundary=x", b"--x\r\n\xff\xfe: \x00\r\n\r\n", ""),
        ("text/plain", b"prompt=a", "content-type is 'text/plain'"),
        ("", b"prompt=a", "content-type is missing"),
        ("application/json", b"{", "not JSON"),
    ],
)
def test_broken_forms(web: httpx.Client, content_type: str, body: bytes, says: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    error = error_of(web.post("/images/edits", content=body, headers=headers))
    assert says in error["message"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.org/a.png", "fetches nothing"),
        ("http://169.254.169.254/", "fetches nothing"),
        ("file:///etc/passwd", "fetches nothing"),
        ("data:image/png,abc", "without base64"),
        ("data:image/png;base64,@@@@", "base64"),
        ("data:image/png;base64," + base64.b64encode(b"hello").decode(), "PNG, JPEG or WebP"),
    ],
)
def test_urls_of_pictures(web: httpx.Client, url: str, says: str) -> None:
    body = {"prompt": "a tree", "images": [{"image_url": url}]}
    error = error_of(web.post("/images/edits", json=body))
    assert error["param"] == "images"
    assert says in error["message"]


def test_lists_of_pictures(web: httpx.Client) -> None:
    def refused(**body: Any) -> dict[str, Any]:
        return error_of(web.post("/images/edits", json={"prompt": "a tree", **body}))

    source = {"image_url": "data:image/png;base64," + base64.b64encode(file_of()).decode()}
    assert refused()["param"] == "images"
    assert refused(images=[])["param"] == "images"
    assert refused(images=[{}])["param"] == "images"
    assert refused(images=[{"file_id": "file-1"}])["param"] == "images"
    assert refused(images=[source] * 17)["param"] == "images"
    assert refused(images="x")["param"] == "images"


def test_no_such_place(web: httpx.Client) -> None:
    assert "Invalid URL" in error_of(web.get("/chat/completions"), 404)["message"]
    assert error_of(web.get("/images/generations"), 405)["type"] == "invalid_request_error"


def test_a_request_has_an_id(web: httpx.Client) -> None:
    first, second = (web.get("/models").headers["x-request-id"] for _ in range(2))
    assert first != second
    own = web.get("/models", headers={"x-request-id": "my-own.1"})
    assert own.headers["x-request-id"] == "my-own.1"
    odd = web.get("/models", headers={"x-request-id": "no good"})
    assert odd.headers["x-request-id"] != "no good"


def test_the_client_that_leaves_before_its_picture(
    painter_server: ServerProcess, client: openai.OpenAI
) -> None:
    body = json.dumps({"prompt": PROMPT, "steps": 1000, "n": 10}).encode()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", painter_server.http_port)) as leaving:
            leaving.sendall(head.encode() + body)
    assert client.images.generate(prompt=PROMPT, extra_body={"steps": 1}).data


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that asks for a key, and takes little at a time."""
    folder = tmp_path_factory.mktemp("closed")
    (folder / "keys").write_text("sesame\n")
    with run_server(
        folder / "log", f"--api-key-file={folder / 'keys'}", "--http-max-input-size=100000"
    ) as server:
        yield server


def test_keys(closed: ServerProcess) -> None:
    with openai.OpenAI(**options(closed)) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"
        assert caught.value.request_id
        with pytest.raises(openai.AuthenticationError) as again:
            client.models.list()
        assert again.value.request_id != caught.value.request_id
    with openai.OpenAI(**{**options(closed), "api_key": "sesame"}) as client:
        assert [one.id for one in client.models.list()] == ["painter"]
        answer = client.images.generate(
            prompt=PROMPT, response_format="url", extra_body={"steps": 1}
        )
        assert answer.data is not None and answer.data[0].url is not None
    assert answer.data[0].url.startswith(f"{closed.url}/v1/images/files/")
    assert httpx.get(answer.data[0].url).status_code == 200  # its name is a secret of its own
    for path in ("/", "/docs", "/openapi.json"):
        assert httpx.get(closed.url + path).status_code == 200
    assert httpx.get(f"{closed.url}/metrics").status_code == 401


def test_bodies_that_are_too_large(closed: ServerProcess) -> None:
    headers = {"x-api-key": "sesame"}
    url = f"{closed.url}/v1/images/generations"
    said = error_of(httpx.post(url, content=b" " * 200_000, headers=headers), 413)
    assert "--http-max-input-size" in said["message"]

    def pieces() -> Iterator[bytes]:
        for _ in range(8):
            yield b" " * 20_000

    chunked = httpx.post(url, content=pieces(), headers=headers)
    assert error_of(chunked, 413)["code"] == "request_too_large"


def test_pages_of_others(closed: ServerProcess) -> None:
    headers = {"x-api-key": "sesame", "origin": "https://evil.example"}
    url = f"{closed.url}/v1/images/generations"
    answer = httpx.post(url, json={"prompt": "a tree"}, headers=headers)
    assert error_of(answer, 403)["type"] == "permission_error"
    assert "access-control-allow-origin" not in answer.headers
    foreign = httpx.get(f"{closed.url}/v1/models", headers={"host": "evil.example"})
    assert foreign.status_code == 421


def test_restricted(tmp_path: Path) -> None:
    flag = "--http-restricted-api=inference:admin-key=sesame"
    with run_server(tmp_path / "log", flag) as server:
        body = {"prompt": "a tree", "steps": 1}
        refused = httpx.post(f"{server.url}/v1/images/generations", json=body)
        assert "admin-key" in error_of(refused, 403)["message"]
        let_in = httpx.post(
            f"{server.url}/v1/images/generations",
            json=body,
            headers={"admin-key": "sesame"},
            timeout=60,
        )
        assert let_in.status_code == 200
        assert httpx.get(f"{server.url}/v1/models").status_code == 200
