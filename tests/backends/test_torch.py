"""The pytorch backend on programs made here."""

import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nerite.backends.base import ModelSpec  # noqa: E402
from nerite.backends.torch.backend import TorchBackend  # noqa: E402
from nerite.backends.torch.naming import positions  # noqa: E402
from nerite.core.call import Answer, Call  # noqa: E402
from nerite.core.errors import InferenceError  # noqa: E402
from nerite.core.request import Request, Response  # noqa: E402


class Sub(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x - y


class Scaled(torch.nn.Module):
    def forward(self, x: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
        return x * factor


class OfDict(torch.nn.Module):
    def forward(self, given: dict[str, torch.Tensor]) -> tuple[torch.Tensor, list[str]]:
        return given["a"] + given["b"], ["one", "two"]


class Texts(torch.nn.Module):
    def forward(self, texts: list[str]) -> list[str]:
        return [text.upper() for text in texts]


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor, more: dict[str, torch.Tensor], *, bias: torch.Tensor) -> Any:
        return {"sum": x + bias, "parts": (x - bias, more["k"] * 2)}


def scripted(folder: Path, module: Any) -> None:
    (folder / "1").mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(folder / "1" / "model.pt"))


def nested() -> Any:
    """Exported for any number of rows of three."""
    rows, others, third = torch.ones(3, 2, 3)  # one tensor thrice would be exported as one
    free = {0: torch.export.Dim("rows")}
    shapes = {"x": free, "more": {"k": free}, "bias": free}
    arguments, keywords = (rows, {"k": others}), {"bias": third}
    return torch.export.export(Nested(), arguments, keywords, dynamic_shapes=shapes)


def exported(folder: Path) -> None:
    (folder / "1").mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(nested(), str(folder / "1" / "model.pt2"))


def tensors(kind: str, *names: str) -> list[dict[str, Any]]:
    return [{"name": name, "data_type": f"TYPE_{kind}", "dims": [3]} for name in names]


def spec(folder: Path, inputs: Any, outputs: Any, **parameters: str) -> ModelSpec:
    config = {
        "name": "m",
        "input": inputs,
        "output": outputs,
        "parameters": {name: {"string_value": text} for name, text in parameters.items()},
    }
    return ModelSpec("m", 1, folder, "m_0", "cpu", 0, config)


def loaded(found: ModelSpec) -> TorchBackend:
    backend = TorchBackend()
    backend.load(found)
    return backend


def run(backend: TorchBackend, *requests: dict[str, Any]) -> list[Answer]:
    answers: dict[int, Answer] = {}
    calls = [
        Call(Request("m", inputs), lambda call, answer: answers.update({id(call): answer}))
        for inputs in requests
    ]
    backend.execute(calls)
    return [answers[id(call)] for call in calls]


def outputs(answer: Answer) -> dict[str, np.ndarray]:
    assert isinstance(answer, Response), answer
    return dict(answer.outputs)


ONES = np.ones((1, 3), np.float32)


@pytest.mark.parametrize(
    "names", [("y", "x"), ("INPUT__1", "INPUT__0")], ids=["arguments", "indices"]
)
def test_names_choose_the_arguments(tmp_path: Path, names: tuple[str, str]) -> None:
    scripted(tmp_path, Sub())
    backend = loaded(spec(tmp_path, tensors("FP32", *names), tensors("FP32", "OUTPUT__0")))
    (answer,) = run(backend, {names[0]: ONES, names[1]: ONES * 5})
    assert outputs(answer)["OUTPUT__0"].tolist() == [[4.0] * 3]


def test_other_names_are_taken_in_the_configs_order(tmp_path: Path) -> None:
    scripted(tmp_path, Sub())
    backend = loaded(spec(tmp_path, tensors("FP32", "left", "right"), tensors("FP32", "out")))
    first, second = run(backend, {"left": ONES, "right": ONES}, {"left": ONES * 3, "right": ONES})
    assert outputs(first)["out"].tolist() == [[0.0] * 3]
    assert outputs(second)["out"].tolist() == [[2.0] * 3]


def test_an_argument_with_a_default_may_be_left_out(tmp_path: Path) -> None:
    scripted(tmp_path, Scaled())
    backend = loaded(spec(tmp_path, tensors("FP32", "x"), tensors("FP32", "OUTPUT__0")))
    assert outputs(run(backend, {"x": ONES})[0])["OUTPUT__0"].tolist() == [[2.0] * 3]


def test_a_dict_of_inputs_and_a_tuple_of_outputs(tmp_path: Path) -> None:
    scripted(tmp_path, OfDict())
    wanted = [*tensors("FP32", "OUTPUT__0"), *tensors("STRING", "OUTPUT__1")]
    backend = loaded(spec(tmp_path, tensors("FP32", "a", "b"), wanted))
    found = outputs(run(backend, {"a": ONES, "b": ONES})[0])
    assert found["OUTPUT__0"].tolist() == [[2.0] * 3]
    assert found["OUTPUT__1"].tolist() == [b"one", b"two"]


def test_a_state_is_an_output_that_is_not_among_the_outputs(tmp_path: Path) -> None:
    scripted(tmp_path, OfDict())
    found = spec(tmp_path, tensors("FP32", "a"), tensors("FP32", "OUTPUT__0"))
    state = {"input_name": "b", "output_name": "OUTPUT__1", "data_type": "TYPE_STRING"}
    sequences = {"sequence_batching": {"state": [state]}}
    backend = loaded(replace(found, config={**found.config, **sequences}))
    inputs = {"a": ONES, "b": ONES}
    assert list(outputs(run(backend, inputs)[0])) == ["OUTPUT__0"]
    answers: list[Answer] = []
    asked = Request("m", inputs, outputs=("OUTPUT__1",))
    backend.execute([Call(asked, lambda call, answer: answers.append(answer))])
    assert outputs(answers[0])["OUTPUT__1"].tolist() == [b"one", b"two"]


def test_lists_of_strings(tmp_path: Path) -> None:
    scripted(tmp_path, Texts())
    backend = loaded(spec(tmp_path, tensors("STRING", "texts"), tensors("STRING", "OUTPUT__0")))
    given = np.array(["schön".encode(), b"b"], dtype=object)
    assert outputs(run(backend, {"texts": given})[0])["OUTPUT__0"].tolist() == [
        "SCHöN".encode(),
        b"B",
    ]
    (refused,) = run(backend, {"texts": np.array([b"\xff"], dtype=object)})
    assert isinstance(refused, InferenceError)
    assert "input 'texts' must be UTF-8" in refused.message


def test_bf16_and_memory_that_is_read_only(tmp_path: Path) -> None:
    scripted(tmp_path, Sub())
    config = tensors("BF16", "x", "y"), tensors("BF16", "OUTPUT__0")
    rows = np.full((2, 3), 3, ml_dtypes.bfloat16)
    rows.flags.writeable = False
    found = outputs(run(loaded(spec(tmp_path, *config)), {"x": rows, "y": rows})[0])
    assert found["OUTPUT__0"].dtype == ml_dtypes.bfloat16
    assert not found["OUTPUT__0"].any()


@pytest.mark.parametrize(
    ("names", "results"),
    [
        (("ARGS[0]", "ARGS[1][k]", "KWARGS[bias]"), ("RESULT[sum]", "RESULT[parts][1]")),
        (("INPUT__0", "INPUT__1", "INPUT__2"), ("OUTPUT__0", "OUTPUT__2")),
        (("x", "more_k", "bias"), ("sum", "RESULT[parts][1]")),
    ],
    ids=["paths", "indices", "arguments"],
)
def test_an_exported_program(
    tmp_path: Path, names: tuple[str, ...], results: tuple[str, ...]
) -> None:
    exported(tmp_path)
    backend = loaded(spec(tmp_path, tensors("FP32", *names), tensors("FP32", *results)))
    values = (ONES, ONES * 2, ONES * 4)
    found = outputs(run(backend, dict(zip(names, values, strict=True)))[0])
    assert [found[name][0, 0] for name in results] == [5.0, 4.0]


def test_a_class_in_python_with_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "model", raising=False)
    (tmp_path / "1").mkdir()
    code = """
import torch
from torch.nn import Linear, Module

class Net(Module):
    def __init__(self):
        super().__init__()
        self.inner = Linear(3, 2, bias=False)

    def forward(self, x, y):
        return self.inner(x + y), x
"""
    (tmp_path / "1" / "model.py").write_text(code)
    weights = {"inner.weight": torch.full((2, 3), 2.0)}
    torch.save(weights, tmp_path / "1" / "model.pt")
    found = spec(tmp_path, tensors("FP32", "y", "x"), tensors("FP32", "OUTPUT__0"))
    found = replace(found, config={**found.config, "runtime": "model.py"})
    backend = loaded(found)
    assert outputs(run(backend, {"x": ONES, "y": ONES})[0])["OUTPUT__0"].tolist() == [[12.0, 12.0]]
    (tmp_path / "1" / "model.py").write_text("from torch.nn import Linear")
    with pytest.raises(InferenceError, match="defines no subclass of torch.nn.Module"):
        loaded(found)


@pytest.mark.slow
def test_an_aotinductor_package(tmp_path: Path, service: Callable[[str], str]) -> None:
    service("compiler")
    (tmp_path / "1").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._inductor.aoti_compile_and_package(
            nested(), package_path=str(tmp_path / "1" / "model.pt2")
        )
    names, results = ("INPUT__0", "INPUT__1", "INPUT__2"), ("RESULT[sum]", "RESULT[parts][0]")
    backend = loaded(spec(tmp_path, tensors("FP32", *names), tensors("FP32", *results)))
    values = {name: ONES * 2 for name in names}
    three = {name: np.concatenate([ONES] * 3) for name in names}
    first, second = run(backend, values, three)
    assert [outputs(first)[name][0, 0] for name in results] == [4.0, 0.0]
    assert outputs(second)["RESULT[sum]"].shape == (3, 3)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    file = tmp_path / "1" / "model.pt"
    found = spec(tmp_path, tensors("FP32", "x"), tensors("FP32", "OUTPUT__0"))
    with pytest.raises(InferenceError, match=r"unable to find '.*model.pt'"):
        TorchBackend().load(found)
    torch.save(Scaled(), file)
    with pytest.raises(InferenceError, match="as a pickle of Python code.*torch.export.save"):
        TorchBackend().load(found)
    file.write_bytes(b"\x80\x02.")
    with pytest.raises(InferenceError, match="is not an archive of PyTorch"):
        TorchBackend().load(found)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    scripted(tmp_path, Sub())
    inputs = tensors("FP32", "x", "y")
    with pytest.raises(InferenceError, match="at least one output.*config.pbtxt must"):
        TorchBackend().load(spec(tmp_path, inputs, []))
    third = tensors("FP32", "INPUT__0", "INPUT__2")
    with pytest.raises(InferenceError, match="INPUT__2 .* has 2 inputs: x, y"):
        TorchBackend().load(spec(tmp_path, third, tensors("FP32", "OUTPUT__0")))
    with pytest.raises(InferenceError, match="INFERENCE_MODE is 'perhaps'"):
        TorchBackend().load(
            spec(tmp_path, inputs, tensors("FP32", "OUTPUT__0"), INFERENCE_MODE="perhaps")
        )
    for wanted, given, text in (
        (tensors("FP64", "OUTPUT__0"), ONES, "unexpected datatype TYPE_FP32 for inference output"),
        (tensors("FP32", "OUTPUT__1"), ONES, "OUTPUT__1 .* has 1 outputs"),
        (tensors("FP32", "OUTPUT__0"), ONES[:, :2], "PyTorch execute failure: "),
    ):
        backend = loaded(spec(tmp_path, inputs, wanted))
        (answer,) = run(backend, {"x": ONES, "y": given})
        assert isinstance(answer, InferenceError)
        assert re.search(text, answer.message), answer.message


def test_parameters_of_the_process(tmp_path: Path) -> None:
    scripted(tmp_path, Sub())
    before = torch.get_num_threads()
    try:
        backend = loaded(
            spec(
                tmp_path,
                tensors("FP32", "x", "y"),
                tensors("FP32", "OUTPUT__0"),
                INTRA_OP_THREAD_COUNT="1",
                DISABLE_OPTIMIZED_EXECUTION="true",
                INFERENCE_MODE="false",
            )
        )
        assert torch.get_num_threads() == 1
        assert outputs(run(backend, {"x": ONES, "y": ONES})[0])["OUTPUT__0"].sum() == 0
    finally:
        torch.set_num_threads(before)
        torch._C._set_graph_executor_optimize(True)


def test_positions() -> None:
    known = [frozenset(("a", "ARGS[0]")), frozenset(("b",))]
    assert positions("input", ["b", "a"], known) == {"b": 1, "a": 0}
    assert positions("input", ["data__1", "x__0"], known) == {"data__1": 1, "x__0": 0}
    assert positions("input", ["a", "x__0"], known) == {"a": 0, "x__0": 1}
