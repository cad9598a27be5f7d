"""What is told of GPUs, from a driver's library made up here, and of machines that lack one."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from nerite.frontends.machine import Machine


class NVMLError(Exception):
    pass


def library(**replaced: Any) -> ModuleType:
    """pynvml with one GPU that tells everything but its power limit."""

    def unsupported(_: Any) -> Any:
        raise NVMLError

    energy = iter((5_000, 5_000, 7_500))
    functions = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
        "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=25),
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=1000, used=10),
        "nvmlDeviceGetPowerUsage": lambda _: 70_500,
        "nvmlDeviceGetPowerManagementLimit": unsupported,
        "nvmlDeviceGetTotalEnergyConsumption": lambda _: next(energy),
    }
    module = ModuleType("pynvml")
    for name, function in {"NVMLError": NVMLError, **functions, **replaced}.items():
        setattr(module, name, function)
    return module


def told(machine: Machine) -> dict[str, Any]:
    machine.measure()
    return {name: values for name, _, _, values in machine.families}


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library())
    machine = Machine(cpu=False)
    at = {"gpu_uuid": "GPU-0"}
    first = told(machine)
    assert first["nv_gpu_utilization"] == [(at, 0.25)]
    assert first["nv_gpu_memory_total_bytes"] == [(at, 1000)]
    assert first["nv_gpu_memory_used_bytes"] == [(at, 10)]
    assert first["nv_gpu_power_usage"] == [(at, 70.5)]
    # This one has no limit to tell.
    assert first["nv_gpu_power_limit"] == []
    assert first["nv_energy_consumption"] == [(at, 0.0)]
    assert told(machine)["nv_energy_consumption"] == [(at, 2.5)]
    assert {kind for name, kind, _, _ in machine.families if "energy" in name} == {"counter"}


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise NVMLError

    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlInit=fail))
    assert told(Machine(cpu=False)) == {}


def test_no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "psutil", None)
    machine = Machine()
    assert machine.stale
    assert told(machine) == {}
    assert not machine.stale
