"""`python -m conformance`: see the README beside this file."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from conformance import matrix, network
from conformance.matrix import Case
from conformance.prepare import generate
from conformance.run import run_suite
from conformance.suite import Suite
from conformance.suites import SUITES

CHECKOUTS = ("server", "client", "python_backend", "core")


def main() -> int:
    """0 when every portable case passed."""
    options = _options()
    chosen = _chosen(options.suite or [], options.issue)
    if options.list:
        for suite in chosen:
            print(f"{suite.name}  issue {suite.issue}")
        return 0
    work = options.work.resolve()
    if not options.markdown or options.suite:
        roots = _roots(options, work)
        if not options.shared_network and not network.isolate():
            print("no network of our own here: ports 8000-8002 are the machine's", file=sys.stderr)
        for suite in chosen:
            _run(suite, roots, work, options.group)
    return _report(chosen, work, options)


def _run(suite: Suite, roots: dict[str, Path], work: Path, only: str) -> None:
    """Writes down what was reached, also when it is interrupted."""
    path = work / "results" / f"{suite.name}.json"
    before = matrix.load(path) if only != "*" and path.exists() else []
    cases: list[Case] = []
    for case in run_suite(suite, roots, work, only):
        cases.append(case)
        mark = case.reason.value if case.reason else case.outcome
        print(f"{suite.name} {case.group} {case.name}: {mark}", flush=True)
        groups = {case.group for case in cases}
        matrix.save(path, [case for case in before if case.group not in groups] + cases)


def _report(chosen: list[Suite], work: Path, options: argparse.Namespace) -> int:
    rows, failed = [], 0
    for suite in chosen:
        path = work / "results" / f"{suite.name}.json"
        if not path.exists():
            continue
        cases = matrix.load(path)
        rows.append(matrix.row(suite.name, cases))
        for case in cases:
            if case.outcome == "failed":
                failed += 1
                if not options.markdown:
                    told = " ".join(case.told.split())[:300]
                    print(f"FAILED {suite.name} {case.group} {case.name}: {told}")
    print(matrix.markdown(rows) if options.markdown else matrix.text(rows))
    return 1 if failed else 0


def _chosen(names: list[str], issue: int | None) -> list[Suite]:
    known = {suite.name: suite for suite in SUITES}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no suite {', '.join(unknown)}; `--list` names them")
    suites = [known[name] for name in names] if names else list(SUITES)
    return [suite for suite in suites if issue is None or suite.issue == issue]


def _roots(options: argparse.Namespace, work: Path) -> dict[str, Path]:
    roots = {name: getattr(options, name) for name in CHECKOUTS if getattr(options, name)}
    missing = [name for name in CHECKOUTS[:3] if name not in roots]
    if missing:
        sys.exit(f"give a checkout: {', '.join(f'--{name}' for name in missing)}")
    roots = {name: path.resolve() for name, path in roots.items()}
    # Cases and their server find this package and ours wherever they run.
    here = str(Path(__file__).parents[1])
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*known, here])
    return {**roots, "data": generate(roots["server"], work), "ours": Path(__file__).parent}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m conformance", description=__doc__)
    add = parser.add_argument
    for name in CHECKOUTS:
        flag = f"--{name.replace('_', '-')}"
        add(flag, type=Path, metavar="DIR", help=f"a checkout of triton-inference-server/{name}")
    add("--suite", action="append", metavar="NAME", help="repeatable; default: all")
    add("--group", default="*", metavar="GLOB", help="only these server starts of the suites")
    add("--issue", type=int, metavar="N", help="only the suites that an issue of ours promises")
    default = Path(tempfile.gettempdir()) / "nerite-conformance"
    add("--work", type=Path, default=default, metavar="DIR", help="models, logs, results")
    add("--list", action="store_true", help="name the suites")
    add("--markdown", action="store_true", help="print the table; runs nothing without --suite")
    add("--shared-network", action="store_true", help="use the machine's ports 8000-8002")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
