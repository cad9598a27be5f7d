"""config.pbtxt read, completed, checked and shown."""

from pathlib import Path

import pytest

from nerite.core.errors import InferenceError
from nerite.repository import config as configs
from nerite.repository.config import ModelConfig
from nerite.repository.repository import Repository

GOOD = """
# a comment
name: "m"
backend: "python"
max_batch_size: 8
input [ { name: "a" data_type: TYPE_FP32 dims: [ -1, 3 ] } ]
output { name: "b", data_type: TYPE_STRING, dims: 1 }
parameters { key: "steps" value { string_value: "20" } }
dynamic_batching { max_queue_delay_microseconds: 100 }
"""


def write(folder: Path, text: str | None, *versions: str) -> Path:
    folder.mkdir(parents=True)
    for version in versions or ("1",):
        (folder / version).mkdir()
    if text is not None:
        (folder / "config.pbtxt").write_text(text)
    return folder


def test_read_and_show(tmp_path: Path) -> None:
    config = configs.read(write(tmp_path / "m", GOOD) / "config.pbtxt")
    shown = configs.to_dict(config)
    assert shown["max_batch_size"] == 8
    assert shown["input"][0]["dims"] == [-1, 3]
    assert shown["output"][0]["data_type"] == "TYPE_STRING"
    assert shown["parameters"] == {"steps": {"string_value": "20"}}
    assert shown["dynamic_batching"]["max_queue_delay_microseconds"] == 100
    assert "sequence_batching" not in shown
    assert configs.from_dict(shown) == config


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ('name: "m"\nbackendd: "x"\n', "2:1", 'no field named "backendd"'),
        ("max_batch_size: many\n", "1:17", "Expected integer, got: many"),
        ("max_batch_size: 3000000000\n", "1:17", "Integer out of range (3000000000)"),
        ("default_model_filename: 4\n", "1:25", ""),
        ('input [ { name: "a" data_type: TYPE_FLOAT } ]', "1:32", "TYPE_FLOAT"),
        ('input [ { name: "a" data_type: 99 } ]', "1:21", "no value with number 99"),
        ('input [ { name: "a" ', "1:17", 'Expected "}"'),
        ("max_batchsize: 8", "1:1", "Did you mean max_batch_size?"),
        ('name: "m\n', "1:7", ""),
    ],
)
def test_a_broken_file_is_told_by_place(
    tmp_path: Path, text: str, where: str, expected: str
) -> None:
    file = write(tmp_path / "m", text) / "config.pbtxt"
    with pytest.raises(InferenceError) as caught:
        configs.read(file)
    assert caught.value.message.startswith(f"{file}:{where}: ")
    assert expected in caught.value.message
    assert caught.value.message.splitlines()[-1].strip() == "^"


def test_scan_completes_and_chooses_versions(tmp_path: Path) -> None:
    write(tmp_path / "latest", 'backend: "python"', "1", "3", "12", "007", "x")
    write(tmp_path / "all", 'backend: "python" version_policy { all {} }', "1", "3")
    specific = 'backend: "python" version_policy { specific { versions: [ 1, 9 ] } }'
    write(tmp_path / "specific", specific, "1", "3")
    write(tmp_path / ".git", None)
    guessed = write(tmp_path / "guessed", None)
    (guessed / "1" / "model.py").touch()
    nested = write(tmp_path / "nested", None)
    (nested / "1" / "sd").mkdir()
    (nested / "1" / "sd" / "model_index.json").touch()
    entries = {entry.name: entry for entry in Repository([tmp_path]).scan()}
    versions = {name: entry.versions for name, entry in entries.items()}
    assert versions == {
        "latest": [12],
        "all": [1, 3],
        "specific": [1],
        "guessed": [1],
        "nested": [1],
    }
    assert all(entry.error is None for entry in entries.values())
    assert entries["guessed"].config.backend == "python"
    assert entries["nested"].config.backend == "diffusion"
    (group,) = entries["latest"].config.instance_group
    assert (group.name, group.count) == ("latest", 1)


def test_what_is_wrong_with_one_model_is_told_with_it(tmp_path: Path) -> None:
    write(tmp_path / "one" / "twice", 'backend: "python"')
    write(tmp_path / "two" / "twice", 'backend: "python"')
    write(tmp_path / "one" / "other", 'name: "another" backend: "python"')
    write(tmp_path / "one" / "nothing", None)
    entries = Repository([tmp_path / "one", tmp_path / "two"]).scan()
    errors = {entry.name: entry.error.message for entry in entries if entry.error}
    assert "appears in two or more repositories" in errors["twice"]
    assert "unexpected directory name 'other' for model 'another'" in errors["other"]
    assert "Could not determine backend for model 'nothing'" in errors["nothing"]


def test_a_backend_in_the_models_name(tmp_path: Path) -> None:
    """What has a backend's file is that backend's all the same."""
    write(tmp_path / "repeat.identity", None)
    write(tmp_path / "plain.identity", None)
    (tmp_path / "plain.identity" / "1" / "model.py").touch()
    entries = {entry.name: entry for entry in Repository([tmp_path]).scan()}
    assert entries["repeat.identity"].config.backend == "identity"
    assert entries["plain.identity"].config.backend == "python"


def test_a_config_of_the_wrong_shape() -> None:
    with pytest.raises(InferenceError, match="inputs"):
        configs.from_dict({"inputs": []})
    assert configs.from_dict({"name": "m"}) == ModelConfig(name="m")


def test_defaults_are_written_as_triton_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configs, "gpus", list)
    config = GOOD.replace(
        "dynamic_batching { max_queue_delay_microseconds: 100 }",
        "dynamic_batching {} instance_group [ {}, { count: 2 kind: KIND_GPU } ]",
    )
    write(tmp_path / "m", config)
    (entry,) = Repository([tmp_path]).scan()
    shown = configs.to_dict(entry.config)
    assert shown["version_policy"] == {"latest": {"num_versions": 1}}
    assert shown["dynamic_batching"]["preferred_batch_size"] == [8]
    assert shown["optimization"]["input_pinned_memory"] == {"enable": True}
    assert shown["default_model_filename"] == "model.py"
    groups = [(one["name"], one["kind"], one["count"]) for one in shown["instance_group"]]
    assert groups == [("m_0", "KIND_CPU", 1), ("m_1", "KIND_GPU", 2)]


@pytest.mark.parametrize(
    ("present", "backend", "group", "kind", "numbers"),
    [
        ([], "python", "", "KIND_CPU", []),
        ([], "python", "gpus: [ 0 ]", "KIND_CPU", []),
        ([0, 1], "python", "", "KIND_GPU", [0, 1]),
        ([0, 1], "python", "kind: KIND_GPU", "KIND_GPU", [0, 1]),
        ([0, 1], "python", "gpus: [ 1 ]", "KIND_GPU", [1]),
        ([0, 1], "python", "kind: KIND_CPU", "KIND_CPU", []),
        ([0, 1], "pytorch", "", "KIND_CPU", []),
        ([0, 1], "pytorch", "gpus: [ 1 ]", "KIND_GPU", [1]),
    ],
)
def test_groups_of_no_kind_are_where_their_backend_can_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    present: list[int],
    backend: str,
    group: str,
    kind: str,
    numbers: list[int],
) -> None:
    monkeypatch.setattr(configs, "gpus", lambda: present)
    monkeypatch.setattr(configs, "uses_gpu", lambda name: name == "python")
    write(tmp_path / "m", f'backend: "{backend}" instance_group {{ {group} }}')
    (entry,) = Repository([tmp_path]).scan()
    (shown,) = configs.to_dict(entry.config)["instance_group"]
    assert (shown["kind"], shown["gpus"]) == (kind, numbers)


def test_onnx_models_get_two_instances_on_the_cpu_where_none_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "two", 'backend: "onnxruntime"')
    write(tmp_path / "one", 'backend: "onnxruntime" instance_group { count: 1 }')
    counts = {one.name: one.config.instance_group[0].count for one in Repository([tmp_path]).scan()}
    assert counts == {"one": 1, "two": 2}
