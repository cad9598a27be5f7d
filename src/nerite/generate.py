"""`nerite generate`: paints through a running server's HTTP port, as any client could.

The demo uses the same functions: `png_path`, `paint` and `save`.
"""

import http.client
import json
import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import orjson
from numpy.typing import NDArray

DATATYPES = {
    "prompt": "BYTES",
    "negative_prompt": "BYTES",
    "seed": "INT64",
    "steps": "INT32",
    "guidance_scale": "FP32",
    "width": "INT32",
    "height": "INT32",
    "num_images": "INT32",
    "scheduler": "BYTES",
}
_CONNECT_SECONDS = 5.0


class GenerateError(Exception):
    """One sentence for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Painting:
    """What a server painted: `pixels` is [number, height, width, 3]."""

    model: str
    settings: Mapping[str, Any]
    pixels: NDArray[np.uint8]
    seed: int
    seconds: float


def run(url: str, model: str | None, settings: Mapping[str, Any], output: Path | None) -> int:
    """Paint what `settings` say into `output` and print where it is; the exit status."""
    try:
        file = png_path(output or Path(_slug(settings["prompt"])))
        with Spinner("painting"):
            painting = paint(url, model, settings)
        for path in save(painting, file):
            print(f"{path}  seed {painting.seed}  {painting.seconds:.2f} s")
    except GenerateError as error:
        print(f"nerite generate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def paint(url: str, model: str | None, settings: Mapping[str, Any]) -> Painting:
    """Ask the server at `url`; `settings` are the model's inputs by name, without None."""
    server = _Server(url)
    try:
        model, metadata = server.painting_model(model)
        request = _request(settings, metadata)
        began = time.perf_counter()
        answer = server.ask("POST", f"/v2/models/{quote(model)}/infer", request)
        seconds = time.perf_counter() - began
    finally:
        server.close()
    pixels, seed = answer.tensor("generated_image"), answer.tensor("seed")
    pixels = pixels.reshape(-1, *pixels.shape[-3:])
    return Painting(model, settings, pixels.astype(np.uint8), int(seed.flat[0]), seconds)


def png_path(file: Path) -> Path:
    """`file` with its suffix, checked before anybody waits for a picture."""
    file = file.with_name(file.name + ".png") if not file.suffix else file
    if file.suffix.lower() != ".png":
        raise GenerateError(f"cannot write {file}: the file's name must end in .png.")
    if not file.parent.is_dir():
        raise GenerateError(f"cannot write {file}: there is no folder {file.parent}.")
    if file.is_dir():
        raise GenerateError(f"cannot write {file}: it is a folder.")
    return file


def save(painting: Painting, file: Path) -> list[Path]:
    """Write `file`, or `file-1`, `file-2` ... for several pictures, with their origin inside."""
    from importlib.metadata import version

    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    settings = dict(painting.settings) | {"model": painting.model}
    prompt = settings.pop("prompt")
    settings.pop("seed", None)
    paths = []
    for index, pixels in enumerate(painting.pixels):
        several = len(painting.pixels) > 1
        path = file.with_stem(f"{file.stem}-{index + 1}") if several else file
        origin = PngInfo()
        origin.add_text("prompt", prompt)
        origin.add_text("seed", str(painting.seed))
        number = {"index": index} if several else {}
        origin.add_text("settings", json.dumps(settings | number, sort_keys=True))
        origin.add_text("Software", f"nerite {version('nerite')}")
        try:
            Image.fromarray(pixels).save(path, pnginfo=origin)
        except OSError as error:
            raise GenerateError(f"cannot write {path}: {error.strerror or error}.") from error
        paths.append(path)
    return paths


def _slug(prompt: str) -> str:
    return "-".join(re.findall(r"\w+", prompt.lower()))[:60].strip("-") or "picture"


def _request(settings: Mapping[str, Any], metadata: Mapping[str, Any]) -> bytes:
    shapes = {tensor["name"]: tensor["shape"] for tensor in metadata["inputs"]}
    inputs = []
    for name, value in settings.items():
        # A model that takes batches wants one more dimension in front.
        shape = [1] * len(shapes.get(name, [1]))
        tensor = {"name": name, "datatype": DATATYPES[name], "shape": shape, "data": [value]}
        inputs.append(tensor)
    outputs = [
        {"name": "generated_image", "parameters": {"binary_data": True}},
        {"name": "seed", "parameters": {"binary_data": False}},
    ]
    try:
        return orjson.dumps({"inputs": inputs, "outputs": outputs})
    except TypeError as error:
        raise GenerateError("the prompt is not valid UTF-8.") from error


@dataclass(frozen=True, slots=True)
class _Answer:
    header: Mapping[str, Any]
    binary: bytes

    def tensor(self, name: str) -> NDArray[Any]:
        start = 0
        for tensor in self.header["outputs"]:
            size = tensor.get("parameters", {}).get("binary_data_size")
            if tensor["name"] != name:
                start += size or 0
            elif size is None:
                return np.asarray(tensor["data"]).reshape(tensor["shape"])
            else:
                flat = np.frombuffer(self.binary, np.uint8, size, start)
                return flat.reshape(tensor["shape"])
        raise GenerateError(f"the model answers without the output {name!r}: it paints nothing.")


class _Server:
    """One connection to a server, whose troubles become one sentence each."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GenerateError(f"{url} is not an address like http://127.0.0.1:8000.")
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        try:
            self._connection = kind(parts.hostname, parts.port, timeout=_CONNECT_SECONDS)
        except ValueError as error:
            raise GenerateError(f"{url} is not an address like http://127.0.0.1:8000.") from error
        self._url = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path.rstrip("/")

    def close(self) -> None:
        self._connection.close()

    def painting_model(self, name: str | None) -> tuple[str, Mapping[str, Any]]:
        """The model to paint with, the only one where none is named, and its metadata."""
        if name is not None:
            return name, self.metadata(name)
        names = self._models()
        painting = [name for name in names if self._paints(name)]
        if "painter" in painting or len(painting) == 1:
            name = "painter" if "painter" in painting else painting[0]
            return name, self.metadata(name)
        if painting:
            raise GenerateError(f"name one of the server's models: --model {' | '.join(painting)}")
        raise GenerateError(f"{self._url} serves no 'painter'; name a model with --model.")

    def _models(self) -> list[str]:
        try:
            index: Any = self.ask("POST", "/v2/repository/index", b'{"ready": true}').header
        except _Refused:  # a server without the repository extension
            return ["painter"]
        return sorted({entry["name"] for entry in index})

    def _paints(self, model: str) -> bool:
        try:
            outputs = self.metadata(model)["outputs"]
        except _Refused:
            return False
        return any(output["name"] == "generated_image" for output in outputs)

    def metadata(self, model: str) -> Mapping[str, Any]:
        return self.ask("GET", f"/v2/models/{quote(model)}").header

    def ask(self, method: str, path: str, body: bytes | None = None) -> _Answer:
        if self._connection.sock is None:
            self._connect()
        try:
            self._connection.request(method, self._path + path, body)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise GenerateError(
                f"the server at {self._url} closed the connection before it answered."
            ) from error
        return self._answer(response, content)

    def _connect(self) -> None:
        try:
            self._connection.connect()
        except OSError as error:
            raise GenerateError(
                f"no server answers at {self._url} ({_reason(error)}); start one with"
                " `nerite serve`, or name another with --url."
            ) from error
        self._connection.sock.settimeout(None)  # a big picture may take minutes

    def _answer(self, response: http.client.HTTPResponse, content: bytes) -> _Answer:
        cut = int(response.headers.get("Inference-Header-Content-Length") or len(content))
        try:
            header = orjson.loads(content[:cut] or b"{}")
        except orjson.JSONDecodeError as error:
            raise GenerateError(f"what answers at {self._url} is no model server.") from error
        if response.status != 200:
            text = header.get("error", "") if isinstance(header, dict) else ""
            text = re.sub(r"^\[request id: [^]]*\] ", "", text)  # Triton's, of no use here
            raise _Refused(text or f"the server answered with status {response.status}.")
        return _Answer(header, content[cut:])


class _Refused(GenerateError):
    """The server answered, and said no."""


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return (error.strerror or str(error)).lower()


class Spinner:
    """Shows on a terminal that something is happening, and for how long; silent elsewhere."""

    def __init__(self, text: str) -> None:
        self._text = text
        unicode = "utf" in (sys.stderr.encoding or "").lower()
        self._frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if unicode else "|/-\\"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._turn, daemon=True)

    def __enter__(self) -> None:
        if sys.stderr.isatty():
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _turn(self) -> None:
        began = time.monotonic()
        turn = 0
        while not self._done.wait(0.1):
            frame = self._frames[turn % len(self._frames)]
            turn += 1
            sys.stderr.write(f"\r{frame} {self._text} {time.monotonic() - began:.1f} s")
            sys.stderr.flush()
