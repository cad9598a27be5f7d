"""The client against servers that do what a real one seldom does; Client and AsyncClient alike."""

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import nerite.client as api
from nerite import AsyncClient, Client
from nerite.client import Picture, Preview, Progress
from nerite.client.asynchronous import AsyncJobs, AsyncModels
from nerite.client.blocking import Jobs, Models

from .stub import Answer, Stub, json_answer, painted, png, refusal, streamed


def client(stub: Stub, **more: Any) -> Client:
    return Client(stub.url, **more)


def test_paint_gives_a_pillow_image_that_knows_its_origin(stub: Stub) -> None:
    with client(stub) as nerite:
        image = nerite.paint("a red house", size=(32, 24), seed=5)
    assert isinstance(image, Image.Image)
    assert image.size == (32, 24)
    wanted = {"prompt": "a red house", "seed": 5, "model": "brush", "steps": 20, "size": "32x24"}
    assert image.info.items() >= wanted.items()


def test_only_what_was_said_is_sent(stub: Stub) -> None:
    with client(stub) as nerite:
        nerite.paint("a red house")
        nerite.paint("a tree", model="brush", guidance_scale=2.5, timeout=20)
    first, second = stub.asked
    assert (first.method, first.path) == ("POST", "/v1/images/generations")
    common = {"n": 1, "response_format": "b64_json"}
    assert first.body == {"prompt": "a red house"} | common
    assert second.body == {"prompt": "a tree", "model": "brush", "guidance_scale": 2.5} | common


def test_a_picture_to_start_from_makes_it_an_edit(stub: Stub, tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "red")
    file = tmp_path / "mask.jpg"
    image.convert("L").save(file)
    with client(stub) as nerite:
        nerite.paint("blue", image=image, mask=file, strength=0.5)
        nerite.paint("blue", image=[image, file.read_bytes()])
    first, second = stub.asked
    assert first.path == second.path == "/v1/images/edits"
    assert first.body["strength"] == 0.5
    assert first.body["mask"]["image_url"].startswith("data:image/jpeg;base64,/9j/")
    kinds = [one["image_url"].partition(";")[0] for one in second.body["images"]]
    assert kinds == ["data:image/png", "data:image/jpeg"]


def test_several_pictures_have_seeds_of_their_own(stub: Stub) -> None:
    with client(stub) as nerite:
        assert [image.info["seed"] for image in nerite.paint_many("a tree", 3)] == [99, 100, 101]


def test_a_setting_that_there_is_not_is_named(stub: Stub) -> None:
    with client(stub) as nerite, pytest.raises(TypeError, match="no setting 'colour'; there are"):
        nerite.paint("a tree", colour="red")  # type: ignore[call-arg]
    assert stub.asked == []


def test_the_key_is_sent_and_the_environment_names_it(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NERITE_URL", stub.url)
    monkeypatch.setenv("NERITE_API_KEY", "from outside")
    with Client() as nerite:
        nerite.paint("a tree")
    with Client(api_key="given") as nerite:
        nerite.paint("a tree")
    keys = [asked.headers["authorization"] for asked in stub.asked]
    assert keys == ["Bearer from outside", "Bearer given"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, api.BadRequest),
        (401, api.Unauthorized),
        (403, api.Forbidden),
        (404, api.NotFound),
        (409, api.Conflict),
        (413, api.BadRequest),
        (429, api.TooManyRequests),
        (500, api.ServerFault),
        (503, api.ServerFault),
    ],
)
def test_a_refusal_has_a_class(stub: Stub, status: int, kind: type[api.ApiError]) -> None:
    stub.answers = [refusal(status, "steps is 0", x_request_id="r1", retry_after="3")]
    with client(stub, retries=0) as nerite, pytest.raises(api.ApiError) as caught:
        nerite.paint("a tree")
    error = caught.value
    assert type(error) is kind
    assert str(error) == "steps is 0"
    told = (error.status, error.param, error.code, error.request_id, error.retry_after)
    assert told == (status, "steps", "bad", "r1", 3.0)


def test_a_busy_server_is_asked_again_when_it_says(stub: Stub) -> None:
    stub.answers = [refusal(429, retry_after="0.05"), refusal(503, retry_after="0.05")]
    with client(stub) as nerite:
        nerite.paint("a tree")
    assert len(stub.asked) == 3


@pytest.mark.parametrize(
    "answer",
    [refusal(400), refusal(500), refusal(503), refusal(429, x_should_retry="false")],
)
def test_what_a_retry_cannot_mend_is_asked_once(stub: Stub, answer: Answer) -> None:
    stub.answers = [answer]
    with client(stub) as nerite, pytest.raises(api.ApiError):
        nerite.paint("a tree")
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (Answer(b"<html>"), api.UnexpectedAnswer, "is no server with an images API."),
        (Answer(b'{"error": "?"}', 404), api.UnexpectedAnswer, "no server with an images API."),
        (json_answer({"data": [{}]}), api.UnexpectedAnswer, "holds no pictures."),
        (json_answer({"data": [{"b64_json": "%"}]}), api.UnexpectedAnswer, "is not base64."),
        (json_answer(painted({"n": 0})), api.UnexpectedAnswer, "asked for 1 pictures and sent 0."),
        (Answer(b'{"da', hang_up=True), api.ConnectionFailed, "closed the connection before it"),
    ],
)
def test_an_answer_that_is_none_is_a_sentence(
    stub: Stub, answer: Answer, kind: type[Exception], sentence: str
) -> None:
    stub.answers = [answer]
    with client(stub) as nerite, pytest.raises(kind, match=sentence):
        nerite.paint("a tree")


def test_nobody_answers() -> None:
    with Client("http://127.0.0.1:1") as nerite, pytest.raises(api.ConnectionFailed) as caught:
        nerite.paint("a tree")
    assert str(caught.value) == "no server answers at http://127.0.0.1:1 (connection refused)."
    assert isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize("url", ["ftp://here", "http://127.0.0.1:many", "http://"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="is not an address like http://127.0.0.1:8000"):
        Client(url)


def test_a_call_whose_time_is_up_hangs_up(stub: Stub) -> None:
    with client(stub) as nerite:
        nerite.paint("a tree")  # opens the connection, which is not to count
        stub.answers = [Answer(silent=True)]
        with pytest.raises(api.TimedOut, match=r"no answer within 2 s\."):
            nerite.paint("a tree", timeout=2)
        assert stub.left.wait(20)


async def test_a_call_that_is_cancelled_hangs_up(stub: Stub) -> None:
    stub.answers = [Answer(silent=True)]
    async with AsyncClient(stub.url) as nerite:
        painting = asyncio.create_task(nerite.paint("a tree"))
        while not stub.asked:
            await asyncio.sleep(0.01)
        painting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await painting
        assert await asyncio.to_thread(stub.left.wait, 20)


def test_a_stream_gives_previews_and_then_the_picture(stub: Stub) -> None:
    stub.answers = [Answer(events=streamed(previews=2))] * 2
    with client(stub) as nerite:
        events = list(nerite.stream("a tree", previews=2, progress=True))
        assert [type(event) for event in events] == [Progress, Preview, Progress, Preview, Picture]
        first, preview, *_, picture = events
        assert isinstance(first, Progress) and isinstance(picture, Picture)
        assert (first.step, first.steps, first.eta_seconds) == (1, 2, 0.5)
        assert preview.image.size == (4, 4)  # type: ignore[union-attr]
        assert (picture.image.size, picture.seed) == ((16, 16), 7)
        assert picture.image.info["prompt"] == "a tree"
        list(nerite.stream("a tree", previews=12))
    bodies = [{k: v for k, v in one.body.items() if k not in ("prompt", "n")} for one in stub.asked]
    assert bodies == [
        {"stream": True, "partial_images": 2, "progress": True},
        {"stream": True, "previews": 12},
    ]


@pytest.mark.parametrize("way", ["with", "close", "break"])
def test_leaving_a_stream_hangs_up(stub: Stub, way: str) -> None:
    stub.answers = [Answer(events=streamed()[:2], endless=True)]
    with client(stub) as nerite:
        if way == "with":
            with nerite.stream("a tree") as events:
                next(events)
        elif way == "close":
            events = nerite.stream("a tree")
            next(events)
            events.close()
        else:
            for _ in nerite.stream("a tree"):
                break
            gc.collect()
        assert stub.left.wait(20)
        assert nerite.paint("a house").size == (16, 16)


async def test_leaving_a_stream_hangs_up_on_a_loop(stub: Stub) -> None:
    stub.answers = [Answer(events=streamed()[:2], endless=True)]
    async with AsyncClient(stub.url) as nerite:
        async with nerite.stream("a tree") as events:
            async for event in events:
                assert isinstance(event, Progress)
                break
        assert await asyncio.to_thread(stub.left.wait, 20)


def test_a_stream_has_a_time_as_well(stub: Stub) -> None:
    with client(stub) as nerite:
        nerite.paint("a tree")
        stub.answers = [Answer(events=streamed()[:2], endless=True)]
        with pytest.raises(api.TimedOut):
            for _ in nerite.stream("a tree", timeout=2):
                pass
        assert stub.left.wait(20)


def test_an_error_amid_a_stream_is_raised(stub: Stub) -> None:
    error = {"error": {"message": "out of memory", "type": "server_error", "code": None}}
    stub.answers = [Answer(events=[*streamed()[:2], ("error", error)])]
    with client(stub) as nerite, nerite.stream("a tree") as events:
        assert isinstance(next(events), Progress)
        next(events)
        with pytest.raises(api.ApiError, match="out of memory"):
            next(events)


def test_a_stream_that_breaks_off_is_a_failed_connection(stub: Stub) -> None:
    stub.answers = [Answer(events=streamed()[:2], hang_up=True)]
    with client(stub) as nerite, pytest.raises(api.ConnectionFailed):
        list(nerite.stream("a tree"))


def test_a_stream_of_newer_events_is_read(stub: Stub) -> None:
    newer = ("image_generation.thought", {"type": "image_generation.thought"})
    stub.answers = [Answer(events=[newer, *streamed()[-1:]])]
    with client(stub) as nerite:
        assert len(list(nerite.stream("a tree"))) == 1


def test_a_refused_stream_is_refused(stub: Stub) -> None:
    stub.answers = [refusal(400), json_answer({})]
    with client(stub) as nerite:
        with pytest.raises(api.BadRequest):
            list(nerite.stream("a tree"))
        with pytest.raises(api.UnexpectedAnswer, match="but not with a stream"):
            list(nerite.stream("a tree"))


def test_threads_share_a_client(stub: Stub) -> None:
    sizes: list[tuple[int, int]] = []
    with client(stub) as nerite:
        threads = [
            threading.Thread(target=lambda n=n: sizes.append(nerite.paint("a", size=(n, n)).size))
            for n in (8, 16, 24, 32)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(sizes) == [(8, 8), (16, 16), (24, 24), (32, 32)]


def test_a_client_that_is_forgotten_leaves_no_thread(stub: Stub) -> None:
    nerite = client(stub)
    nerite.paint("a tree")
    del nerite
    gc.collect()
    deadline = time.monotonic() + 20
    while any(thread.name == "nerite client" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Client, AsyncClient), (Jobs, AsyncJobs), (Models, AsyncModels)]
)
def test_both_clients_have_the_same_methods(ours: type, theirs: type) -> None:
    def public(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        named = {name: list(inspect.signature(one).parameters) for name, one in methods}
        return {name: found for name, found in named.items() if not name.startswith("_")}

    twins = public(theirs)
    if "aclose" in twins:
        twins["close"] = twins.pop("aclose")
    assert public(ours) == twins


def test_importing_nerite_imports_little_and_the_client_no_server() -> None:
    code = (
        "import sys, nerite; early = set(sys.modules); nerite.Client;"
        "print('httpx2' in early, 'PIL' in early, sorted(m for m in sys.modules if"
        " m.startswith('nerite.') and not m.startswith('nerite.client')), 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False False [] False\n", done.stderr


def test_jobs(stub: Stub) -> None:
    def job(status: str, **more: Any) -> dict[str, Any]:
        asked = {"prompt": "a tree", "n": 1}
        told = {"id": "j1", "object": "image.job", "status": status, "created_at": 5.0}
        return told | {"queue_position": 0, "progress": 0.5, "request": asked} | more

    done = job("succeeded", progress=1, result=painted({}), error=None)
    updates = [("job.updated", job("running")), ("job.preview", {"b64_json": png()})]
    stub.answers = [
        json_answer(job("queued"), 202),
        Answer(events=[*updates, ("job.updated", done)]),
        json_answer(done),
        json_answer({"object": "list", "data": [done]}),
        json_answer(job("cancelled")),
        Answer(events=[("job.updated", job("failed"))]),
        json_answer(job("failed", error={"message": "out of memory"})),
    ]
    with client(stub) as nerite:
        queued = nerite.jobs.submit("a tree", idempotency_key="k")
        assert (queued.status, queued.progress, queued.finished) == ("queued", 0.5, False)
        assert stub.asked[0].headers["idempotency-key"] == "k"
        finished = nerite.jobs.wait("j1")
        assert finished.pictures[0].image.info["prompt"] == "a tree"
        assert [one.id for one in nerite.jobs.list(3)] == ["j1"]
        cancelled = nerite.jobs.cancel("j1")
        assert cancelled is not None and cancelled.status == "cancelled"
        with pytest.raises(api.JobFailed, match="job j1 failed: out of memory") as caught:
            nerite.jobs.wait("j1")
        assert caught.value.job.error == "out of memory"
    paths = [f"{one.method} {one.path}" for one in stub.asked]
    assert paths[:5] == [
        "POST /v1/images/jobs",
        "GET /v1/images/jobs/j1/events",
        "GET /v1/images/jobs/j1",
        "GET /v1/images/jobs?limit=3",
        "DELETE /v1/images/jobs/j1",
    ]
