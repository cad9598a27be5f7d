"""`nerite check` on repositories good and bad."""

import json
from pathlib import Path
from typing import Any

import pytest

from nerite import painter
from nerite.cli import main

CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "a" data_type: TYPE_FP32 dims: [ 4, -1 ] } ]
output [ { name: "b" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


def write(repository: Path, name: str, config: str | None, code: str | None = CODE) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    if config is not None:
        (folder.parent / "config.pbtxt").write_text(config)
    if code is not None:
        (folder / "model.py").write_text(code)


CHAIN = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "in" data_type: TYPE_FP32 dims: [ 4, -1 ] } ]
output [ { name: "out" data_type: TYPE_STRING dims: [ 1 ] } ]
ensemble_scheduling { step [ { model_name: "m" model_version: 1
  input_map { key: "a" value: "in" } output_map { key: "b" value: "out" } } ] }
"""


def test_an_ensemble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "m", CONFIG)
    write(tmp_path, "e", CHAIN, None)
    assert main(["check", str(tmp_path)]) == 0
    assert "e (ensemble, versions 1): ok\n  send  in: FP32 [any, 4, any]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "FP32",
            "INT8",
            "e/config.pbtxt:7:24: in ensemble e, ensemble tensor in: inconsistent data type",
        ),
        ('"m"', '"x"', "e/config.pbtxt:6:32: no model 'x' for a step. There are e, m."),
        ("version: 1", "version: 3", "version 3 of 'm' of a step is not one that is served"),
        ('"m"', '"e"', "circular dependency between ensembles: e -> ... -> e -> e"),
        ('"in" }', '"on" }', "ensemble input 'in' for ensemble e' is not used"),
        ("size: 8", "size: 9", "ensemble e allows maximum batch size 9, but it contains model m"),
    ],
)
def test_problems_of_an_ensemble(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, expected: str
) -> None:
    write(tmp_path, "m", CONFIG)
    write(tmp_path, "e", CHAIN.replace(old, new), None)
    assert main(["check", str(tmp_path)]) == 1
    assert expected in capsys.readouterr().out


def test_a_good_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "m", CONFIG)
    assert main(["check", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "m (python, versions 1): ok\n  send  a: FP32 [any, 4, any]\n  get   b: BYTES [any, 1]\n"
    )


def test_the_painter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(painter.REPOSITORY)]) == 0
    out = capsys.readouterr().out
    assert "prompt: BYTES [1]\n" in out
    assert "seed: INT64 [1], optional\n" in out


@pytest.mark.parametrize(
    ("config", "code", "expected"),
    [
        (
            CONFIG.replace("dims", "dim", 1),
            CODE,
            'config.pbtxt:4:42: Message type "inference.Model',
        ),
        (CONFIG.replace("python", "pyton"), CODE, "unknown backend 'pyton'; there are diffusion"),
        (CONFIG, None, "1/model.py: not there. It must define the class TritonPythonModel"),
        (CONFIG, "class X: pass\n", "1/model.py: no class TritonPythonModel"),
        (
            CONFIG,
            "class TritonPythonModel: pass\n",
            "model.py:1:1: TritonPythonModel has no method",
        ),
        (CONFIG, "def f(:\n", "1/model.py:1:7: "),
        (CONFIG.replace("-1", "0"), CODE, "model input 'a' dimension must be integer >= 1"),
        (CONFIG.replace('"b"', '"b" label_filename: "l.txt"'), CODE, "l.txt: the label file is"),
    ],
)
def test_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str, code: str | None, expected: str
) -> None:
    write(tmp_path, "good", CONFIG)
    write(tmp_path, "m", config, code)
    assert main(["check", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert expected in out
    assert "good (python, versions 1): ok" in out
    assert main(["check", "--format", "json", str(tmp_path)]) == 1
    good, bad = json.loads(capsys.readouterr().out)
    assert good["problems"] == []
    assert len(bad["problems"]) == 1


def problems(
    repository: Path, capsys: pytest.CaptureFixture[str], name: str = "m"
) -> list[dict[str, Any]]:
    """What `--format json` says of one model, which must be refused."""
    assert main(["check", "--format", "json", str(repository)]) == 1
    found = {one["name"]: one["problems"] for one in json.loads(capsys.readouterr().out)}
    result: list[dict[str, Any]] = found[name]
    return result


def places(found: list[dict[str, Any]]) -> list[tuple[str, int | None, int | None]]:
    return [(Path(one["file"]).name, one["line"], one["column"]) for one in found]


def test_all_that_the_text_has_wrong_with_place_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        tmp_path,
        "m",
        'backend: "python"\nmax_batchsize: 8\nmax_batch_size: "x"\n'
        'input { name: "A" data_type: FP32 dims: 1 }\ndynamic_batchin {}\n',
    )
    found = problems(tmp_path, capsys)
    assert found[0] == {
        "file": str(tmp_path / "m" / "config.pbtxt"),
        "line": 2,
        "column": 1,
        "message": 'Message type "inference.ModelConfig" has no field named "max_batchsize".',
        "remedy": "Did you mean max_batch_size?",
    }
    assert [(one["line"], one["column"], one["remedy"]) for one in found[1:]] == [
        (3, 17, None),
        (4, 30, "Did you mean TYPE_FP32?"),
        (5, 1, "Did you mean dynamic_batching?"),
    ]
    assert found[1]["message"] == 'Expected integer, got: "x"'


def test_all_that_the_rules_refuse_with_place_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        tmp_path,
        "m",
        """name: "other"
backend: "python"
max_batch_size: 4
dynamic_batching { preferred_batch_size: [ 2, 8 ] }
input [
  { name: "a" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 3 ] } },
  { name: "a" dims: [ 0 ] }
]
output { name: "b" data_type: TYPE_FP32 dims: 1 label_filename: "l.txt" }
instance_group { kind: KIND_CPU gpus: 1 }
""",
        None,
    )
    found = problems(tmp_path, capsys)
    assert places(found) == [
        ("config.pbtxt", 1, 1),
        ("config.pbtxt", 4, 47),
        ("config.pbtxt", 6, 48),
        ("config.pbtxt", 7, 3),
        ("config.pbtxt", 7, 5),
        ("config.pbtxt", 7, 23),
        ("config.pbtxt", 9, 49),
        ("config.pbtxt", 10, 33),
        ("model.py", None, None),
    ]
    assert all(one["remedy"] for one in found)


def test_all_that_an_ensemble_has_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "m", CONFIG)
    chain = CHAIN.replace("size: 8", "size: 9").replace('"a"', '"x"')
    write(tmp_path, "e", chain.replace("TYPE_STRING", "TYPE_INT8"), None)
    found = problems(tmp_path, capsys, "e")
    assert [(one["line"], one["column"]) for one in found] == [(3, 1), (6, 30), (7, 24), (7, 60)]


WARM = """model_warmup {
  name: "w" batch_size: 9
  inputs { key: "A" value { data_type: TYPE_FP32 dims: 2 input_data_file: "none" } }
}
model_warmup { name: "v" batch_size: 1
  inputs { key: "a" value { data_type: TYPE_FP32 dims: [ 4, 2 ] zero_data: true } }
}
"""


def test_samples_that_cannot_warm_it_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "m", CONFIG + WARM)
    batch, name, file = problems(tmp_path, capsys)
    assert [one["line"] for one in (batch, name, file)] == [7, 8, 8]
    assert batch["message"] == "warmup sample 'w' has a batch_size of 9, and max_batch_size is 8"
    assert name["message"] == "warmup sample 'w': the model has no input 'A'"
    assert name["remedy"] == "Did you mean a?"
    assert file["message"].endswith("m/warmup/none: No such file or directory")


def test_a_missing_input_of_a_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "m", CONFIG + 'model_warmup { name: "w" batch_size: 1 }')
    (found,) = problems(tmp_path, capsys)
    assert found["line"] == 6 and "missing required input(s) ['a']" in found["message"]


def test_a_sample_too_large_for_any_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = "data_type: TYPE_FP32 dims: [ 4, 1000000000000000000 ] random_data: true"
    sample = f'model_warmup {{ batch_size: 1 inputs {{ key: "a" value {{ {data} }} }} }}'
    write(tmp_path, "m", CONFIG + sample)
    (found,) = problems(tmp_path, capsys)
    assert (found["line"], found["column"]) == (6, 48)


def test_code_may_add_the_inputs_of_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = CODE + "    def auto_complete_config(config):\n        return config\n"
    write(tmp_path, "m", CONFIG + 'model_warmup { name: "w" batch_size: 1 }', code)
    assert main(["check", str(tmp_path)]) == 0


def test_an_environment_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parameter = """
parameters { key: "OTHER" value { string_value: "x" } }
parameters { key: "EXECUTION_ENV_PATH" value { string_value: "$$TRITON_MODEL_DIRECTORY/env" } }
"""
    write(tmp_path, "m", CONFIG + parameter)
    (found,) = problems(tmp_path, capsys)
    assert (found["line"], found["column"]) == (8, 48)
    assert f"'{tmp_path}/m/env' does not exist" in found["message"]
    (tmp_path / "m" / "env" / "bin").mkdir(parents=True)
    (tmp_path / "m" / "env" / "bin" / "python").touch()
    assert main(["check", str(tmp_path)]) == 0


def test_onnx_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        "whole": b"\x08\x0a\x3a\x03abc",
        "own": b"\x00\x00\x00\x00ORTM and what follows",
        "text": b"version https://git-lfs.github.com/spec/v1",
        "cut": b"\x08\x0a\x3a\x7fabc",
        "graphless": b"\x08\x0a",
        "gone": None,
    }
    for name, data in files.items():
        write(tmp_path, name, None, None)
        if data is None:
            (tmp_path / name / "config.pbtxt").write_text('backend: "onnxruntime"')
        else:
            (tmp_path / name / "1" / "model.onnx").write_bytes(data)
    assert main(["check", "--format", "json", str(tmp_path)]) == 1
    found = {one["name"]: one["problems"] for one in json.loads(capsys.readouterr().out)}
    told = {name: [one["message"] for one in wrong] for name, wrong in found.items()}
    no_model = ["no ONNX model"]
    assert told == {
        "whole": [],
        "own": [],
        "text": no_model,
        "cut": no_model,
        "graphless": no_model,
        "gone": ["not there"],
    }
    assert Path(found["cut"][0]["file"]) == tmp_path / "cut" / "1" / "model.onnx"


def test_two_folders_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "one", "m", CONFIG)
    write(tmp_path / "two", "m", CONFIG)
    folders = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main(["check", "--format", "json", *folders]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert [(one["message"], one["remedy"]) for one in found["problems"]] == [
        ("model appears in two or more repositories", "Rename or remove one of them.")
    ]


def test_a_version_policy_without_versions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "m", CONFIG + "version_policy { specific { versions: [ 5 ] } }")
    (found,) = problems(tmp_path, capsys)
    assert (found["line"], found["column"]) == (6, 29)
    assert found["message"].startswith("no version to serve")


def test_a_repository_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none")]) == 1
    assert "does not exist; the nearest folder that does" in capsys.readouterr().out
