"""The page's files over HTTP: types, caching, compression, and what browsers may do with them."""

import gzip
import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nerite.frontends

WEB = Path(nerite.frontends.__path__[0]) / "web"
TYPES = {
    "/": "text/html; charset=utf-8",
    "/docs": "text/html; charset=utf-8",
    "/web/app.js": "text/javascript; charset=utf-8",
    "/web/theme.css": "text/css; charset=utf-8",
    "/web/icon.svg": "image/svg+xml",
}
ELSEWHERE = re.compile(r"(?:https?:)?//[\w.]+\.\w")
# Names of formats, which nobody asks for.
NAMES = ("http://www.w3.org/2000/svg",)


@pytest.fixture
def connection(painter_server: Any) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection("127.0.0.1", painter_server.http_port, timeout=30)
    yield made
    made.close()


def ask(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", **headers: str
) -> Any:
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    return answer, answer.read()


@pytest.mark.parametrize("path", TYPES)
def test_types_and_guards(connection: http.client.HTTPConnection, path: str) -> None:
    answer, body = ask(connection, path)
    assert (answer.status, answer.headers["content-type"]) == (200, TYPES[path])
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert len(body) == int(answer.headers["content-length"])


def test_what_is_cached_is_not_sent_again(connection: http.client.HTTPConnection) -> None:
    plain, body = ask(connection, "/web/app.js")
    packed, data = ask(connection, "/web/app.js", accept_encoding="br, gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(data) == body
    assert len(data) < len(body)
    tags = plain.headers["etag"], packed.headers["etag"]
    assert tags[0] != tags[1]
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    for tag in (tags[0], f"W/{tags[0]}", f'"other", {tags[0]}', "*"):
        answer, rest = ask(connection, "/web/app.js", if_none_match=tag)
        assert (answer.status, rest) == (304, b""), tag
    answer, _ = ask(connection, "/web/app.js", if_none_match=tags[1])
    assert answer.status == 200


def test_head_has_no_body_and_nothing_is_posted(connection: http.client.HTTPConnection) -> None:
    answer, body = ask(connection, "/", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000
    answer, _ = ask(connection, "/", "POST")
    assert answer.status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/web/",
        "/web/none.js",
        "/web/../app.py",
        "/web/..%2f..%2flaunch.py",
        "/web/%2e%2e/app.py",
        "/web//app.js",
        "/web/app.js/",
        "/web/app.js%00",
        "/web/\\app.js",
    ],
)
def test_only_what_lies_there(connection: http.client.HTTPConnection, path: str) -> None:
    answer, body = ask(connection, path)
    assert answer.status == 404
    assert b"import" not in body


def test_every_file_is_small_and_names_nobody_else() -> None:
    files = [file for file in WEB.iterdir() if file.is_file()]
    for file in files:
        text = file.read_text(encoding="utf-8")
        for name in NAMES:
            text = text.replace(name, "")
        assert ELSEWHERE.search(text) is None, file.name
        assert len(text.splitlines()) <= 400, file.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text)
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < 150_000
