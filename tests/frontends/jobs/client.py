"""What the tests of jobs do over HTTP."""

import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
from PIL import Image

from ...conftest import ServerProcess

JOBS = "/v1/images/jobs"


def connect(server: ServerProcess, **more: Any) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60, **more)


def post(client: httpx.Client, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(JOBS, json={"prompt": "a red house", **body}, headers=headers)


def accepted(client: httpx.Client, key: str | None = None, **body: Any) -> dict[str, Any]:
    answer = post(client, key, **body)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{JOBS}/{job['id']}"
    return job


def finished(client: httpx.Client, id: str, seconds: float = 120) -> dict[str, Any]:
    """The job when it has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"{JOBS}/{id}").raise_for_status().json()
        if job["status"] not in ("queued", "running"):
            return job
        time.sleep(0.05)
    raise AssertionError(f"the job has not ended: {job}")


def events(client: httpx.Client, id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with client.stream("GET", f"{JOBS}/{id}/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))


def pictures(job: dict[str, Any]) -> list[Image.Image]:
    files = [base64.b64decode(datum["b64_json"]) for datum in job["result"]["data"]]
    return [Image.open(io.BytesIO(file)) for file in files]


def data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two jobs have the same pictures, but for what rounding makes of neighbours."""
    pairs = zip(pictures(one), pictures(other), strict=True)
    differences = [np.asarray(a, np.int16) - np.asarray(b, np.int16) for a, b in pairs]
    return all(np.abs(difference).max() <= 2 for difference in differences)


def shade(job: dict[str, Any]) -> int:
    """Of the first picture."""
    value = pictures(job)[0].convert("RGB").getpixel((0, 0))
    assert isinstance(value, tuple)
    return int(value[0])
