"""`nerite generate` against servers that misbehave in ways a real one does not."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.client.stub import Answer, Asked, Stub, json_answer, png, refusal, serving, streamed

from nerite.cli import main


class Painting(Stub):
    """A server that streams as many pictures as it is asked for."""

    def answer(self, asked: Asked) -> Answer:
        if self.answers or not asked.body:
            return super().answer(asked)
        self.asked.append(asked)
        body = asked.body
        width, height = map(int, body.get("size", "16x16").split("x"))
        kind, seed = "image_generation", body.get("seed", 99)
        events: list[tuple[str, dict[str, Any]]] = []
        for index in range(body["n"]):
            data = {"b64_json": png(width, height), "seed": seed + index, "model": "brush"}
            data |= {name: body[name] for name in ("steps",) if name in body}
            events += streamed(kind, min(body.get("partial_images", 0), 2))[:-1]
            events.append((f"{kind}.completed", data | {"image_index": index}))
        return Answer(events=events)


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving(Painting()) as stub:
        yield stub


def generate(stub: Stub, *arguments: str) -> int:
    return main(["generate", "a red house", "--url", stub.url, *arguments])


def test_a_picture_carries_its_origin(stub: Stub, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "house.png"
    assert generate(stub, "-o", str(file), "--seed", "5", "--size", "32x24", "--steps", "3") == 0
    with Image.open(file) as image:
        assert image.size == (32, 24)
        assert image.info["prompt"] == "a red house"
        assert image.info["seed"] == "5"
        settings = {"model": "brush", "size": "32x24", "steps": 3}
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


def test_more_pictures_than_a_request_may_ask_for(stub: Stub, tmp_path: Path, capsys: Any) -> None:
    assert generate(stub, "-o", str(tmp_path / "a.png"), "--n", "23", "--seed", "100") == 0
    assert sorted(one.body["n"] for one in stub.asked) == [3, 10, 10]
    for number in (1, 11, 23):
        with Image.open(tmp_path / f"a-{number}.png") as image:
            assert image.info["seed"] == str(99 + number)
    assert len(capsys.readouterr().out.splitlines()) == 23


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jpg", "jpeg"), ("a.webp", "webp"), ("a.PNG", "png")]
)
def test_the_files_name_says_the_format(stub: Stub, tmp_path: Path, name: str, kind: str) -> None:
    assert generate(stub, "-o", str(tmp_path / name)) == 0
    assert stub.asked[0].body["output_format"] == kind
    assert (tmp_path / name).stat().st_size > 0


def test_previews_are_kept(stub: Stub, tmp_path: Path) -> None:
    stub.answers = [Answer(events=streamed(previews=2))]
    folder = tmp_path / "previews"
    folder.mkdir()
    assert generate(stub, "-o", str(tmp_path / "a.png"), "--previews", str(folder)) == 0
    names = ["a-preview-00.png", "a-preview-01.png"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert stub.asked[0].body["previews"] == 10


def test_a_picture_to_start_from(stub: Stub, tmp_path: Path) -> None:
    start = tmp_path / "start.png"
    Image.new("RGB", (8, 8)).save(start)
    stub.answers = [Answer(events=streamed("image_edit"))]
    options = ["--image", str(start), "--mask", str(start), "--strength", "0.4"]
    assert generate(stub, "-o", str(tmp_path / "a.png"), *options) == 0
    asked = stub.asked[0]
    assert asked.path == "/v1/images/edits"
    assert asked.body["strength"] == 0.4
    assert asked.body["mask"]["image_url"] == asked.body["images"][0]["image_url"]


def test_the_file_is_named_after_the_prompt(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert generate(stub) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["a-red-house.png"]


def test_only_what_was_said_is_sent(stub: Stub, tmp_path: Path) -> None:
    assert generate(stub, "-o", str(tmp_path / "a.png")) == 0
    asked = stub.asked[0]
    assert asked.path == "/v1/images/generations"
    assert asked.body == {
        "prompt": "a red house",
        "n": 1,
        "stream": True,
        "progress": True,
        "partial_images": 0,
        "output_format": "png",
    }


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answer(hang_up=True), "but not with a stream"),
        (Answer(events=[], hang_up=True), "closed the connection before it had answered;"),
        (Answer(events=[]), "ended its stream before the picture was there"),
        (refusal(400, "steps is 0"), ": steps is 0\n"),
        (refusal(401, "no key"), "name one with --api-key"),
        (Answer(b"<html>hello</html>"), "answers, but not with a stream"),
        (Answer(b"[]", 502), "answers with status 502: no server with an images API."),
        (json_answer({"error": "Not Found"}, 404), "status 404: no server with an images API."),
    ],
)
def test_the_servers_troubles_are_one_sentence(
    stub: Stub, tmp_path: Path, capsys: Any, answer: Answer, sentence: str
) -> None:
    stub.answers = [answer]
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
        (["-o", "house.gif"], "must end in .png or .jpg or .jpeg or .webp."),
        (["-o", "no/such/folder/house.png"], "there is no folder no/such/folder"),
        (["-o", "/dev/full/house.png"], "there is no folder /dev/full"),
        (["--previews", "nowhere"], "there is no folder nowhere"),
        (["--image", "nothing.png"], "nothing.png: No such file or directory."),
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
