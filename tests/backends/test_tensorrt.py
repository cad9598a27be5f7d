"""The tensorrt backend without a GPU: what it refuses, and its calls into a TensorRT made up here.

The made-up engine adds its two inputs, reading and writing the addresses that it is given.
"""

import contextlib
import ctypes
import enum
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nerite.backends.base import ModelSpec  # noqa: E402
from nerite.backends.tensorrt import backend as module  # noqa: E402
from nerite.backends.tensorrt.backend import TensorRTBackend  # noqa: E402
from nerite.backends.tensorrt.engine import Engine  # noqa: E402
from nerite.core.call import Answer, Call  # noqa: E402
from nerite.core.errors import InferenceError  # noqa: E402
from nerite.core.request import Request, Response  # noqa: E402


class Mode(enum.Enum):
    INPUT = 0
    OUTPUT = 1


class Context:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.profiles: list[int] = []

    def set_optimization_profile_async(self, number: int, stream: int) -> None:
        self.profiles.append(number)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in ("a", "b") if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes["a"]

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        a, b, c = (self._at(name) for name in "abc")
        c[...] = a + b
        return bool(a[0, 0] >= 0)

    def _at(self, name: str) -> Any:
        shape = self.shapes["a"]
        kind = ctypes.c_float * int(np.prod(shape))
        return np.frombuffer(kind.from_address(self.addresses[name]), np.float32).reshape(shape)


class Plan:
    num_io_tensors = 3
    num_optimization_profiles = 2

    def __init__(self) -> None:
        self.context = Context()

    def get_tensor_name(self, index: int) -> str:
        return "abc"[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, 4)

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.OUTPUT if name == "c" else Mode.INPUT

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, number: int) -> list[tuple[int, ...]]:
        return [(1, 4), (2, 4), (2, 4)] if number == 0 else [(3, 4), (8, 4), (8, 4)]

    def create_execution_context(self) -> Context:
        return self.context


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    made = Plan()

    class Logger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)

    class Runtime:
        def __init__(self, log: Any) -> None:
            self._log = log

        def deserialize_cuda_engine(self, data: bytes) -> Plan | None:
            if data:
                return made
            self._log.log(0, "the magic tag does not match")
            return None

    fake = ModuleType("tensorrt")
    fake.__dict__.update(
        ILogger=Logger,
        Runtime=Runtime,
        TensorIOMode=Mode,
        init_libnvinfer_plugins=lambda log, name: True,
    )
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    stream = SimpleNamespace(cuda_stream=0, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(
        module, "Engine", lambda file, device, profiles: Engine(file, "cpu", profiles)
    )
    return made


def spec(folder: Path, device: str = "cuda", data: bytes = b"plan", **config: Any) -> ModelSpec:
    (folder / "1").mkdir(exist_ok=True)
    (folder / "1" / "model.plan").write_bytes(data)
    return ModelSpec("m", 1, folder, "m_0_0", device, 0, {"name": "m", **config})


def run(backend: TensorRTBackend, **inputs: np.ndarray) -> Answer:
    answers: list[Answer] = []
    backend.execute([Call(Request("m", inputs), lambda call, answer: answers.append(answer))])
    (answer,) = answers
    return answer


def test_without_a_gpu_or_tensorrt_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="runs on NVIDIA GPUs only: .* KIND_GPU"):
        TensorRTBackend().load(spec(tmp_path, "cpu"))
    with pytest.raises(InferenceError, match=r"pip install 'nerite\[tensorrt\]'"):
        TensorRTBackend().load(spec(tmp_path))


def test_a_plan_completes_its_config_and_answers(tmp_path: Path, plan: Plan) -> None:
    backend = TensorRTBackend()
    config = backend.load(spec(tmp_path))
    assert (config["max_batch_size"], config["dynamic_batching"]) == (2, {})
    assert config["input"][1] == {"name": "b", "data_type": "TYPE_FP32", "dims": [4]}
    ones = np.ones((2, 4), np.float32)
    answer = run(backend, a=ones, b=ones)
    assert isinstance(answer, Response)
    assert answer.outputs["c"].tolist() == [[2.0] * 4] * 2
    five = np.ones((5, 4), np.float32)
    answer = run(backend, a=five, b=five)
    assert isinstance(answer, Response)
    assert answer.outputs["c"].shape == (5, 4)
    assert plan.context.profiles == [0, 1]


def test_profiles_that_a_group_names(tmp_path: Path, plan: Plan) -> None:
    group = {"name": "m_0", "profile": ["1"]}
    backend = TensorRTBackend()
    backend.load(spec(tmp_path, instance_group=[group]))
    ones = np.ones((2, 4), np.float32)
    answer = run(backend, a=ones, b=ones)
    assert isinstance(answer, InferenceError)
    assert "no optimization profile of the plan holds 'a' [2, 4]" in answer.message
    with pytest.raises(InferenceError, match="no optimization profile 7: it has 2"):
        TensorRTBackend().load(spec(tmp_path, instance_group=[{"name": "m_0", "profile": ["7"]}]))


def test_what_fails_is_told_in_tensorrts_words(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(InferenceError, match="unable to load plan .* magic tag does not match"):
        TensorRTBackend().load(spec(tmp_path, data=b""))
    wrong = {"name": "a", "data_type": "TYPE_INT8", "dims": [4]}
    other = {"name": "b", "data_type": "TYPE_FP32", "dims": [4]}
    with pytest.raises(InferenceError, match="unexpected datatype TYPE_INT8 for inference input"):
        TensorRTBackend().load(spec(tmp_path, input=[wrong, other]))
    with pytest.raises(InferenceError, match="expects 1 inputs .b., model provides 2 .a, b."):
        TensorRTBackend().load(spec(tmp_path, input=[other]))
    backend = TensorRTBackend()
    backend.load(spec(tmp_path))
    below = np.full((1, 4), -1, np.float32)
    answer = run(backend, a=below, b=below)
    assert isinstance(answer, InferenceError)
    assert "TensorRT execute failure" in answer.message
