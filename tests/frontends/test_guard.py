"""Who is let in: by key, by category, by the name used, by the page that asks."""

import time
from pathlib import Path

import pytest

from nerite.frontends.access import ApiKeys, http_access
from nerite.frontends.guard import HttpGuard, category
from nerite.frontends.http1 import Head
from nerite.settings import parse

from .conftest import Listen, on_both_loops

KEYS = ApiKeys([b"one", "zwei-schlüssel".encode()])


def ask(
    *flags: str,
    keys: ApiKeys | None = None,
    method: str = "POST",
    path: str = "/v2/models/m/infer",
    address: str = "127.0.0.1",
    **headers: str,
) -> Head:
    """The head of a request, once the guard of a server with `flags` has seen it."""
    headers.setdefault("Host", "127.0.0.1:8000")
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = Head(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
    HttpGuard(http_access(parse(flags, environment={}), keys, address))(head)
    return head


def status(head: Head) -> int | None:
    return None if head.reply is None else head.reply.status


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v2", "metadata"),
        ("/v2/health/live", "health"),
        ("/v2/health/ready", "health"),
        ("/v2/models/m", "metadata"),
        ("/v2/models/m/versions/1", "metadata"),
        ("/v2/models/m/ready", "health"),
        ("/v2/models/m/versions/1/ready", "health"),
        ("/v2/models/m/infer", "inference"),
        ("/v2/models/m/versions/1/infer", "inference"),
        ("/v2/models/m/generate", "inference"),
        ("/v2/models/m/generate_stream", "inference"),
        ("/v2/models/m/config", "model-config"),
        ("/v2/models/m/versions/1/config", "model-config"),
        ("/v2/models/m/stats", "statistics"),
        ("/v2/models/stats", "statistics"),
        ("/v2/models/m/trace/setting", "trace"),
        ("/v2/trace/setting", "trace"),
        ("/v2/logging", "logging"),
        ("/v2/repository/index", "model-repository"),
        ("/v2/repository/models/m/load", "model-repository"),
        ("/v2/repository/r/models/m/load", "model-repository"),
        ("/v2/systemsharedmemory/status", "shared-memory"),
        ("/v2/cudasharedmemory/region/r/register", "shared-memory"),
        ("/metrics", ""),
        ("/", ""),
        ("/v1/models", "metadata"),
        ("/v1/models/painter", "metadata"),
        ("/v1/images/generations", "inference"),
        ("/v1/images/jobs/1", "inference"),
        ("/v1/images/files/abc.png", ""),
    ],
)
def test_categories(path: str, expected: str) -> None:
    assert category(path) == expected


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Authorization": "Bearer one"}, True),
        ({"authorization": "bearer  one"}, True),
        ({"X-Api-Key": "one"}, True),
        ({"Authorization": "Basic b25l", "x-api-key": "one"}, True),
        ({}, False),
        ({"Authorization": "one"}, False),
        ({"Authorization": "Bearer"}, False),
        ({"Authorization": "Bearer two"}, False),
        ({"Authorization": "Bearer one2"}, False),
        ({"X-Api-Key": "on"}, False),
    ],
)
def test_api_keys(headers: dict[str, str], allowed: bool) -> None:
    head = ask(keys=KEYS, **headers)
    assert status(head) == (None if allowed else 401)
    if head.reply is not None:
        assert b"WWW-Authenticate: Bearer\r\n" in head.reply.headers
        assert b"API key" in head.reply.body


def test_health_stays_open_and_metrics_do_not() -> None:
    assert status(ask(keys=KEYS, method="GET", path="/v2/health/ready")) is None
    assert status(ask(keys=KEYS, method="GET", path="/v2/models/m/ready")) is None
    assert status(ask(keys=KEYS, method="GET", path="/metrics")) == 401
    assert status(ask(keys=KEYS, method="GET", path="/v2/models/health")) == 401


def test_key_files(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n\n  first \r\nsecond\n#third\n")
    keys = ApiKeys.read(str(file))
    for key, known in (("first", True), ("second", True), ("third", False), ("#third", False)):
        assert (keys.problem({"x-api-key": key}) is None) == known
    file.write_text("# none\n")
    with pytest.raises(ValueError, match="holds no key"):
        ApiKeys.read(str(file))
    file.write_text("first\n", encoding="utf-8-sig")  # as Notepad writes it
    assert ApiKeys.read(str(file)).problem({"x-api-key": "first"}) is None
    with pytest.raises(ValueError, match="none cannot be read: No such file or directory"):
        ApiKeys.read(str(tmp_path / "none"))


def test_a_wrong_key_tells_nothing_by_its_time() -> None:
    """Not a measurement of leaks, but of what would be one: an early end of the comparison."""
    keys = ApiKeys([b"%d" % number for number in range(2000)])

    def seconds(key: str) -> float:
        begun = time.perf_counter()
        for _ in range(20):
            keys.problem({"x-api-key": key})
        return time.perf_counter() - begun

    first = min(seconds("0") for _ in range(5))
    last = min(seconds("1999") for _ in range(5))
    assert 0.2 < first / last < 5


RESTRICTED = "--http-restricted-api=inference,model-repository:Admin-Key=secret"


def test_restricted_categories() -> None:
    for wrong in ({}, {"admin-key": "wrong"}):
        head = ask(RESTRICTED, **wrong)
        assert status(head) == 403
        assert head.reply is not None
        assert head.reply.body == (
            b'{"error":"This API is restricted, expecting header \'Admin-Key\'"}'
        )
    assert status(ask(RESTRICTED, **{"ADMIN-KEY": "secret"})) is None
    assert status(ask(RESTRICTED, path="/v2/repository/index")) == 403
    assert status(ask(RESTRICTED, path="/v2/repository/inde%78")) == 403
    assert status(ask(RESTRICTED, path="/v2/models/m/versions/1/inf%65r")) == 403
    assert status(ask(RESTRICTED, method="GET", path="/v2/health/live")) is None
    assert status(ask("--http-restricted-api=health:k=v", path="/v2/health/live")) == 403


@pytest.mark.parametrize(
    ("host", "flags", "address", "expected"),
    [
        ("localhost:8000", [], "127.0.0.1", None),
        ("LOCALHOST", [], "127.0.0.1", None),
        ("painter.localhost:8000", [], "127.0.0.1", None),
        ("127.0.0.1:8000", [], "127.0.0.1", None),
        ("[::1]:8000", [], "::1", None),
        ("10.1.2.3", [], "127.0.0.1", None),
        ("evil.example:8000", [], "127.0.0.1", 421),
        ("evil.example.", [], "localhost", 421),
        ("localhost.evil.example", [], "127.0.0.1", 421),
        ("127.0.0.1.evil.example", [], "127.0.0.1", 421),
        ("evil.example@127.0.0.1", [], "127.0.0.1", 421),
        ("evil.example:80:80", [], "127.0.0.1", 421),
        ("models.example:8000", ["--trusted-host=models.example"], "127.0.0.1", None),
        ("Models.Example", ["--trusted-host=models.example:8000"], "127.0.0.1", None),
        ("evil.example", ["--trusted-host=models.example"], "0.0.0.0", 421),
        ("evil.example", ["--trusted-host=*"], "127.0.0.1", None),
        ("models.example", [], "0.0.0.0", None),
        ("box", [], "box", None),
    ],
)
def test_names(host: str, flags: list[str], address: str, expected: int | None) -> None:
    head = ask(*flags, address=address, Host=host)
    assert status(head) == expected
    if head.reply is not None:
        assert b"--trusted-host" in head.reply.body


def test_the_name_in_an_absolute_url_counts() -> None:
    assert status(ask(path="http://evil.example/v2")) == 421
    assert status(ask(path="http://localhost/v2", Host="evil.example")) == 421
    assert status(ask(path="http://localhost/v2")) is None


EVIL = "https://evil.example"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Origin": "http://127.0.0.1:8000"}, None),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": EVIL}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://"}, 403),
        ({"Origin": EVIL, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}, None),
    ],
)
def test_pages_from_elsewhere(headers: dict[str, str], expected: int | None) -> None:
    head = ask(**headers)
    assert status(head) == expected
    assert not head.extra
    if head.reply is not None:
        assert b"--cors-origin" in head.reply.body


def test_pages_from_elsewhere_may_look() -> None:
    """Their browser shows them nothing, for want of a header that allows it."""
    head = ask(method="GET", path="/v2/health/live", Origin=EVIL)
    assert (status(head), head.extra) == (None, b"")


def test_pages_that_are_allowed() -> None:
    head = ask(f"--cors-origin={EVIL}", Origin=EVIL.upper())
    assert status(head) is None
    assert b"Access-Control-Allow-Origin: HTTPS://EVIL.EXAMPLE\r\n" in head.extra
    assert b"Vary: Origin\r\n" in head.extra
    assert status(ask(f"--cors-origin={EVIL}", Origin="https://other.example")) == 403
    head = ask("--cors-origin=*", Origin=EVIL)
    assert b"Access-Control-Allow-Origin: *\r\n" in head.extra


def test_preflight() -> None:
    asked = {
        "Origin": EVIL,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, inference-header-content-length",
        "Access-Control-Request-Private-Network": "true",
    }
    head = ask(f"--cors-origin={EVIL}", keys=KEYS, method="OPTIONS", **asked)
    assert head.reply is not None
    assert head.reply.status == 200
    assert b"Access-Control-Allow-Methods: GET, POST, DELETE\r\n" in head.reply.headers
    assert (
        b"Access-Control-Allow-Headers: authorization, inference-header-content-length\r\n"
        in head.reply.headers
    )
    assert b"Access-Control-Allow-Private-Network: true\r\n" in head.reply.headers
    assert b"Access-Control-Allow-Origin: https://evil.example\r\n" in head.extra
    assert status(ask(method="OPTIONS", **asked)) == 403
    # Only the preflight goes without a key.
    assert status(ask(f"--cors-origin={EVIL}", keys=KEYS, Origin=EVIL)) == 401


@on_both_loops
async def test_the_answers_as_they_are_sent(listen: Listen) -> None:
    settings = parse([f"--cors-origin={EVIL}"], environment={})
    port = await listen(gate=HttpGuard(http_access(settings, KEYS, "127.0.0.1")))
    client = await port.connect()
    answer = await client.ask(b"GET /v2 HTTP/1.1\r\nHost: x.example\r\n\r\n")
    assert (answer.status, answer.headers["content-type"]) == (421, "application/json")
    answer = await client.ask(
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )
    assert answer.status == 401
    # The page may read why it was refused.
    assert answer.headers["access-control-allow-origin"] == EVIL
    answer = await client.ask(
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: one\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )
    assert (answer.status, answer.body) == (200, b"hello")
