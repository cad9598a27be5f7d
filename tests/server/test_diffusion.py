"""The diffusion backend behind a real server, painting with the embedded painter."""

import base64
import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from PIL import Image
from tritonclient.utils import InferenceServerException

from nerite import painter

from .conftest import Serve, Serving

_TYPES = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32}
KINDS = {
    "image": "BYTES",
    "mask": "BYTES",
    "strength": "FP32",
    "prompt": "BYTES",
    "negative_prompt": "BYTES",
    "scheduler": "BYTES",
    "seed": "INT64",
    "guidance_scale": "FP32",
}
STEPS = 3


def add_painter(repository: Path, name: str, config: str | None, inner: str = "") -> None:
    """A model whose version folder is the painter's, or holds it as the subfolder `inner`."""
    version = repository / name / "1"
    version.parent.mkdir(parents=True)
    if inner:
        version.mkdir()
    (version / inner if inner else version).symlink_to(painter.REPOSITORY / "painter" / "1")
    if config is not None:
        (version.parent / "config.pbtxt").write_text(config)


TEXT_CONFIG = """
backend: "diffusion"
input [ { name: "INPUT_0" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "OUTPUT_0" data_type: TYPE_STRING dims: [ 1 ] } ]
parameters { key: "steps" value: { string_value: "3" } }
parameters { key: "seed" value: { string_value: "11" } }
parameters { key: "image_height" value: { string_value: "64" } }
parameters { key: "image_width" value: { string_value: "96" } }
parameters { key: "guidance_scale" value: { string_value: "" } }
instance_group [ { kind: KIND_GPU count: 1 } ]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diffusion")
    add_painter(folder, "plain", None)
    add_painter(folder, "batching", 'backend: "diffusion" max_batch_size: 4', inner="model")
    add_painter(folder, "text", TEXT_CONFIG)
    return folder


@pytest.fixture(scope="module")
def serving(repository: Path) -> Iterator[Serving]:
    with Serving(f"--model-repository={repository}") as running:
        yield running


@pytest.fixture(scope="module")
def client(serving: Serving) -> Iterator[httpclient.InferenceServerClient]:
    with httpclient.InferenceServerClient(serving.http, network_timeout=120) as opened:
        yield opened


def paint(client: Any, model: str = "plain", **values: Any) -> Any:
    """Ask for a picture; a list as value is the request's batch."""
    inputs = []
    for name, value in {"prompt": "a red house", "steps": STEPS, **values}.items():
        kind = KINDS.get(name, "INT32")
        items = value if isinstance(value, list) else [value]
        if kind == "BYTES":
            items = [item.encode() if isinstance(item, str) else item for item in items]
        array = np.array(items, dtype=_TYPES.get(kind, object))
        array = array.reshape(-1, 1) if isinstance(value, list) else array
        entry = httpclient.InferInput(name, list(array.shape), kind)
        entry.set_data_from_numpy(array)
        inputs.append(entry)
    return client.infer(model, inputs)


def picture(result: Any) -> np.ndarray:
    found: np.ndarray = result.as_numpy("generated_image")
    return found


def test_a_bare_config_is_completed(client: Any) -> None:
    metadata = client.get_model_metadata("plain")
    assert [entry["name"] for entry in metadata["inputs"]] == [
        "prompt", "negative_prompt", "seed", "steps", "guidance_scale", "width", "height",
        "num_images", "scheduler", "image", "mask", "strength", "clip_skip",
    ]  # fmt: skip
    assert metadata["outputs"] == [
        {"name": "generated_image", "datatype": "UINT8", "shape": [-1, -1, 3]},
        {"name": "seed", "datatype": "INT64", "shape": [1]},
    ]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def test_a_picture_from_a_picture(client: Any) -> None:
    drawn = picture(paint(client, seed=3, steps=6))
    file = png(drawn)
    near = picture(paint(client, image=file, strength=0.3, seed=4, steps=8))
    far = picture(paint(client, image=file, strength=1.0, seed=4, steps=8))
    assert near.shape == drawn.shape
    error = [np.abs(one.astype(int) - drawn).mean() for one in (near, far)]
    assert error[0] < error[1]
    text = base64.b64encode(file).decode()
    same = picture(paint(client, image=text, strength=0.3, seed=4, steps=8))
    np.testing.assert_array_equal(same, near)


def test_a_mask_keeps_the_rest(client: Any) -> None:
    drawn = picture(paint(client, seed=3, steps=6))
    mask = np.zeros((128, 128), np.uint8)
    mask[:, 64:] = 255
    painted = picture(paint(client, image=png(drawn), mask=png(mask), seed=4, steps=6))
    change = np.abs(painted.astype(int) - drawn).mean(axis=(0, 2))
    assert change[:48].mean() < change[80:].mean() / 2


def test_a_picture_brings_its_size(client: Any) -> None:
    image = png(np.zeros((100, 200, 3), np.uint8))
    assert picture(paint(client, image=image, strength=0.5)).shape == (96, 200, 3)
    sized = paint(client, image=image, strength=0.5, width=64, height=72)
    assert picture(sized).shape == (72, 64, 3)


def test_same_seed_same_picture(client: Any) -> None:
    first, again = (paint(client, seed=5, steps=6) for _ in range(2))
    assert picture(first).shape == (128, 128, 3)
    assert picture(first).dtype == np.uint8
    assert first.as_numpy("seed").tolist() == [5]
    np.testing.assert_array_equal(picture(first), picture(again))
    other = paint(client, seed=6, steps=6)
    assert (picture(first) != picture(other)).any()


def test_the_seed_drawn_comes_back(client: Any) -> None:
    drawn = paint(client)
    (seed,) = drawn.as_numpy("seed").tolist()
    np.testing.assert_array_equal(picture(paint(client, seed=seed)), picture(drawn))


def test_num_images_leads_the_shape(client: Any) -> None:
    several = picture(paint(client, seed=5, num_images=2))
    assert several.shape == (2, 128, 128, 3)
    assert picture(paint(client, seed=5, num_images=1)).shape == (1, 128, 128, 3)
    second = picture(paint(client, seed=6)).astype(int)
    assert np.abs(several[1].astype(int) - second).max() <= 2


@pytest.mark.parametrize("size", [(64, 64), (256, 64), (72, 136), (256, 256)])
def test_sizes(client: Any, size: tuple[int, int]) -> None:
    width, height = size
    result = paint(client, width=width, height=height, steps=1)
    assert picture(result).shape == (height, width, 3)


def test_words_and_settings_matter(client: Any) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"prompt": "a blue boat on the sea at night"},
        {"negative_prompt": "snow"},
        {"guidance_scale": 1.0},
        {"scheduler": "ddim"},
        {"steps": 4},
    ]
    pictures = [picture(paint(client, seed=1, **one)).tobytes() for one in settings]
    assert len(set(pictures)) == len(settings)


def test_a_batch_is_a_picture_each(client: Any) -> None:
    result = paint(
        client,
        "batching",
        prompt=["a red house", "a tree"],
        seed=[5, 9],
        steps=[STEPS, STEPS],
    )
    assert picture(result).shape == (2, 128, 128, 3)
    assert result.as_numpy("seed").tolist() == [[5], [9]]
    alone = picture(paint(client, prompt="a tree", seed=9)).astype(int)
    assert np.abs(picture(result)[1].astype(int) - alone).max() <= 2
    several = paint(client, "batching", prompt=["a", "b"], num_images=[2, 2], steps=[1, 1])
    assert picture(several).shape == (2, 2, 128, 128, 3)


def test_sizes_within_a_batch_must_agree(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="width.*share one size") as caught:
        paint(client, "batching", prompt=["a", "b"], steps=[1, 1], width=[64, 128])
    assert caught.value.status() == "400"


def test_text_in_and_base64_png_out(serving: Serving, client: Any) -> None:
    with grpcclient.InferenceServerClient(serving.grpc) as grpc:
        entry = grpcclient.InferInput("INPUT_0", [1], "BYTES")
        entry.set_data_from_numpy(np.array([b"a red house"], dtype=object))
        answer = grpc.infer("text", [entry]).as_numpy("OUTPUT_0")
    assert answer.shape == (1,)
    image = Image.open(io.BytesIO(base64.b64decode(answer[0])))
    assert (image.format, image.size) == ("PNG", (96, 64))
    same = paint(client, seed=11, height=64, width=96)
    np.testing.assert_array_equal(np.asarray(image), picture(same))


def test_a_gpu_that_is_not_there_is_a_warning(serving: Serving) -> None:
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a GPU")
    warnings = [line for line in serving.lines if "asks for a GPU" in line]
    assert len(warnings) == 1
    assert "runs on the CPU" in warnings[0]


def test_strict_gpu_refuses(serve: Serve, repository: Path) -> None:
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a GPU")
    refused = serve(f"--model-repository={repository}", "--strict-gpu")
    assert refused.wait() == 1
    assert "which this machine does not have (--strict-gpu)" in refused.log


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("prompt", b"\xff\xfe", "input 'prompt' is not UTF-8 text: invalid start byte at byte 0"),
        ("width", 0, "width is 0: it must be a multiple of 8 from 64 to 256; try 64"),
        ("width", -64, "width is -64: it must be a multiple of 8 from 64 to 256; try 64"),
        ("height", 1 << 30, "it must be a multiple of 8 from 64 to 256; try 256"),
        ("height", 100, "height is 100: it must be a multiple of 8 from 64 to 256; try 96 or 104"),
        ("steps", 0, "steps is 0: it must be a whole number from 1 to 1000"),
        ("steps", 100_000, "steps is 100000: it must be a whole number from 1 to 1000"),
        ("guidance_scale", float("nan"), "guidance_scale is nan: it must be a number from 0 to"),
        ("guidance_scale", float("inf"), "guidance_scale is inf: it must be a number from 0 to"),
        ("num_images", 0, "num_images is 0: it must be a whole number"),
        ("num_images", 1000, "num_images is 1000: it must be a whole number from 1 to 16"),
        ("scheduler", "magic", "unknown scheduler 'magic'; known: ddim"),
        ("strength", 0.5, "strength is given without image"),
        ("mask", png(np.zeros((8, 8), np.uint8)), "mask is given without image"),
        ("image", b"no picture", "image cannot be read: "),
        ("image", png(np.zeros((64, 64, 3), np.uint8))[:60], "image cannot be read: "),
        ("image", b"GIF89a" + bytes(20), "image cannot be read: "),
        ("clip_skip", 1, "clip_skip is not served: this export gives only its last layer"),
        ("prompt", "(a house)1000", "has weight 1000: at most 20"),
    ],
)
def test_bad_values(client: Any, name: str, value: Any, expected: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        paint(client, **{name: value})
    assert caught.value.status() == "400"
    assert expected in caught.value.message()
    assert picture(paint(client, steps=1)).shape == (128, 128, 3)


def test_a_bad_parameter_is_told_at_load(serve: Serve, tmp_path: Path) -> None:
    config = 'backend: "diffusion" parameters { key: "steps" value: { string_value: "many" } }'
    add_painter(tmp_path, "bad", config)
    refused = serve(f"--model-repository={tmp_path}")
    assert refused.wait() == 1
    assert "parameter steps is 'many': it must be a whole number" in refused.log


def test_a_folder_without_a_model(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "empty" / "1").mkdir(parents=True)
    (tmp_path / "empty" / "config.pbtxt").write_text('backend: "diffusion"')
    refused = serve(f"--model-repository={tmp_path}")
    assert refused.wait() == 1
    assert "model_index.json" in refused.log
    assert "Traceback" not in refused.lines[-1]


def test_without_a_repository_the_painter_is_served(serve: Serve) -> None:
    serving = serve()
    with httpclient.InferenceServerClient(serving.http, network_timeout=120) as client:
        assert client.is_server_ready()
        assert picture(paint(client, "painter", steps=1)).shape == (128, 128, 3)


def cancelled(serving: Serving, model: str) -> int:
    connection = http.client.HTTPConnection(serving.metrics)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    labels = f'{{model="{model}",reason="CANCELED",version="1"}} '
    return int(text.split(f"nv_inference_request_failure{labels}")[1].split("\n")[0])


def wait_until(condition: Callable[[], bool]) -> None:
    """Fails after half a minute; the thousand steps that are cancelled here would take longer."""
    pause = threading.Event()
    for _ in range(300):
        if condition():
            return
        pause.wait(0.1)
    pytest.fail("it did not happen")


LONG = {"prompt": ("BYTES", "a tree"), "steps": ("INT32", 1000), "num_images": ("INT32", 16)}


def test_an_http_client_that_leaves_frees_the_engine(serving: Serving, client: Any) -> None:
    before = cancelled(serving, "plain")
    inputs = [
        {"name": name, "datatype": kind, "shape": [1], "data": [value]}
        for name, (kind, value) in LONG.items()
    ]
    body = json.dumps({"inputs": inputs})
    connection = http.client.HTTPConnection(serving.http)
    connection.request("POST", "/v2/models/plain/infer", body)
    threading.Event().wait(0.5)
    connection.close()
    wait_until(lambda: cancelled(serving, "plain") == before + 1)
    assert picture(paint(client, steps=1)).shape == (128, 128, 3)


def test_a_cancelled_grpc_call_frees_the_engine(serving: Serving, client: Any) -> None:
    before = cancelled(serving, "plain")
    inputs = []
    for name, (kind, value) in LONG.items():
        entry = grpcclient.InferInput(name, [1], kind)
        data = [value.encode()] if isinstance(value, str) else [value]
        entry.set_data_from_numpy(np.array(data, object if kind == "BYTES" else np.int32))
        inputs.append(entry)
    ended: list[Any] = []
    with grpcclient.InferenceServerClient(serving.grpc) as grpc:
        call = grpc.async_infer("plain", inputs, lambda result, error: ended.append(error))
        threading.Event().wait(0.5)
        call.cancel()
        wait_until(lambda: cancelled(serving, "plain") == before + 1 and bool(ended))
    assert "CANCELLED" in str(ended[0])
    assert picture(paint(client, steps=1)).shape == (128, 128, 3)


def test_the_front_process_has_no_runtime(serving: Serving) -> None:
    maps = Path(f"/proc/{serving.process.pid}/maps")
    if not maps.exists():
        pytest.skip("/proc is Linux's")
    loaded = maps.read_text()
    assert "numpy" in loaded
    assert "onnxruntime" not in loaded
    assert "torch" not in loaded


def stream(serving: Serving, parameters: dict[str, Any], **values: Any) -> list[dict[str, Any]]:
    """The events of generate_stream."""
    connection = http.client.HTTPConnection(serving.http, timeout=120)
    body = json.dumps({"prompt": "a red house", "seed": 5, "steps": 6, **values, **parameters})
    connection.request("POST", "/v2/models/plain/generate_stream", body)
    text = connection.getresponse().read().decode()
    connection.close()
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]


def test_progress_comes_before_the_picture(serving: Serving, client: Any) -> None:
    wish = {"progress": True, "previews": 2, "preview_format": "jpeg"}
    *told, last = stream(serving, wish)
    assert [event["step"] for event in told if event["queue_position"] == 0] == [1, 2, 3, 4, 5, 6]
    assert {event["steps"] for event in told} == {6}
    assert told[-1]["eta_seconds"] >= 0
    previews = [event["preview"] for event in told if "preview" in event]
    assert len(previews) == 2  # after 2 and 4 of 6: the last is the picture itself
    assert Image.open(io.BytesIO(base64.b64decode(previews[0]))).size == (16, 16)
    plain = picture(paint(client, seed=5, steps=6))
    assert last["seed"] == 5
    np.testing.assert_array_equal(np.array(last["generated_image"], np.uint8), plain.reshape(-1))


def test_who_waits_is_told_the_place(serving: Serving) -> None:
    told: list[list[int]] = [[], []]

    def ask(index: int, images: int, steps: int) -> None:
        events = stream(serving, {"progress": True}, num_images=images, steps=steps)
        told[index] = [event["queue_position"] for event in events[:-1]]

    first = threading.Thread(target=ask, args=(0, 16, 6))
    first.start()
    threading.Event().wait(0.5)
    ask(1, 1, 2)
    first.join()
    assert told[1] == [1, 0, 0]


def test_without_progress_a_stream_has_one_answer(serving: Serving) -> None:
    assert len(stream(serving, {}, steps=1)) == 1


def test_bad_wishes_for_previews(serving: Serving) -> None:
    assert "previews" in stream(serving, {"progress": True, "previews": -1})[0]["error"]
    assert "preview_format" in stream(serving, {"preview_format": "gif"})[0]["error"]


def test_progress_on_a_grpc_stream(serving: Serving) -> None:
    answers: list[Any] = []
    ended = threading.Event()

    def take(result: Any, error: Any) -> None:
        answers.append(error or result)
        if error is not None or "generated_image" in names(result):
            ended.set()

    with grpcclient.InferenceServerClient(serving.grpc) as grpc:
        grpc.start_stream(take)
        inputs = []
        for name, kind, value in (("prompt", "BYTES", b"a tree"), ("steps", "INT32", 4)):
            entry = grpcclient.InferInput(name, [1], kind)
            entry.set_data_from_numpy(np.array([value], object if kind == "BYTES" else np.int32))
            inputs.append(entry)
        wish = {"progress": True, "previews": 1, "preview_decoder": "vae"}
        grpc.async_stream_infer("plain", inputs, parameters=wish)
        assert ended.wait(60)
        grpc.stop_stream()
    steps = [answer.as_numpy("step").tolist() for answer in answers[:-1]]
    assert steps[-4:] == [[1], [2], [3], [4]]
    assert answers[-2].as_numpy("preview") is None
    assert answers[-3].as_numpy("preview").shape == (128, 128, 3)
    assert picture(answers[-1]).shape == (128, 128, 3)


def names(result: Any) -> list[str]:
    return [output.name for output in result.get_response().outputs]


def test_a_request_whose_time_is_up_is_left(serving: Serving, client: Any) -> None:
    document = {
        "inputs": [
            {"name": name, "datatype": kind, "shape": [1], "data": [value]}
            for name, (kind, value) in LONG.items()
        ],
        "parameters": {"timeout": 300_000},
    }
    connection = http.client.HTTPConnection(serving.http, timeout=60)
    connection.request("POST", "/v2/models/plain/infer", json.dumps(document))
    answer = connection.getresponse()
    assert "Request timeout expired" in answer.read().decode()
    connection.close()
    assert picture(paint(client, steps=1)).shape == (128, 128, 3)


def test_json_previews_are_jpeg_without_asking(serving: Serving) -> None:
    (event, *_) = stream(serving, {"progress": True, "previews": 1}, steps=2)
    assert Image.open(io.BytesIO(base64.b64decode(event["preview"]))).format == "JPEG"


def wish_for(module: Any, **values: Any) -> list[Any]:
    inputs = []
    for name, (kind, value) in values.items():
        entry = module.InferInput(name, [1], kind)
        entry.set_data_from_numpy(np.array([value], _TYPES.get(kind, object)))
        inputs.append(entry)
    return inputs


def test_progress_without_a_stream_is_not_told(serving: Serving, client: Any) -> None:
    values = {"prompt": ("BYTES", b"a tree"), "steps": ("INT32", 2), "seed": ("INT64", 4)}
    plain = picture(client.infer("plain", wish_for(httpclient, **values)))
    wish = {"progress": True, "previews": 1}
    told = client.infer("plain", wish_for(httpclient, **values), parameters=wish)
    np.testing.assert_array_equal(picture(told), plain)
    with grpcclient.InferenceServerClient(serving.grpc) as grpc:
        told = grpc.infer("plain", wish_for(grpcclient, **values), parameters=wish)
    np.testing.assert_array_equal(picture(told), plain)
    connection = http.client.HTTPConnection(serving.http, timeout=120)
    body = {"prompt": "a tree", "steps": 2, "seed": 4, "width": 64, "height": 64, **wish}
    connection.request("POST", "/v2/models/plain/generate", json.dumps(body))
    document = json.loads(connection.getresponse().read())
    connection.close()
    assert len(document["generated_image"]) == 64 * 64 * 3


def counted(serving: Serving, name: str) -> float:
    with urlopen(f"http://{serving.metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    of_plain = f'{name}{{model="plain",version="1"}} '
    return sum(float(line.removeprefix(of_plain)) for line in lines if line.startswith(of_plain))


def test_prompts_that_were_known_are_counted(serving: Serving, client: Any) -> None:
    hits, misses = "nerite_prompt_cache_hits_total", "nerite_prompt_cache_misses_total"
    before = counted(serving, hits), counted(serving, misses)
    for seed in (1, 2):
        paint(client, prompt="a prompt that nobody else asks for", seed=seed, steps=1)
    while counted(serving, hits) == before[0]:  # what is counted comes after the picture
        threading.Event().wait(0.02)
    # The prompt, the empty negative prompt, and what fills the shorter of the two up.
    assert counted(serving, hits) - before[0] >= 3
    assert 1 <= counted(serving, misses) - before[1] <= 3
