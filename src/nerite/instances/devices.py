"""Which devices an instance group means on this machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

from nerite.backends.gpus import gpus
from nerite.core.errors import invalid

log = logging.getLogger(__name__)


class Device(NamedTuple):
    """kind: "cpu" or "cuda"."""

    kind: str
    number: int

    @property
    def policy(self) -> str:
        """The host policy of what runs here and names none."""
        return "cpu" if self.kind == "cpu" else f"gpu_{self.number}"


CPU = Device("cpu", 0)


def devices(model: str, group: Mapping[str, Any], *, strict_gpu: bool) -> list[Device]:
    """A device per instance of `group` (Triton's ModelInstanceGroup in JSON form).

    A group for GPUs on a machine without any runs on the CPU, with a warning; with `strict_gpu`
    it is an InferenceError, as is a number that none of the machine's GPUs has.
    """
    count = group.get("count", 1) or 1
    kind = group.get("kind", "KIND_AUTO")
    if kind != "KIND_GPU" and not group.get("gpus"):
        return [CPU] * count
    present = gpus()
    wanted = group.get("gpus") or present
    missing = [number for number in wanted if number not in present]
    name = group.get("name", "")
    if missing and (present or strict_gpu):
        known = ", ".join(map(str, present)) or "none"
        raise invalid(
            f"instance group {name} of model {model} specifies invalid or unsupported gpu id "
            f"{missing[0]}. GPUs with at least the minimum required CUDA compute compatibility "
            f"are: {known}"
        )
    if not wanted or missing:
        what = f"GPU {missing[0]}" if missing else "a GPU"
        text = f"instance group '{name}' of model '{model}' asks for {what}"
        if strict_gpu:
            raise invalid(f"{text}, which this machine does not have (--strict-gpu)")
        log.warning("%s, which this machine does not have: it runs on the CPU", text)
        return [CPU] * count
    return [Device("cuda", number) for number in wanted for _ in range(count)]
