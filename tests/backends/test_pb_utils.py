"""triton_python_backend_utils, as a model.py or its author's tests import it."""

import gc
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import triton_python_backend_utils as pb_utils
from nerite.backends.base import ModelSpec
from nerite.backends.python.request import InferenceRequest, Received
from nerite.backends.python.user_model import PythonBackend
from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError
from nerite.core.request import Request, Response

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint16, np.int64, np.float16, np.float64])
def test_dlpack_there_and_back(dtype: Any) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    array.setflags(write=False)  # as inputs may be
    tensor = pb_utils.Tensor("x", array)
    for source in (tensor, tensor.to_dlpack()):
        back = pb_utils.Tensor.from_dlpack("y", source)
        np.testing.assert_array_equal(back.as_numpy(), array)
        assert (back.name(), back.shape(), back.is_cpu()) == ("y", [2, 3], True)
        assert back.as_numpy().ctypes.data == array.ctypes.data


def test_dlpack_keeps_what_it_shows_and_no_longer() -> None:
    tensor = pb_utils.Tensor("x", np.arange(5.0))
    alive = weakref.ref(tensor)
    back = pb_utils.Tensor.from_dlpack("y", tensor)
    unused = tensor.to_dlpack()
    del tensor
    gc.collect()
    np.testing.assert_array_equal(back.as_numpy(), np.arange(5.0))
    assert alive() is not None
    del back, unused
    gc.collect()
    assert alive() is None


def test_dlpack_does_not_hide_what_went_wrong_with_it() -> None:
    torch = pytest.importorskip("torch")
    tensor = pb_utils.Tensor("x", np.arange(5.0))
    with pytest.raises(RuntimeError, match="shape '\\[7\\]' is invalid"):
        torch.from_dlpack(tensor.to_dlpack()).view(7)  # the tensor goes amid the exception


def test_bf16_goes_by_dlpack() -> None:
    tensor = pb_utils.Tensor("x", np.ones(3, ml_dtypes.bfloat16))
    assert tensor.triton_dtype() == "TYPE_BF16"
    with pytest.raises(pb_utils.TritonModelException, match="BF16 and cannot be converted"):
        tensor.as_numpy()
    assert pb_utils.Tensor.from_dlpack("y", tensor).triton_dtype() == "TYPE_BF16"


def test_what_dlpack_cannot_do() -> None:
    text = pb_utils.Tensor("x", np.array(["a"], object))
    with pytest.raises(pb_utils.TritonModelException, match="support for string tensors"):
        text.to_dlpack()
    with pytest.raises(pb_utils.TritonModelException, match="not contiguous"):
        pb_utils.Tensor.from_dlpack("x", np.ones((3, 4)).T)
    with pytest.raises(pb_utils.TritonModelException, match="`__dlpack__`"):
        pb_utils.Tensor.from_dlpack("x", None)


def received(decoupled: bool, *outputs: str) -> tuple[InferenceRequest, list[Answer]]:
    answers: list[Answer] = []
    call = Call(Request("m", {}, outputs=outputs), lambda _, answer: answers.append(answer))
    return InferenceRequest.of(call, Received(["OUT", "OTHER"], decoupled)), answers


def response(name: str = "OUT") -> pb_utils.InferenceResponse:
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, np.zeros(1))])


def test_a_sender_of_many() -> None:
    request, answers = received(True)
    sender = request.get_response_sender()
    sender.send(response())
    error = pb_utils.TritonError("oh", pb_utils.TritonError.NOT_FOUND)
    sender.send(pb_utils.InferenceResponse(error=error))
    sender.send(response(), FINAL)
    first, second, third = answers
    assert isinstance(first, Response) and isinstance(second, Response)
    assert second.error is not None and second.error.message == "oh" and not second.final
    assert isinstance(third, Response) and third.final
    with pytest.raises(pb_utils.TritonModelException, match="sender has been closed"):
        sender.send(response())


def test_a_sender_of_one() -> None:
    request, answers = received(False)
    sender = request.get_response_sender()
    with pytest.raises(pb_utils.TritonModelException, match="complete final before sending"):
        sender.send(flags=FINAL)
    sender.send(response())
    with pytest.raises(pb_utils.TritonModelException, match="more than one response"):
        sender.send(response())
    sender.send(flags=FINAL)
    assert len(answers) == 1


@pytest.mark.parametrize("flags", [2, -1])
def test_flags_that_are_none(flags: int) -> None:
    request, _ = received(True)
    with pytest.raises(pb_utils.TritonModelException, match="Unsupported flag provided"):
        request.get_response_sender().send(response(), flags)


def answered(names: Sequence[str], *wanted: str) -> Answer:
    """What is sent of a response with outputs of these names."""
    request, answers = received(False, *wanted)
    tensors = [pb_utils.Tensor(name, np.zeros(1)) for name in names]
    request.get_response_sender().send(pb_utils.InferenceResponse(tensors))
    (answer,) = answers
    return answer


def test_only_outputs_that_are_wanted_are_sent() -> None:
    for names, wanted, sent in (
        (("OUT", "UNKNOWN", "OTHER"), (), {"OUT", "OTHER"}),
        (("OUT", "UNKNOWN", "OTHER"), ("OTHER",), {"OTHER"}),
        (("OUT",), ("OTHER",), set()),
        (("OUT",), (), {"OUT"}),
    ):
        answer = answered(names, *wanted)
        assert isinstance(answer, Response) and set(answer.outputs) == sent
    assert received(False)[0].requested_output_names() == {"OUT", "OTHER"}


def test_a_name_that_is_not_declared_in_place_of_one_that_is() -> None:
    for names, wanted in ((("OUT", "UNKNOWN"), ()), (("UNKNOWN",), ("OTHER",))):
        answer = answered(names, *wanted)
        assert isinstance(answer, InferenceError)
        assert "answers with output 'UNKNOWN' and without 'OTHER'" in answer.message
        assert "its config declares 'OUT', 'OTHER'" in answer.message


def test_a_request_that_is_dropped_fails() -> None:
    request, answers = received(True)
    del request
    gc.collect()
    (answer,) = answers
    assert isinstance(answer, InferenceError) and "dropped" in answer.message


def test_outside_of_a_server() -> None:
    asked = pb_utils.InferenceRequest(model_name="m", inputs=[], requested_output_names=[])
    with pytest.raises(pb_utils.TritonModelException, match="needs a model around it"):
        asked.exec()


@pytest.mark.parametrize(
    "config",
    [
        {"name": "X", "data_type": "TYPE_FP32"},
        {"name": "X", "data_type": "TYPE_FP32", "dims": [1], "color": 3},
        {"name": "IN", "data_type": "TYPE_INT8", "dims": [4]},
        {"name": "IN", "data_type": "TYPE_FP32", "dims": [5]},
    ],
)
def test_a_config_is_completed_and_not_contradicted(config: dict[str, Any]) -> None:
    known = {"name": "m", "input": [{"name": "IN", "data_type": "TYPE_FP32", "dims": [4]}]}
    completed = pb_utils.ModelConfig({**known, "max_batch_size": 0})
    with pytest.raises(ValueError, match="'m'"):
        completed.add_input(config)
    completed.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [4], "optional": True})
    completed.set_max_batch_size(8)
    with pytest.raises(ValueError, match="max_batch_size 8"):
        completed.set_max_batch_size(4)


def test_types_and_bytes() -> None:
    assert pb_utils.triton_string_to_numpy("TYPE_STRING") is np.object_
    for number in range(1, 14):
        assert pb_utils.numpy_to_triton_type(pb_utils.triton_to_numpy_type(number)) == number
    words = np.array([b"a", b"bc", b""], object)
    encoded = pb_utils.serialize_byte_tensor(words)
    assert encoded == b"\1\0\0\0a\2\0\0\0bc\0\0\0\0"
    assert list(pb_utils.deserialize_bytes_tensor(encoded)) == list(words)


def test_a_name_that_a_shell_would_run(tmp_path: Path) -> None:
    spec = ModelSpec("good;bad", 1, tmp_path, "good;bad_0", "cpu", 0, {"name": "good;bad"})
    with pytest.raises(InferenceError, match="Invalid stub name: contains invalid characters"):
        PythonBackend().load(spec)


def test_names_may_come_out_of_a_tensor() -> None:
    asked = pb_utils.InferenceRequest(
        request_id=b"id", model_name=b"other", inputs=[], requested_output_names=[b"OUT"]
    )
    assert (asked.request_id(), asked.model_name()) == ("id", "other")
    assert list(asked.requested_output_names()) == ["OUT"]


def test_tensors_that_are_none() -> None:
    with pytest.raises(TypeError, match="needs a numpy array"):  # told first, as Triton does
        pb_utils.Tensor("", None)  # type: ignore[arg-type]
    with pytest.raises(pb_utils.TritonModelException, match="empty string"):
        pb_utils.Tensor("", np.zeros(1))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"a": 2**70},
            "parameter 'a' is 1180591620717411303424: an integer must be within 64 bits",
        ),
        ({"a": -(2**63) - 1}, "parameter 'a'"),
        ({"a": "\ud800"}, r"parameter 'a' is '\\ud800': a string must be text"),
        ({"\ud800": 1}, r"parameter '\\ud800'"),
    ],
)
def test_parameters_that_cannot_be_written(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(pb_utils.TritonModelException) as caught:
        pb_utils.InferenceResponse([], parameters=parameters)
    assert said.replace("\\\\", "\\") in str(caught.value)
    edges = {"a": -(2**63), "b": 2**63 - 1, "c": "\u00e4\U0001f600"}
    assert pb_utils.InferenceResponse([], parameters=edges).parameters()


def test_texts_that_no_protocol_can_say() -> None:
    assert pb_utils.TritonError("\u00e4 \ud800").message() == "\u00e4 \\ud800"
    assert pb_utils.Tensor("x\ud800", np.zeros(1)).name() == "x\\ud800"
    assert pb_utils.Tensor.from_dlpack("x\ud800", np.zeros(1)).name() == "x\\ud800"


def test_dlpack_of_a_single_number() -> None:
    tensor = pb_utils.Tensor("x", np.array(3.0))
    back = pb_utils.Tensor.from_dlpack("y", tensor.to_dlpack())
    assert (tensor.shape(), back.shape(), back.as_numpy()[()]) == ([], [], 3.0)
    turned = pb_utils.Tensor("x", np.arange(6.0).reshape(2, 3).T)
    back = pb_utils.Tensor.from_dlpack("y", turned.to_dlpack())
    np.testing.assert_array_equal(back.as_numpy(), turned.as_numpy())


def test_a_config_completed_with_numbers_of_numpy() -> None:
    completed = pb_utils.ModelConfig({"name": "m"})
    completed.set_max_batch_size(np.int32(8))
    dims: Any = np.array([4, -1])
    for _ in range(2):
        completed.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": dims})
    completed.add_output({"name": "B", "data_type": "TYPE_FP32", "dims": (np.int64(4),)})
    completed.set_model_transaction_policy({"decoupled": np.bool_(True)})
    written = json.loads(json.dumps(completed.as_dict()))
    assert written["max_batch_size"] == 8
    assert [written[kind][0]["dims"] for kind in ("input", "output")] == [[4, -1], [4]]
    assert written["model_transaction_policy"] == {"decoupled": True}


def test_a_config_completed_with_what_is_no_number() -> None:
    completed = pb_utils.ModelConfig({"name": "m"})
    for dims in (["a"], 3, "4", [1.5], None):
        with pytest.raises(ValueError, match="'x' in auto-complete-config function for model 'm'"):
            completed.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": dims})
    for size in ("4", None, 1.5):
        with pytest.raises(ValueError, match="max_batch_size in auto-complete-config function"):
            completed.set_max_batch_size(size)  # type: ignore[arg-type]
