"""Cases inside a model: it runs them when it is asked, and what became of them is in the log."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from conformance.matrix import Case
from conformance.reasons import Reason


def names(model: Path) -> list[str]:
    """The unittest cases in a model.py."""
    tree = ast.parse(model.read_text())
    return [
        node.name
        for found in tree.body
        if isinstance(found, ast.ClassDef)
        and any(ast.unparse(base).endswith("TestCase") for base in found.bases)
        for node in found.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    ]


def read(
    group: str, found: list[str], asked: Case, log: str, skips: Mapping[str, Reason]
) -> Iterator[Case]:
    """Each of the cases `found`, from unittest's own words in `log`; `asked` is the question that
    made the model run them."""
    ran = [int(count) for count in re.findall(r"Ran (\d+) tests? in", log)]
    broken = {match[1]: match[0] for match in re.finditer(r"(?:FAIL|ERROR): (\w+) \(.*", log)}
    for name in found:
        if name in skips:
            yield Case(group, name, "skipped", reason=skips[name])
        elif ran != [len(found)]:
            yield Case(group, name, "failed", asked.told or f"{ran} of {len(found)} were run")
        elif name in broken:
            yield Case(group, name, "failed", broken[name])
        else:
            yield Case(group, name, "passed")
