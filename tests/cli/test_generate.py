"""`nerite generate` against servers that misbehave in ways a real one does not."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nerite.cli import main

INPUTS = ["prompt", "negative_prompt", "seed", "steps", "width", "height", "num_images"]


@dataclass
class Stub:
    """A server with one answer; `asked` is what it was sent."""

    url: str = ""
    status: int = 200
    body: bytes | None = None  # instead of a picture
    hang_up: bool = False
    shape: list[int] = field(default_factory=lambda: [1])
    asked: list[Any] = field(default_factory=list)

    def picture(self, request: dict[str, Any]) -> tuple[bytes, int]:
        given = {tensor["name"]: tensor["data"][0] for tensor in request["inputs"]}
        height, width = given.get("height", 16), given.get("width", 16)
        count = [given["num_images"]] if "num_images" in given else []
        shape = [*count, height, width, 3]
        pixels = np.arange(np.prod(shape)).astype(np.uint8).tobytes()
        image = {"name": "generated_image", "datatype": "UINT8", "shape": shape}
        image["parameters"] = {"binary_data_size": len(pixels)}
        seed = {"name": "seed", "datatype": "INT64", "shape": [1], "data": [given.get("seed", 99)]}
        header = json.dumps({"model_name": "painter", "outputs": [image, seed]}).encode()
        return header + pixels, len(header)


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            inputs = [{"name": name, "shape": stub.shape, "datatype": "?"} for name in INPUTS]
            outputs = [{"name": "generated_image"}]
            self.reply(200, json.dumps({"inputs": inputs, "outputs": outputs}).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v2/repository/index":
                self.reply(200, b'[{"name": "brush", "version": "1", "state": "READY"}]')
                return
            stub.asked.append((self.path, json.loads(body)))
            if stub.hang_up:
                self.close_connection = True
            elif stub.body is not None:
                self.reply(stub.status, stub.body)
            else:
                self.reply(200, *stub.picture(json.loads(body)))

        def reply(self, status: int, body: bytes, header_length: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if header_length is not None:
                self.send_header("Inference-Header-Content-Length", str(header_length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub)) as server:
        stub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield stub
        server.shutdown()
        thread.join()


def generate(stub: Stub, *arguments: str) -> int:
    return main(["generate", "a red house", "--url", stub.url, *arguments])


def test_a_picture_carries_its_origin(stub: Stub, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "house.png"
    assert generate(stub, "-o", str(file), "--seed", "5", "--size", "32x24", "--steps", "3") == 0
    with Image.open(file) as image:
        assert image.size == (32, 24)
        assert image.info["prompt"] == "a red house"
        assert image.info["seed"] == "5"
        settings = {"height": 24, "model": "brush", "steps": 3, "width": 32}
        assert json.loads(image.info["settings"]) == settings
        assert image.info["Software"].startswith("nerite ")
    assert f"{file}  seed 5  " in capsys.readouterr().out


def test_a_prompt_in_another_script_is_kept(stub: Stub, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    assert main(["generate", "雪夜里的红房子", "--url", stub.url, "-o", str(file)]) == 0
    with Image.open(file) as image:
        assert image.info["prompt"] == "雪夜里的红房子"


def test_several_pictures_are_numbered(stub: Stub, tmp_path: Path) -> None:
    assert generate(stub, "-o", str(tmp_path / "house.png"), "--n", "2") == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["house-1.png", "house-2.png"]


def test_the_file_is_named_after_the_prompt(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate(stub) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["a-red-house.png"]


def test_only_what_was_said_is_sent(stub: Stub, tmp_path: Path) -> None:
    assert generate(stub, "-o", str(tmp_path / "a.png")) == 0
    path, request = stub.asked[0]
    assert path == "/v2/models/brush/infer"
    assert [tensor["name"] for tensor in request["inputs"]] == ["prompt"]


def test_a_model_with_batches_gets_one_more_dimension(stub: Stub, tmp_path: Path) -> None:
    stub.shape = [-1, 1]
    assert generate(stub, "-o", str(tmp_path / "a.png")) == 0
    assert stub.asked[0][1]["inputs"][0]["shape"] == [1, 1]


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ({"hang_up": True}, "closed the connection before it answered."),
        ({"body": b'{"error": "[request id: 1] steps is 0"}', "status": 400}, ": steps is 0\n"),
        ({"body": b"<html>hello</html>"}, "is no model server."),
        ({"body": b"[]", "status": 502}, "the server answered with status 502."),
        ({"body": b'{"outputs": []}'}, "without the output 'generated_image'"),
    ],
)
def test_the_servers_troubles_are_one_sentence(
    stub: Stub, tmp_path: Path, capsys: Any, trouble: dict[str, Any], sentence: str
) -> None:
    vars(stub).update(trouble)
    assert generate(stub, "-o", str(tmp_path / "a.png")) == 1
    said = capsys.readouterr().err
    assert said.startswith("nerite generate: ") and said.count("\n") == 1
    assert sentence in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--url", "http://127.0.0.1:1"], "no server answers at http://127.0.0.1:1 (connection"),
        (["--url", "ftp://here"], "is not an address like"),
        (["--url", "http://127.0.0.1:many"], "is not an address like"),
        (["-o", "house.jpg"], "must end in .png"),
        (["-o", "no/such/folder/house.png"], "there is no folder no/such/folder"),
        (["-o", "/dev/full/house.png"], "there is no folder /dev/full"),
    ],
)
def test_what_the_user_got_wrong_is_one_sentence(
    capsys: Any, tmp_path: Path, monkeypatch: Any, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "a red house", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("nerite generate: ") and said.count("\n") == 1
    assert sentence in said


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", "big"), ("n", "0"), ("seed", "x"), ("seed", f"{2**63}"), ("guidance-scale", "nan")],
)
def test_a_wrong_argument_is_named(capsys: Any, option: str, value: str) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["generate", "a red house", f"--{option}", value])
    assert leaving.value.code == 2
    said = capsys.readouterr().err
    assert f"argument --{option}: " in said and value in said
