"""A model.py without a server: LocalModel, the fixture, and `nerite run-model`."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nerite import InferenceError, LocalModel
from nerite.cli import main

CODE = """
    import numpy as np
    import triton_python_backend_utils as pb_utils


    class TritonPythonModel:
        @staticmethod
        def auto_complete_config(config):
            config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]})
            config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]})
            return config

        def initialize(self, args):
            family = pb_utils.MetricFamily("calls", "how many", pb_utils.MetricFamily.COUNTER)
            self.family, self.calls = family, family.Metric()

        def execute(self, requests):
            self.calls.increment(1)
            request = pb_utils.InferenceRequest(
                model_name="twice", inputs=requests[0].inputs(), requested_output_names=["OUT"]
            )
            response = request.exec()
            if response.has_error():
                return [pb_utils.InferenceResponse(error=response.error())]
            return [pb_utils.InferenceResponse(response.output_tensors(), parameters={"n": 1})]

        def finalize(self):
            print("finalized after", self.calls.value())
"""
ECHO = """
    import triton_python_backend_utils as pb_utils


    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("O" + one.name()[1:], one.as_numpy())
                     for one in request.inputs()]
                )
                for request in requests
            ]
"""
CONFIG = """
    backend: "python"
    max_batch_size: 4
    input [ { name: "IA" data_type: TYPE_INT32 dims: [ 2 ] },
            { name: "IB" data_type: TYPE_STRING dims: [ 1 ] optional: true } ]
    output [ { name: "OA" data_type: TYPE_INT32 dims: [ 2 ] },
             { name: "OB" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


@pytest.fixture
def asking(tmp_path: Path) -> Path:
    (tmp_path / "asking" / "1").mkdir(parents=True)
    (tmp_path / "asking" / "1" / "model.py").write_text(textwrap.dedent(CODE))
    return tmp_path / "asking"


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    (tmp_path / "echo" / "1").mkdir(parents=True)
    (tmp_path / "echo" / "1" / "model.py").write_text(textwrap.dedent(ECHO))
    (tmp_path / "echo" / "config.pbtxt").write_text(CONFIG)
    return tmp_path / "echo"


def twice(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"OUT": inputs["IN"] * 2}


def test_a_model_asks_functions(asking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LocalModel(asking, models={"twice": twice}) as model:
        out = model.infer({"IN": np.array([1, 2], np.float32)})["OUT"]
        np.testing.assert_array_equal(out, [2, 4])
        (response,) = model.stream({"IN": np.array([3], np.float32)})
        assert response.parameters == {"n": 1}
    assert "finalized after 2.0" in capsys.readouterr().out


def test_a_model_that_is_not_given_is_named(asking: Path, local_model: Any) -> None:
    model = local_model(asking / "1" / "model.py")
    with pytest.raises(InferenceError, match="asks model 'twice', and there is no server"):
        model.infer({"IN": np.zeros(1, np.float32)})


def test_inputs_are_held_to_the_config(echo: Path, local_model: Any) -> None:
    with pytest.raises(InferenceError, match="IA"):
        local_model(echo / "1").infer({"IA": np.zeros((1, 3), np.int32)})


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="neither a model's folder nor a model.py"):
        LocalModel(tmp_path / "nothing")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_run_model(echo: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(here / "a.npy", np.array([5, 6]))
    status = main(["run-model", "echo", "--input", "IA=a.npy", "--input", "IB=hi", "--save", "o"])
    assert status == 0
    assert capsys.readouterr().out == "OA INT32 [1, 2]\n[[5 6]]\nOB BYTES [1, 1]\n[['hi']]\n"
    np.testing.assert_array_equal(np.load(here / "o" / "OA.npy"), [[5, 6]])
    assert main(["run-model", "echo", "--input", "IA=[[1,2],[3,4]]"]) == 0
    assert "[[1 2]\n [3 4]]" in capsys.readouterr().out
    assert main(["run-model", "echo", "--input", f"IA=[5,{' ' * 500}6]"]) == 0  # no file's name
    assert "[[5 6]]" in capsys.readouterr().out


def test_run_model_says_what_is_wrong(
    echo: Path, asking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run-model", str(echo), "--input", "NO=1"]) == 1
    assert "say NAME=VALUE, where NAME is one of IA, IB" in capsys.readouterr().err
    assert main(["run-model", str(asking), "--input", "IN=[1]"]) == 1
    assert "asks model 'twice'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[1,3000000000]", "is not INT32"),
        ('["a"]', "is not INT32"),
        ('{"a": 1}', "is not INT32"),
        ("[[1],[2,3]]", "is not INT32"),
        ("[1,", "is neither a file nor JSON"),
        ("nosuch.npy", "is neither a file nor JSON"),
        ("bad.npy", "is not INT32"),
    ],
)
def test_run_model_says_which_input_is_wrong(
    echo: Path, here: Path, capsys: pytest.CaptureFixture[str], value: str, said: str
) -> None:
    (here / "bad.npy").write_bytes(b"no numpy")
    assert main(["run-model", "echo", "--input", f"IA={value}"]) == 1
    assert f"error: --input IA={value}: '{value}' {said}" in capsys.readouterr().err


def test_an_input_that_is_no_array(echo: Path, local_model: Any) -> None:
    with pytest.raises(InferenceError) as caught:
        local_model(echo).infer({"IA": [1, 2]})
    assert caught.value.message == (
        "input 'IA' of model 'echo' is [1, 2], of type list: give it as a numpy array, as "
        "np.array(..., 'int32')"
    )


AGAIN = """
    import numpy as np
    import triton_python_backend_utils as pb_utils


    class TritonPythonModel:
        left = None

        def execute(self, requests):
            (request,) = requests
            if request.flags() or self.left is None:
                self.left = int(request.inputs()[0].as_numpy()[0, 0])
            self.left -= 1
            if self.left > 0:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                return [None]
            out = pb_utils.Tensor("OA", np.array([[request.flags(), self.left]], np.int32))
            return [pb_utils.InferenceResponse([out])]
"""


def test_a_model_that_wants_to_run_again(echo: Path, local_model: Any) -> None:
    (echo / "1" / "model.py").write_text(textwrap.dedent(AGAIN))
    asked = {"IA": np.array([[3000, 0]], np.int32)}
    with pytest.raises(InferenceError, match="Set 'iterative_sequence: true' in its"):
        local_model(echo).infer(asked)
    config = CONFIG + "sequence_batching { iterative_sequence: true }"
    (echo / "config.pbtxt").write_text(config)
    model = local_model(echo)
    for _ in range(2):
        assert model.infer(asked)["OA"].tolist() == [[0, 0]]


TALKS = """
    import triton_python_backend_utils as pb_utils


    class TritonPythonModel:
        @staticmethod
        def auto_complete_config(config):
            config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]})
            config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]})
            return config

        def execute(self, requests):
            pb_utils.Logger.log_info("a word")
            return WHAT
"""


def talks(folder: Path, what: str) -> Path:
    (folder / "talks" / "1").mkdir(parents=True)
    (folder / "talks" / "1" / "model.py").write_text(textwrap.dedent(TALKS).replace("WHAT", what))
    return folder / "talks"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("'x'", "Expected a list in the execute return, found type '<class 'str'>'"),
        ("['x']", "Expected an 'InferenceResponse' object in the execute function return list"),
        ("[]", "InferenceRequest(s) size is:1, and InferenceResponse(s) size is:0"),
    ],
)
def test_answers_that_are_none(
    tmp_path: Path, local_model: Any, caplog: pytest.LogCaptureFixture, what: str, said: str
) -> None:
    caplog.set_level("INFO")
    model = local_model(talks(tmp_path, what))
    with pytest.raises(InferenceError) as caught:
        model.infer({"IN": np.zeros(1, np.float32)})
    assert said in caught.value.message
    remedy = "Return a list of an InferenceResponse for each request in talks/1/model.py."
    assert remedy in caught.value.message
    assert "[talks_0] a word" in caplog.messages


def test_a_model_that_is_not_in_python(tmp_path: Path) -> None:
    (tmp_path / "graph" / "1").mkdir(parents=True)
    (tmp_path / "graph" / "1" / "model.onnx").touch()
    (tmp_path / "graph" / "config.pbtxt").write_text('backend: "onnxruntime"')
    with pytest.raises(InferenceError, match="is a model of backend 'onnxruntime', and only those"):
        LocalModel(tmp_path / "graph")
