"""--host-policy: the cores that the processes of a policy's instances run on."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from nerite.core.errors import invalid

Cores = frozenset[int]
log = logging.getLogger(__name__)
_NODES = Path("/sys/devices/system/node")


def cores_of(config: Iterable[tuple[str, str, str]], nodes: Path = _NODES) -> dict[str, Cores]:
    """The cores of each policy. config: policy, setting, value; the settings are Triton's.

    Where a policy names both, the cores count and not those of its NUMA node. Raises ValueError.
    """
    of_node: dict[str, Cores] = {}
    named: dict[str, Cores] = {}
    for policy, setting, value in config:
        if setting == "cpu-cores":
            named[policy] = _cores(value)
        elif setting == "numa-node":
            of_node[policy] = _node(value, nodes)
        else:
            raise ValueError(
                f"host policy setting '{setting}' is not known: there are numa-node and cpu-cores"
            )
    for policy, cores in named.items():
        if lacking := [core for core in cores if core >= (os.cpu_count() or 1)]:
            text = "host policy '%s' names cores that this machine lacks: %s"
            log.warning(text, policy, _shown(lacking))
    return {**of_node, **named}


def bind(pid: int, cores: Cores, instance: str) -> None:
    """Run a process there; its death is told elsewhere. Raises InferenceError."""
    try:
        os.sched_setaffinity(pid, cores)
    except ProcessLookupError:
        pass
    except (AttributeError, OSError) as error:
        text = f"'{instance}' cannot run on the cores {sorted(cores)}: {error}"
        raise invalid(text) from None


def _cores(text: str) -> Cores:
    """`0-3,8`: ranges with both ends, and single cores."""
    cores: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f"'{text}' are no cores; they are written as 0-3")
        cores.update(range(first, last + 1))
    return frozenset(cores)


def _shown(cores: Iterable[int]) -> str:
    """As `_cores` reads them."""
    runs = itertools.groupby(enumerate(sorted(cores)), lambda pair: pair[1] - pair[0])
    ends = [(run[0], run[-1]) for run in ([core for _, core in pairs] for _, pairs in runs)]
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in ends)


def _node(number: str, nodes: Path) -> Cores:
    try:
        return _cores((nodes / f"node{int(number)}" / "cpulist").read_text().strip())
    except (OSError, ValueError):
        raise ValueError(f"this machine has no NUMA node '{number}'") from None
