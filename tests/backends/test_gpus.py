"""Which GPUs there are, and which backends belong on one as they are installed."""

import sys
from pathlib import Path

import pytest

from nerite.backends.gpus import gpus, uses_gpu


@pytest.fixture(autouse=True)
def _all_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_nodes_of_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia1", "nvidia0", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus(tmp_path) == [0, 1]
    for visible, numbers in (("1", [0]), ("0,1,2", [0, 1]), ("", []), ("-1", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert gpus(tmp_path) == numbers


@pytest.mark.parametrize(
    ("backend", "file", "with_gpu", "without"),
    [
        ("pytorch", "torch/version.py", "cuda: Optional[str] = '12.8'", "cuda = None"),
        ("paddle", "paddle/version/__init__.py", "cuda_version = '12.6'", "cuda_version = 'False'"),
        ("onnxruntime", "onnxruntime/capi/libonnxruntime_providers_cuda.so", "", None),
    ],
)
def test_what_is_installed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    file: str,
    with_gpu: str,
    without: str | None,
) -> None:
    package = file.partition("/")[0]
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / package / "__init__.py").touch()
    if without is not None:
        (tmp_path / file).write_text(without)
    assert not uses_gpu(backend)
    (tmp_path / file).write_text(with_gpu)
    assert uses_gpu(backend)


def test_code_in_python_may_use_what_it_likes() -> None:
    assert uses_gpu("python") and uses_gpu("identity")
    assert not uses_gpu("diffusion")
