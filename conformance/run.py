"""Runs a suite: for each group a folder, its models, a server, and the checks on it."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from conformance import inside, process, record
from conformance.matrix import Case
from conformance.models import fill_versions
from conformance.reasons import Reason
from conformance.suite import (
    Ask,
    Cases,
    Change,
    Check,
    Group,
    Inside,
    Logged,
    Refused,
    Script,
    Skipped,
    Suite,
)


@dataclass(frozen=True)
class Place:
    """Where a group runs: the suite's folder copied, with its neighbours beside it."""

    roots: Mapping[str, Path]
    folder: Path
    env: dict[str, str]
    http: str = "localhost:8000"
    log_name: str = "server.log"

    @property
    def log(self) -> Path:
        return self.folder / self.log_name


def run_suite(
    suite: Suite, roots: Mapping[str, Path], work: Path, only: str = "*", http: str = Place.http
) -> Iterator[Case]:
    """The cases as they end; `only` is a glob of groups, `http` where their servers are asked."""
    groups = suite.groups if isinstance(suite.groups, tuple) else suite.groups(roots)
    for group in groups:
        if not fnmatch(group.name, only):
            continue
        folder = _copy(suite, group, roots, work / "runs" / suite.name / group.name)
        env = {name: value.replace("{here}", str(folder)) for name, value in group.env.items()}
        place = Place(roots, folder, env, http, group.log)
        for repository in group.repositories:
            (folder / repository).mkdir(exist_ok=True, parents=True)
            fill_versions(folder / repository)
        for model in group.models:
            model.make(folder, roots)
        yield from _run_group(group, place)


def _copy(suite: Suite, group: Group, roots: Mapping[str, Path], folder: Path) -> Path:
    """A tree in which `../common` and the like are found, and the suite's own folder is ours."""
    shutil.rmtree(folder, ignore_errors=True)
    root, _, inside = suite.source.partition("/")
    parent = folder / Path(inside).parent
    parent.mkdir(parents=True)
    source = roots[root] / inside
    for neighbour in source.parent.iterdir():
        if neighbour.name != source.name:
            (parent / neighbour.name).symlink_to(neighbour)
    shutil.copytree(source, parent / source.name, symlinks=True)
    return parent / source.name / group.cwd


def _run_group(group: Group, place: Place) -> Iterator[Case]:
    flags = [*(f"--model-repository={place.folder / name}" for name in group.repositories)]
    flags += [flag.format(here=place.folder, **place.roots) for flag in group.flags]
    for check in group.checks:
        if isinstance(check, Skipped):
            yield from (Case(group.name, n, "skipped", reason=check.reason) for n in check.names)
    checks = [check for check in group.checks if not isinstance(check, Skipped)]
    if not checks:
        return
    if group.wait == "alone":
        for check in checks:
            if isinstance(check, Cases):
                yield from run_tests(group.name, check, place, 0)
        return
    with contextlib.ExitStack() as stack:
        for number, others in enumerate(group.also):
            log = place.folder / f"server-{number}.log"
            first = [flag.format(here=place.folder) for flag in others]
            started = process.serve(first, place.folder, place.env, log)
            process.wait_until(stack.enter_context(started), place.http, "live")
        server = stack.enter_context(process.serve(flags, place.folder, place.env, place.log))
        up = _up(group, server, place)
        place = replace(place, env=place.env | _version(place))
        for check in checks:
            if not isinstance(check, Logged | Refused):
                yield from _made(group, check, place, server, up)
        for check in checks:
            if isinstance(check, Refused):
                yield Case(group.name, check.name, *_refused(check, place, up))
    for check in checks:
        if isinstance(check, Logged):
            yield Case(group.name, check.name, *_logged(check, place))


def _up(group: Group, server: subprocess.Popen[bytes], place: Place) -> bool:
    if group.also and any(isinstance(check, Refused) for check in group.checks):
        # The other server would answer for this one.
        return not process.ends(server)
    return process.wait_until(server, place.http, group.wait)


def _version(place: Place) -> dict[str, str]:
    """Tests compare the server's version with what the container's environment says."""
    with contextlib.suppress(OSError), urlopen(f"http://{place.http}/v2", timeout=10) as answer:
        return {"TRITON_SERVER_VERSION": json.load(answer)["version"]}
    return {}


def _made(
    group: Group, check: Check, place: Place, server: subprocess.Popen[bytes], up: bool
) -> Iterator[Case]:
    if isinstance(check, Change):
        subprocess.run(check.command, shell=True, cwd=place.folder, check=False)
        time.sleep(check.seconds)
    elif isinstance(check, Cases):
        yield from run_tests(group.name, check, place, server.pid if up else None)
    elif isinstance(check, Inside):
        yield from _inside(group.name, check, place, server.pid if up else None)
    elif isinstance(check, Script | Ask) and not up:
        yield Case(group.name, check.name, "failed", _last_words(place))
    elif isinstance(check, Script):
        yield Case(group.name, check.name, *_script(check, place))
    elif isinstance(check, Ask):
        yield Case(group.name, check.name, *_ask(check, place))


def run_tests(group: str, tests: Cases, place: Place, pid: int | None) -> Iterator[Case]:
    """Each case of a file; without a server (`pid`) they are found, and fail."""
    out = place.folder / f"cases-{Path(tests.file).stem}.jsonl"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-p", "conformance.record", "-c", "/dev/null"]
    command += ["--rootdir", ".", "-p", "no:cacheprovider", "-q", "-W", "default", tests.file]
    if pid is None:
        command.append("--collect-only")
    env = {
        "SERVER_PID": str(pid),
        "SERVER_LOG": str(place.log),
        "PYTHONDONTWRITEBYTECODE": "1",
        **place.env,
        **tests.env,
        record.OUT: str(out),
        record.ONLY: json.dumps(tests.only),
    }
    log = place.folder / f"tests-{Path(tests.file).stem}.log"
    status = process.run(command, place.folder, env, log, tests.seconds)
    lines = out.read_text().splitlines() if out.exists() else []
    events = [json.loads(line) for line in lines]
    found = [event["case"] for event in events if event["event"] == "found"]
    ended = {event["case"]: event for event in events if event["event"] == "end"}
    for name in found or tests.only or (tests.file,):
        if name in ended:
            yield _case(group, name, ended[name]["outcome"], ended[name]["told"], tests.skips)
        else:
            over = f"within {tests.seconds} s" if status is None else f"before status {status}"
            told = f"did not end {over}" if found else f"not found, see {log}"
            told = _last_words(place) if pid is None else told
            yield _case(group, name, "failed", told, tests.skips)


def _inside(group: str, check: Inside, place: Place, pid: int | None) -> Iterator[Case]:
    """Each case that a model runs in itself."""
    asking = Cases(check.file, env={"MODEL_NAME": check.model})
    (asked,) = run_tests(group, asking, place, pid)
    found = inside.names(place.folder / check.repository / check.model / "1" / "model.py")
    time.sleep(0.5)  # the log may lag behind the answer
    log = place.log.read_text(errors="replace")
    yield from inside.read(group, found, asked, log, check.skips)


def _case(group: str, name: str, outcome: str, told: str, skips: Mapping[str, Reason]) -> Case:
    for pattern, reason in skips.items():
        if fnmatch(name, pattern) or fnmatch(name.split(".")[-1], pattern):
            return Case(group, name, "skipped", reason=reason)
    if outcome == "skipped":
        return Case(group, name, "failed", f"skipped itself, for no reason of the list: {told}")
    return Case(group, name, outcome, told)


def _script(script: Script, place: Place) -> tuple[str, str]:
    log = place.folder / f"script-{re.sub(r'[^A-Za-z0-9_.-]', '_', script.name)}.log"
    root, _, inside = script.file.partition("/")
    path = place.roots[root] / inside if root in place.roots else place.folder / script.file
    arguments = [argument.format(here=place.folder, **place.roots) for argument in script.arguments]
    command = [sys.executable, str(path), *arguments]
    status = process.run(command, place.folder, place.env, log, script.seconds)
    text = log.read_text(errors="replace")
    if status is None:
        return "failed", f"did not end within {script.seconds} s"
    if (status != 0) != script.fails:
        return "failed", f"exit status {status}: {text[-1000:]}"
    if script.prints and script.prints not in text:
        return "failed", f"{script.prints!r} is not in {text[-1000:]}"
    return "passed", ""


def _ask(ask: Ask, place: Place) -> tuple[str, str]:
    body = None if ask.body is None else ask.body.encode()
    request = Request(f"http://{place.http}/{ask.path}", data=body)
    try:
        with urlopen(request, timeout=ask.seconds) as answer:
            status, text = answer.status, answer.read().decode(errors="replace")
    except HTTPError as error:
        status, text = error.code, error.read().decode(errors="replace")
    except OSError as error:
        return "failed", str(error)
    wanted = status == ask.status if ask.status else (status == 200) == ask.ok
    holds = all(part in text for part in ask.holds)
    if wanted and holds and not any(part in text for part in ask.lacks):
        return "passed", ""
    return "failed", f"{status}: {text[:1000]}"


def _refused(refused: Refused, place: Place, up: bool) -> tuple[str, str]:
    if up:
        return "failed", "the server started"
    text = place.log.read_text(errors="replace")
    if refused.texts and not any(re.search(part, text, re.MULTILINE) for part in refused.texts):
        return "failed", f"{' or '.join(refused.texts)} is not in: {_last_words(place)}"
    return "passed", ""


def _logged(logged: Logged, place: Place) -> tuple[str, str]:
    path = place.folder / logged.file if logged.file else place.log
    text = path.read_text(errors="replace") if path.exists() else ""
    count = len(re.findall(logged.pattern, text, re.MULTILINE))
    if count == logged.count or (logged.count is None and count > 0):
        return "passed", ""
    return "failed", f"{count} times {logged.pattern!r} in {path.name}"


def _last_words(place: Place) -> str:
    lines = place.log.read_text(errors="replace").splitlines()
    told = [line for line in lines if line and line[0] not in "|+"]
    return "the server did not start: " + " / ".join(told[-6:])[-1500:]
