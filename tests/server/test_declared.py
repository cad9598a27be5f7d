"""Answers that are not what the config declares: they are told of, and the model goes on."""

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException

from .conftest import Serving, add_model, identity

# Answers as it is asked to: in another type, under another name, as declared.
ANSWERS = """
    class TritonPythonModel:
        def execute(self, requests):
            return [self.answer(one.inputs()[0].as_numpy()) for one in requests]

        def answer(self, array):
            if array[0] == 1:
                return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array * 1.5)])
            if array[0] == 2:
                return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", array)])
            tensors = [pb_utils.Tensor("OUTPUT0", array), pb_utils.Tensor("MORE", array * 1.5)]
            return pb_utils.InferenceResponse(tensors)
"""
THREAD = 'parameters { key: "PLACEMENT" value { string_value: "thread" } }'


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    repository = tmp_path_factory.mktemp("declared")
    add_model(repository, "process", identity("INT32"), ANSWERS)
    add_model(repository, "thread", identity("INT32") + THREAD, ANSWERS)
    with Serving(f"--model-repository={repository}") as running:
        yield running


def ask(serving: Serving, model: str, first: int) -> list[float]:
    values = np.array([first, 7], np.int32)
    with tritonclient.http.InferenceServerClient(serving.http) as client:
        tensor = tritonclient.http.InferInput("INPUT0", [2], "INT32")
        answer = client.infer(model, [tensor.set_data_from_numpy(values)])
    assert [one["name"] for one in answer.get_response()["outputs"]] == ["OUTPUT0"]
    return answer.as_numpy("OUTPUT0").tolist()


@pytest.mark.parametrize("model", ["process", "thread"])
def test_another_type_is_passed_on_and_told_once(serving: Serving, model: str) -> None:
    for _ in range(2):
        assert ask(serving, model, 1) == [1.5, 10.5]
        assert ask(serving, model, 0) == [0, 7]
    text = (
        f"output 'OUTPUT0' is TYPE_FP64, where {model}/config.pbtxt declares TYPE_INT32: clients "
    )
    text += f"get it as it is. Convert it in {model}/1/model.py, or declare TYPE_FP64"
    serving.wait_for(text)
    assert serving.log.count(text) == 1


@pytest.mark.parametrize("model", ["process", "thread"])
def test_another_name(serving: Serving, model: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ask(serving, model, 2)
    assert caught.value.message() == (
        "the model answers with output 'OUTPUT' and without 'OUTPUT0': its config declares "
        f"'OUTPUT0'. Rename the tensor in {model}/1/model.py, or declare it"
    )
    assert ask(serving, model, 3) == [3, 7]  # with one more, which nobody has asked for
