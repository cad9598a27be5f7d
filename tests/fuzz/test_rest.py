"""The description of the REST API is true: schemathesis holds the server's answers to it."""

from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
import yaml
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from ..conftest import ServerProcess
from .conftest import MODELS, SECONDS, cases, judge

FILE = Path(__file__).parents[2] / "docs" / "openapi-v2.yaml"
PATHS: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["paths"]
OPERATIONS = [
    (path, method) for path, item in PATHS.items() for method in item if method != "parameters"
]
SCHEMA = schemathesis.openapi.from_path(FILE)
_HELD_TO = ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_is_there(fuzzed: ServerProcess, path: str, method: str) -> None:
    url = fuzzed.url + path.format(model="echo", version="1", region="r")
    if not path.endswith("/unload"):
        answer = requests.request(method, url, data="{}", timeout=SECONDS)
        assert answer.status_code != 405
        assert answer.text != '{"error":"Not Found"}'
    other = "DELETE" if method == "post" else "POST"
    if {"get", "post"} - PATHS[path].keys():
        assert requests.request(other, url, timeout=SECONDS).status_code == 405


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_is_as_described(fuzzed: ServerProcess, path: str, method: str) -> None:
    operation = SCHEMA[path][method]
    checks = CHECKS.get_by_names(_HELD_TO)

    @cases(0.15 / len(OPERATIONS))
    @hypothesis.given(case=operation.as_strategy(), model=st.sampled_from([*MODELS, ""]))
    def ask(case: Any, model: str) -> None:
        parameters = case.path_parameters or {}
        if "model" in parameters and model and not path.endswith("unload"):
            parameters["model"] = model
        response = case.call(base_url=fuzzed.url, timeout=SECONDS)
        text = response.content.decode("utf-8", "replace")
        judge("REST", str(response.status_code), text)
        if text != '{"error":"Not Found"}':  # a name with a slash is another path
            case.validate_response(response, checks=checks)

    ask()
