"""/v1/images/jobs of a real server."""

import concurrent.futures
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ...conftest import ServerProcess
from .client import (
    JOBS,
    accepted,
    alike,
    connect,
    data_url,
    events,
    finished,
    pictures,
    post,
    shade,
)


def test_a_job_from_its_acceptance_to_its_end(painter_server: ServerProcess) -> None:
    with connect(painter_server) as client:
        job = accepted(client, steps=4, n=2)
        assert job["object"] == "image.job" and job["status"] in ("queued", "running")
        assert job["result"] is None and job["error"] is None
        assert job["request"] == {
            "model": "painter",
            "prompt": "a red house",
            "n": 2,
            "steps": 4,
            "seed": job["request"]["seed"],
        }
        done = finished(client, job["id"])
        assert (done["status"], done["progress"], done["error"]) == ("succeeded", 1.0, None)
        assert done["expires_at"] == done["finished_at"] + 86400
        seed = job["request"]["seed"]
        assert [datum["seed"] for datum in done["result"]["data"]] == [seed, seed + 1]
        assert [picture.size for picture in pictures(done)] == [(128, 128)] * 2
        body = {"prompt": "a red house", "steps": 4, "n": 2, "seed": seed}
        again = client.post("/v1/images/generations", json=body).json()
        assert again.keys() == done["result"].keys()
        assert alike({"result": again}, done)


def test_events_tell_how_it_goes(painter_server: ServerProcess) -> None:
    with connect(painter_server) as client:
        job = accepted(client, steps=10, partial_images=3)
        told = list(events(client, job["id"]))
        updates = [data for name, data in told if name == "job.updated"]
        assert {data["id"] for data in updates} == {job["id"]}
        assert updates[-1]["status"] == "succeeded" and updates[-1]["result"]
        progress = [data["progress"] for data in updates]
        assert progress == sorted(progress) and len(set(progress)) > 5
        previews = [data for name, data in told if name == "job.preview"]
        assert previews and all(data["b64_json"] and data["step"] for data in previews)
        assert list(events(client, job["id"])) == [("job.updated", finished(client, job["id"]))]


def test_a_key_means_one_job(shade_server: ServerProcess) -> None:
    with connect(shade_server) as client:
        first = accepted(client, "key one", n=2)
        again = post(client, "key one", n=2)
        assert again.status_code == 202 and again.json()["id"] == first["id"]
        assert again.headers["idempotent-replayed"] == "true"
        done = finished(client, first["id"])
        assert post(client, "key one", n=2).json() == done
        other = post(client, "key one", n=3)
        assert other.status_code == 409
        assert other.json()["error"]["code"] == "idempotency_key_reused"
        assert other.headers["x-should-retry"] == "false"
        assert post(client, "key two", n=3).json()["id"] != first["id"]
        assert post(client, "", n=3).status_code == 400
        assert post(client, "k" * 256).json()["error"]["param"] == "Idempotency-Key"


def test_one_key_at_once_from_many(shade_server: ServerProcess) -> None:
    with connect(shade_server) as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(accepted, client, "many") for _ in range(16)]
        assert len({job.result()["id"] for job in asked}) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 11}, "n"),
        ({"n": "2"}, "n"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 40_000}, "prompt"),
        ({"steps": 3}, "steps"),  # which `shade` does not take
        ({"size": "9x9"}, "size"),
        ({"stream": True}, "stream"),
        ({"response_format": "url"}, "response_format"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_painted_is_not_accepted(
    shade_server: ServerProcess, body: dict[str, object], param: str
) -> None:
    with connect(shade_server) as client:
        answer = post(client, **body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == param and error["type"] == "invalid_request_error"
        assert client.post(JOBS, content=b"{").status_code == 400
        assert post(client, model="nobody").status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"guidance_scale": 101}, "guidance_scale"),
        ({"scheduler": "../../etc"}, "scheduler"),
        ({"seed": (1 << 63) - 1, "n": 2}, "seed"),
        ({"steps": 1001}, "steps"),
        ({"size": "100x100"}, "size"),
    ],
)
def test_what_the_engine_would_refuse_is_refused_before(
    painter_server: ServerProcess, body: dict[str, object], param: str
) -> None:
    with connect(painter_server) as client:
        answer = post(client, **body)
        assert answer.status_code == 400 and answer.json()["error"]["param"] == param


def test_who_fails_says_why(shade_server: ServerProcess) -> None:
    with connect(shade_server) as client:
        done = finished(client, accepted(client, prompt="fail")["id"])
        assert done["status"] == "failed" and done["result"] is None
        assert "the paint is dry" in done["error"]["message"]
        assert set(done["error"]) == {"message", "type", "param", "code"}


def test_a_model_that_dies_costs_no_job(shade_server: ServerProcess, tmp_path: Path) -> None:
    with connect(shade_server) as client:
        job = accepted(client, prompt=f"die once {tmp_path / 'mark'}", seed=77)
        done = finished(client, job["id"])
        assert done["status"] == "succeeded" and shade(done) == 77


def test_cancelled_deleted_and_unknown_jobs(
    serve: Callable[..., ServerProcess], shades: Path
) -> None:
    server = serve("--model-repository", str(shades), "--job-images", "1")
    with connect(server) as client:
        jobs = [accepted(client, prompt="slow", n=10) for _ in range(3)]
        for job in reversed(jobs):
            assert client.delete(f"{JOBS}/{job['id']}").json()["status"] == "cancelled"
        assert list(events(client, jobs[0]["id"]))[-1][1]["status"] == "cancelled"
        deleted = client.delete(f"{JOBS}/{jobs[0]['id']}").json()
        assert deleted == {"id": jobs[0]["id"], "object": "image.job", "deleted": True}
        for path in (jobs[0]["id"], "job_nobody", "..%2f..%2fetc%2fpasswd", "%00"):
            for ask in (client.get, client.delete):
                answer = ask(f"{JOBS}/{path}")
                assert answer.status_code == 404 and "error" in answer.json(), path
        assert client.get(f"{JOBS}/job_nobody/events").status_code == 404
        assert finished(client, accepted(client)["id"])["status"] == "succeeded"


def test_the_list_is_in_pages(serve: Callable[..., ServerProcess], shades: Path) -> None:
    with connect(serve("--model-repository", str(shades))) as client:
        assert client.get(JOBS).json()["data"] == []
        ids = [accepted(client)["id"] for _ in range(5)]
        for id in ids:
            finished(client, id)
        page = client.get(JOBS, params={"limit": 3}).json()
        assert [job["id"] for job in page["data"]] == ids[:1:-1] and page["has_more"]
        assert {job["result"] for job in page["data"]} == {None}
        page = client.get(JOBS, params={"after": page["last_id"]}).json()
        assert [job["id"] for job in page["data"]] == ids[1::-1] and not page["has_more"]
        for wrong in ({"limit": "0"}, {"limit": "x"}, {"limit": "101"}, {"after": "nobody"}):
            answer = client.get(JOBS, params=wrong)
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == next(iter(wrong))


def test_who_comes_late_is_told_to_come_again(
    serve: Callable[..., ServerProcess], shades: Path
) -> None:
    with connect(serve("--model-repository", str(shades), "--max-jobs", "2")) as client:
        jobs = [accepted(client, key, prompt="slow", n=10) for key in ("a", "b")]
        late = post(client)
        assert late.status_code == 429 and int(late.headers["retry-after"]) >= 1
        assert late.json()["error"]["type"] == "rate_limit_error"
        assert post(client, "a", prompt="slow", n=10).json()["id"] == jobs[0]["id"]
        client.delete(f"{JOBS}/{jobs[0]['id']}")
        accepted(client)


def test_each_api_key_has_its_own_jobs(
    serve: Callable[..., ServerProcess], shades: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    server = serve("--model-repository", str(shades), "--api-key-file", str(keys))
    one, two = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
    with connect(server, headers=one) as mine, connect(server, headers=two) as others:
        job = accepted(mine, "key")
        finished(mine, job["id"])
        assert others.get(f"{JOBS}/{job['id']}").status_code == 404
        assert others.get(f"{JOBS}/{job['id']}/events").status_code == 404
        assert others.delete(f"{JOBS}/{job['id']}").status_code == 404
        assert others.get(JOBS).json()["data"] == []
        assert accepted(others, "key", n=2)["id"] != job["id"]
        same = mine.get(f"{JOBS}/{job['id']}", headers={"x-api-key": "one", "Authorization": ""})
        assert same.status_code == 200
    with connect(server) as nobody:
        assert post(nobody).status_code == 401


def test_a_picture_is_painted_over(painter_server: ServerProcess) -> None:
    """The answer has the mask's hole painted anew; pictures are not told back."""
    source = Image.new("RGB", (128, 128), "white")
    hole = Image.new("L", (128, 128), 0)
    hole.paste(255, (0, 0, 64, 128))
    body = {"images": [{"image_url": data_url(source)}], "mask": {"image_url": data_url(hole)}}
    with connect(painter_server) as client:
        job = accepted(client, steps=4, seed=5, **body)
        assert job["request"]["images"] == [{"image_url": "data:image/png;base64,..."}]
        assert job["request"]["mask"] == {"image_url": "data:image/png;base64,..."}
        done = finished(client, job["id"])
        assert done["status"] == "succeeded"
        json = {"prompt": "a red house", "steps": 4, "seed": 5, **body}
        again = client.post("/v1/images/edits", json=json).json()
        assert alike({"result": again}, done)
        wrong = post(client, images=[{"image_url": "data:image/png;base64,AAAA"}])
        assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "images"
