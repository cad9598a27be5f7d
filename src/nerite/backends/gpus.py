"""The machine's GPUs, and which backends can use one with what is installed here.

Both are found out without importing a GPU library, which the server's own process never does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus(nodes: Path = Path("/dev")) -> list[int]:
    """The numbers of this machine's NVIDIA GPUs, by their device nodes; as CUDA does, only as
    many as CUDA_VISIBLE_DEVICES names."""
    matches = (re.fullmatch(r"nvidia(\d+)", node.name) for node in nodes.glob("nvidia*"))
    found = sorted(int(match[1]) for match in matches if match)
    if _VISIBLE not in os.environ:
        return found
    named = [name for name in os.environ[_VISIBLE].split(",") if name.strip() not in ("", "-1")]
    return list(range(min(len(named), len(found))))


def uses_gpu(backend: str) -> bool:
    """Whether a backend's instances of no kind (KIND_AUTO) belong on a GPU where there is one.

    Code in Python can use what it likes, and is told the kind.
    """
    installed = _INSTALLED.get(backend)
    return installed is None or installed()


def _onnxruntime() -> bool:
    return "libonnxruntime_providers_cuda.so" in _names("onnxruntime", "capi")


def _torch() -> bool:
    return bool(re.search(r"^cuda\b[^=]*= *'", _text("torch", "version.py"), re.MULTILINE))


def _paddle() -> bool:
    text = _text("paddle", "version/__init__.py")
    return bool(re.search(r"^cuda_version *= *'\d", text, re.MULTILINE))


def _never() -> bool:
    return False


_INSTALLED: dict[str, Callable[[], bool]] = {
    "diffusion": _never,  # its graphs and its weights need different packages; the config says it
    "fastdeploy": lambda: _paddle() and _onnxruntime(),
    "onnxruntime": _onnxruntime,
    "paddle": _paddle,
    "pytorch": _torch,
}


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _names(package: str, folder: str) -> list[str]:
    found = _folder(package)
    return [file.name for file in (found / folder).glob("*")] if found is not None else []


def _text(package: str, file: str) -> str:
    found = _folder(package)
    try:
        return (found / file).read_text(encoding="utf-8") if found is not None else ""
    except OSError:
        return ""
