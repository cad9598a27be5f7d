"""Whatever comes through HTTP is answered, or its connection ends; nothing surprises the server."""

import contextlib
import http.client
import json
import socket

import hypothesis
import pytest

from ..conftest import ServerProcess
from . import http_cases
from .conftest import SECONDS, cases, judge
from .http_cases import Case


def ask(server: ServerProcess, case: Case) -> None:
    with socket.create_connection(("127.0.0.1", server.http_port), SECONDS) as connection:
        with contextlib.suppress(OSError):  # it may have answered and closed already
            connection.sendall(case.data)
            if not case.complete:
                connection.shutdown(socket.SHUT_WR)
        _check_answer(connection, case)


def _check_answer(connection: socket.socket, case: Case) -> None:
    method = case.data.split(b" ", 1)[0].decode("latin-1")
    answer = http.client.HTTPResponse(connection, method=method)
    try:
        answer.begin()
        if answer.status == 100:
            answer.begin()
        body = answer.read()
    except TimeoutError:
        pytest.fail("no answer, and the connection does not end either")
    except (http.client.HTTPException, ConnectionError) as error:
        assert not case.complete, f"no answer: {error!r}"
        return
    judge("HTTP", str(answer.status), body.decode("utf-8", "replace"))
    kind, packed = answer.getheader("Content-Type"), answer.getheader("Content-Encoding")
    if answer.status >= 400 and kind == "application/json" and body and not packed:
        assert isinstance(json.loads(body)["error"], str)


@cases(0.34)
@hypothesis.given(case=http_cases.INFERENCES)
def test_inferences(fuzzed: ServerProcess, case: Case) -> None:
    ask(fuzzed, case)


@cases(0.14)
@hypothesis.given(case=http_cases.ADMINISTRATION)
def test_administration(fuzzed: ServerProcess, case: Case) -> None:
    ask(fuzzed, case)


@cases(0.1)
@hypothesis.given(case=http_cases.WRECKS)
def test_wrecks(fuzzed: ServerProcess, case: Case) -> None:
    ask(fuzzed, case)
