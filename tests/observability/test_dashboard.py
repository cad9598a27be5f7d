"""The dashboard and the page about it name only metrics that there are."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nerite.frontends import machine

from ..server.conftest import Serving
from .test_metrics import get

ROOT = Path(__file__).parents[2]
# Of models with a response cache.
CACHE = {"nv_cache_hit_summary_per_model", "nv_cache_miss_summary_per_model"}
GPU = {name for name, _, _ in machine._GPU}


@pytest.fixture(scope="module")
def known(repository: Path) -> set[str]:
    flags = ("--metrics-config=histogram_latencies=true", "--metrics-config=summary_latencies=true")
    with Serving(f"--model-repository={repository}", *flags) as serving:
        _, body = get(serving.metrics, "/metrics")
    return set(re.findall(r"^# TYPE (nv_\w+)", body, re.MULTILINE)) | GPU | CACHE


def names(text: str) -> set[str]:
    return {name.removesuffix("_bucket") for name in re.findall(r"\bnv_\w+", text)}


def test_the_dashboard_shows_what_there_is(known: set[str]) -> None:
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    assert shown
    assert names(" ".join(shown)) <= known
    left_out = {name for name in known - names(" ".join(shown)) if "pinned" not in name}
    assert left_out - CACHE <= {name for name in known if "compute_" in name and "summary" in name}


def test_the_dashboards_panels_do_not_overlap() -> None:
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (at["x"] + column, at["y"] + row) for column in range(at["w"]) for row in range(at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_page_names_what_there_is(known: set[str]) -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    assert names(page) <= known
    for setting in ("trace_level", "trace_rate", "log_verbose_level", "log_format"):
        assert setting in page


def test_the_commands_of_the_page(start: Callable[..., Serving]) -> None:
    """Its curl lines, of a server with the flags it names."""
    page = (ROOT / "docs" / "observability.md").read_text()
    asked = re.findall(r"^\$ curl (?:-s )?localhost:8000(\S+)(?: -d '(.*)')?$", page, re.MULTILINE)
    assert len(asked) == 5
    serving = start("--trace-config", "triton,file=/dev/null")
    for path, body in asked:
        path = path.replace("MODEL", "acts")
        answer, text = get(serving.http, path, "POST" if body else "GET", body or None)
        assert answer.status == 200, (path, text)
