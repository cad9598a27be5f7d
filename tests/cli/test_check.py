"""`nerite check` on repositories good and bad."""

import json
from pathlib import Path

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
        ("FP32", "INT8", "inconsistent data type: TYPE_INT8 is inferred from model e while"),
        ('"m"', '"x"', "e/config.pbtxt: no model 'x' for a step; the repository has e, m"),
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
        (CONFIG.replace("dims", "dim"), CODE, 'config.pbtxt:4:42: Message type "inference.Model'),
        (CONFIG.replace("python", "pyton"), CODE, "unknown backend 'pyton'; there are diffusion"),
        (CONFIG, None, "1/model.py: not there; it must define the class TritonPythonModel"),
        (CONFIG, "class X: pass\n", "1/model.py: no class TritonPythonModel"),
        (CONFIG, "class TritonPythonModel: pass\n", "model.py:1: TritonPythonModel has no method"),
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


def test_a_repository_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none")]) == 1
    assert "does not exist; the nearest folder that does" in capsys.readouterr().out
