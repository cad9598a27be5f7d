"""What came out: cases, counted by suite, as a table for a terminal and one for the documents."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from conformance.reasons import Reason

COLUMNS = ("suite", "cases", "portable", "passed", "failed", "skipped")


@dataclass(frozen=True)
class Case:
    """One case of a suite. `told` is the message of a failure; a skip needs a `reason`."""

    group: str
    name: str
    outcome: str  # passed, failed, skipped
    told: str = ""
    reason: Reason | None = None

    def __post_init__(self) -> None:
        if (self.outcome == "skipped") != (self.reason is not None):
            raise ValueError(f"{self.name}: a skip, and nothing else, has a reason of the list")


def row(suite: str, cases: Iterable[Case]) -> tuple[str, ...]:
    """The suite's line of the table."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for case in cases:
        counts[case.outcome] += 1
        if case.reason is not None:
            reasons[case.reason.value] += 1
    portable = counts["passed"] + counts["failed"]
    skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "0"
    numbers = (portable + counts["skipped"], portable, counts["passed"], counts["failed"])
    return (suite, *map(str, numbers), skipped)


def total(rows: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The line under the others, with the share of the portable cases that passed."""
    cases, portable, passed, failed = (sum(int(row[n]) for row in rows) for n in range(1, 5))
    share = f"{100 * passed / portable:.1f} % of the portable pass" if portable else ""
    return ("all", str(cases), str(portable), str(passed), str(failed), share)


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """The table as it stands in docs/compatibility.md."""
    lines = [COLUMNS, ("---", "--:", "--:", "--:", "--:", "---"), *rows, total(rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(rows: Sequence[tuple[str, ...]]) -> str:
    """The table for a terminal."""
    lines = [COLUMNS, *rows, total(rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n in (0, 5) else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def save(path: Path, cases: Sequence[Case]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(case) for case in cases], indent=1) + "\n")


def load(path: Path) -> list[Case]:
    entries = json.loads(path.read_text())
    return [
        Case(**{**entry, "reason": Reason(entry["reason"]) if entry["reason"] else None})
        for entry in entries
    ]
