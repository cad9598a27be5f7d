"""What is read once: documents of one form, and those that only look like it."""

import json

import numpy as np
import orjson
import pytest

from nerite.core.errors import InferenceError
from nerite.frontends.regions import Regions
from nerite.frontends.v2_templates import Templates


def of_json(texts: list[bytes]) -> list[np.ndarray]:
    """The first input of each, read one after the other by the same templates."""
    kept = Templates(Regions(allowed=False)).of("m", "")
    return [kept.of_json(text)[0].inputs["x"] for text in texts]


def document(data: str, shape: str = "[2]", extra: str = "") -> bytes:
    inputs = f'{{"name":"x","shape":{shape},"datatype":"FP32","data":{data}}}'
    return f'{{"inputs":[{inputs}]{extra}}}'.encode()


def test_the_data_of_each() -> None:
    first, second = of_json([document("[1,2]"), document("[3.5,-4e2]")])
    assert first.tolist() == [1, 2] and second.tolist() == [3.5, -400]


def test_nested_data() -> None:
    texts = [document(data, "[2,2]") for data in ("[[1,2],[3,4]]", "[[5,6],[7,8]]", "[1,2,3,4]")]
    nested, again, flat = of_json(texts)
    assert nested.tolist() == [[1, 2], [3, 4]] and again.tolist() == [[5, 6], [7, 8]]
    assert flat.tolist() == [[1, 2], [3, 4]]


def test_a_list_that_ends_where_a_nested_one_did() -> None:
    kept = Templates(Regions(allowed=False)).of("m", "")
    kept.of_json(document("[[1,2],[3,4]]", "[2,2]"))
    with pytest.raises(InferenceError, match="failed to parse the request JSON"):
        kept.of_json(document("[1,2],[3,4]]", "[2,2]"))


@pytest.mark.parametrize("data", ["[1,]", "[1 2]", "[01]", "[1,2", "[NaN,1]", '["a]",1]', "[1}]"])
def test_what_is_no_list_is_refused_as_the_first_time(data: str) -> None:
    texts = [document("[1,2]"), document(data)]
    with pytest.raises(InferenceError) as fresh:
        of_json(texts[1:])
    with pytest.raises(InferenceError) as after:
        of_json(texts)
    assert str(after.value) == str(fresh.value)


def test_a_parameter_called_data() -> None:
    extra = ',"parameters":{"data":[9]}'
    with pytest.raises(InferenceError, match="'data' has invalid type"):
        of_json([document("[1,2]"), document("[1,2]", extra=extra)])


def test_text_that_looks_like_data() -> None:
    name = '"data":[7]'
    kept = Templates(Regions(allowed=False)).of("m", "")
    for number in range(2):
        extra = f',"parameters":{{"note":{json.dumps(name)}}}'
        request, _ = kept.of_json(document(f"[1,{number}]", extra=extra))
        assert request.parameters == {"note": name}
        assert request.inputs["x"].tolist() == [1, number]


def test_strings_with_brackets() -> None:
    kept = Templates(Regions(allowed=False)).of("m", "")
    for text in ("a]b", '"data":[', "plain"):
        entry = {"name": "x", "shape": [1], "datatype": "BYTES", "data": [text]}
        request, _ = kept.of_json(orjson.dumps({"inputs": [entry]}))
        assert request.inputs["x"].tolist() == [text.encode()]


def test_ids_are_each_requests_own() -> None:
    kept = Templates(Regions(allowed=False)).of("m", "")
    for name in ("a", 'b"c', ""):
        body = document("[1,2]").decode()
        for text in (
            f'{{"id":{json.dumps(name)},{body[1:]}',
            f'{body[:-1]},"id":{json.dumps(name)}}}',
        ):
            request, _ = kept.of_json(text.encode())
            assert request.id == name
