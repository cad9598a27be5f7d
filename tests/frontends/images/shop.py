"""A repository of small Python models that paint, each in its own way, and one that does not."""

import shutil
from pathlib import Path

from nerite import painter

from ...server.conftest import add_model

_HEAD = """
backend: "python"
parameters { key: "PLACEMENT" value { string_value: "thread" } }
"""


def _config(inputs: str, output: str, more: str = "") -> str:
    return f"{_HEAD}{more}\ninput [ {inputs} ]\noutput [ {output} ]\n"


def _tensor(name: str, kind: str, dims: str, more: str = "") -> str:
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] {more} }}'


def _optional(name: str, kind: str, dims: str = "1") -> str:
    return _tensor(name, kind, dims, "optional: true")


_PROMPT = _tensor("prompt", "STRING", "1")
_CODE = """
    import io, threading
    from PIL import Image

    class TritonPythonModel:
        def initialize(self, args):
            self.rounds = 0

        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            given = {{one.name(): one.as_numpy() for one in request.inputs()}}
            try:
                outputs = self.paint(**given)
            except Exception as error:
                return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
            return pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, value) for name, value in outputs.items()]
            )

        def paint(self, {arguments}):
{body}
"""


def _code(arguments: str, body: str) -> str:
    lines = "\n".join(f"            {line}" for line in body.strip().splitlines())
    return _CODE.format(arguments=arguments, body=lines)


def build(folder: Path) -> Path:
    """pixels, floats, batched, files, clear, text, broken, narrow, and the painter."""
    add_model(
        folder,
        "pixels",
        _config(
            f"{_PROMPT}, {_optional('seed', 'INT64')}, {_optional('num_inference_steps', 'INT32')}",
            _tensor("picture", "UINT8", "-1, -1, 3"),
        ),
        _code(
            "prompt, seed=0, num_inference_steps=1",
            "shade = int(np.max(seed)) % 200 + int(np.max(num_inference_steps))\n"
            "return {'picture': np.full((8, 16, 3), shade, np.uint8)}",
        ),
    )
    add_model(
        folder,
        "floats",
        _config(
            f"{_PROMPT}, {_optional('num_images', 'INT32')}",
            _tensor("images", "FP32", "-1, -1, -1, 3"),
        ),
        _code(
            "prompt, num_images=1",
            "n = int(np.max(num_images))\n"
            "shades = np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1) / 4\n"
            "return {'images': np.broadcast_to(shades, (n, 4, 4, 3)).copy()}",
        ),
    )
    add_model(
        folder,
        "batched",
        _config(_PROMPT, _tensor("image", "FP32", "-1, -1, 3"), "max_batch_size: 4"),
        _code("prompt", "return {'image': np.full((1, 4, 4, 3), 51.0, np.float32)}"),
    )
    add_model(
        folder,
        "files",
        _config(
            f"{_PROMPT}, {_tensor('image', 'STRING', '-1', 'optional: true')}",
            _tensor("image", "STRING", "1"),
        ),
        _code(
            "prompt, image=()",
            "buffer = io.BytesIO()\n"
            "Image.new('RGB', (10 + len(image), 5)).save(buffer, 'png')\n"
            "return {'image': np.array([buffer.getvalue()], object)}",
        ),
    )
    add_model(
        folder,
        "clear",
        _config(_PROMPT, _tensor("image", "UINT8", "4, 4, 4")),
        _code("prompt", "return {'image': np.zeros((4, 4, 4), np.uint8)}"),
    )
    add_model(
        folder,
        "text",
        _config(_PROMPT, _tensor("text_output", "STRING", "1")),
        _code("prompt", "return {'text_output': prompt}"),
    )
    add_model(
        folder,
        "broken",
        _config(_PROMPT, _tensor("image", "UINT8", "-1, -1, 3")),
        _code("prompt", "raise ValueError('out of paint')"),
    )
    add_model(
        folder,
        "narrow",
        _config(
            _PROMPT,
            _tensor("image", "UINT8", "-1, -1, 3"),
            "dynamic_batching { default_queue_policy { max_queue_size: 1 } }",
        ),
        _code(
            "prompt",
            "threading.Event().wait(1.0)\nreturn {'image': np.zeros((4, 4, 3), np.uint8)}",
        ),
    )
    shutil.copytree(painter.REPOSITORY / "painter", folder / "painter")
    return folder
