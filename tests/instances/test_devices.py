"""Which devices an instance group gets, with and without GPUs in the machine."""

import pytest

from nerite import InferenceError
from nerite.instances import devices
from nerite.instances.devices import CPU, Device

GROUP = {"name": "g", "kind": "KIND_GPU", "count": 2}


def machine(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: list(numbers))


def of(gpus: list[int], *, strict_gpu: bool = False) -> list[Device]:
    return devices.devices("m", {**GROUP, "gpus": gpus}, strict_gpu=strict_gpu)


def test_a_machine_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 0, 1)
    assert of([]) == [Device("cuda", 0)] * 2 + [Device("cuda", 1)] * 2
    assert of([1]) == [Device("cuda", 1)] * 2
    with pytest.raises(InferenceError, match="invalid or unsupported gpu id 42.* are: 0, 1"):
        of([0, 42])


def test_a_machine_without(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    assert of([]) == of([42]) == [CPU] * 2
    with pytest.raises(InferenceError, match="asks for a GPU, which this machine does not have"):
        of([], strict_gpu=True)
    with pytest.raises(InferenceError, match="g of model m .* gpu id 42.* are: none"):
        of([42], strict_gpu=True)
