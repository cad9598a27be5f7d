"""What a suite is: groups of checks, one server start each, and the models they need.

Everything here is data; run.py gives it its meaning.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from conformance.models import Model, Text
from conformance.reasons import Reason


@dataclass(frozen=True)
class Cases:
    """A file of unittest or pytest cases, run unmodified, each case by itself in the matrix."""

    file: str
    only: tuple[str, ...] = ()  # names of classes, cases, or CLASS.CASE; none: all of the file
    skips: Mapping[str, Reason] = field(default_factory=dict)  # by glob of the case's name
    env: Mapping[str, str] = field(default_factory=dict)
    seconds: int = 300  # for all of its cases together


@dataclass(frozen=True)
class Inside:
    """unittest cases in a model's own code, which runs them when `file`, a client's test, asks."""

    model: str
    file: str
    skips: Mapping[str, Reason] = field(default_factory=dict)
    repository: str = "models"


@dataclass(frozen=True)
class Script:
    """A program that passes when it ends well and prints what it should: one case."""

    name: str
    file: str
    arguments: tuple[str, ...] = ()
    prints: str = ""
    fails: bool = False  # it must end badly
    seconds: int = 120


@dataclass(frozen=True)
class Ask:
    """One HTTP question and what must be in its answer: one case."""

    name: str
    path: str
    body: str | None = None  # none: GET; otherwise POST
    ok: bool = True  # 200, or anything but 200
    status: int | None = None
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    seconds: int = 60


@dataclass(frozen=True)
class Logged:
    """A pattern and how often it stands in the server's log after its end: one case."""

    name: str
    pattern: str
    count: int | None = None  # none: at least once
    file: str = ""  # or another file of the group's folder


@dataclass(frozen=True)
class Refused:
    """The server must not start, and say one of `texts` (patterns): one case."""

    name: str
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """Cases that cannot run here, named all the same."""

    reason: Reason
    names: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A change of the group's folder between two checks, and time for a poll to see it."""

    command: str
    seconds: float = 1.0


Check = Cases | Inside | Script | Ask | Logged | Refused | Skipped | Change


@dataclass(frozen=True)
class Group:
    """One server start and the checks made on it; a folder of its own on the disk, which `{here}`
    in flags and environment means."""

    name: str
    checks: tuple[Check, ...]
    models: tuple[Model | Text, ...] = ()
    flags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    repositories: tuple[str, ...] = ("models",)
    # The server is to be ready; or "live"; "started": it answers; "stable": live, and no model is
    # loading. "alone": there is no server, the tests start their own.
    wait: str = "ready"
    also: tuple[tuple[str, ...], ...] = ()  # flags of further servers, started before this one
    log: str = "server.log"  # of the server, in the group's folder
    cwd: str = ""  # a folder inside the suite's


@dataclass(frozen=True)
class Suite:
    """A folder of Triton's tests. `issue` is ours: which one promises it.

    Where a checkout's data files are the cases, `groups` makes them of the checkouts' folders.
    """

    name: str
    issue: int
    groups: tuple[Group, ...] | Callable[[Mapping[str, Path]], tuple[Group, ...]]
    folder: str = ""  # in the checkouts; by default server/qa/NAME

    @property
    def source(self) -> str:
        return self.folder or f"server/qa/{self.name}"
