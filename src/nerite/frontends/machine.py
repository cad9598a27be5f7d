"""What the metrics tell of the machine: its CPU by psutil, its NVIDIA GPUs by NVML.

Both libraries are optional; what is not there is not told of. Nothing is measured unless somebody
asks, and then at most once in an interval.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Mapping
from typing import Any

Values = list[tuple[Mapping[str, str], int | float]]
Family = tuple[str, str, str, Values]  # name, kind, help, values


class Machine:
    """Measures when asked to; `families` is what the last measurement said."""

    def __init__(
        self, *, cpu: bool = True, gpu: bool = True, interval_seconds: float = 2.0
    ) -> None:
        self._interval = interval_seconds
        self._measured = float("-inf")
        self._sources: list[_Cpu | _Gpus] = []
        if cpu:
            with contextlib.suppress(ImportError):
                self._sources.append(_Cpu())
        if gpu:
            with contextlib.suppress(ImportError, _NoDriver):
                self._sources.append(_Gpus())
        self.families: list[Family] = []

    @property
    def stale(self) -> bool:
        return time.monotonic() - self._measured >= self._interval

    def measure(self) -> None:
        """May take milliseconds; in one thread at a time."""
        self.families = [family for source in self._sources for family in source.families()]
        self._measured = time.monotonic()


class _Cpu:
    def __init__(self) -> None:
        self._psutil: Any = importlib.import_module("psutil")
        self._busy, self._total = self._seconds()

    def _seconds(self) -> tuple[float, float]:
        """How long the CPUs have been busy, and how long they have been at all."""
        # Not cpu_percent: it remembers its last call by thread, and any thread may measure.
        times = self._psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        counted_twice = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
        total = sum(times) - counted_twice
        return total - idle, total

    def families(self) -> list[Family]:
        memory = self._psutil.virtual_memory()
        busy, total = self._seconds()
        passed = total - self._total
        rate = min(1.0, max(0.0, (busy - self._busy) / passed)) if passed else 0.0
        self._busy, self._total = busy, total
        rows = (
            ("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", rate),
            ("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", memory.total),
            (
                "nv_cpu_memory_used_bytes",
                "CPU used memory (RAM), in bytes",
                memory.total - memory.available,
            ),
        )
        return [(name, "gauge", text, [({}, value)]) for name, text, value in rows]


class _NoDriver(Exception):  # noqa: N818  says what is, not what went wrong
    """There is no NVIDIA driver on this machine."""


class _Gpus:
    """What a GPU does not tell (a laptop's has no power limit) is left out."""

    def __init__(self) -> None:
        self._nvml: Any = importlib.import_module("pynvml")
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError:
            raise _NoDriver from None
        handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        self._handles = {self._nvml.nvmlDeviceGetUUID(handle): handle for handle in handles}
        self._start = {uuid: self._joules(handle) or 0 for uuid, handle in self._handles.items()}

    def families(self) -> list[Family]:
        values: dict[str, Values] = {name: [] for name, _, _ in _GPU}
        for uuid, handle in self._handles.items():
            joules = self._joules(handle)
            told = {
                **self._rates(handle),
                "nv_gpu_power_usage": self._watts("nvmlDeviceGetPowerUsage", handle),
                "nv_gpu_power_limit": self._watts("nvmlDeviceGetPowerManagementLimit", handle),
                "nv_energy_consumption": None if joules is None else joules - self._start[uuid],
            }
            for name, value in told.items():
                if value is not None:
                    values[name].append(({"gpu_uuid": uuid}, value))
        return [(name, kind, text, values[name]) for name, kind, text in _GPU]

    def _rates(self, handle: Any) -> dict[str, int | float | None]:
        rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        return {
            "nv_gpu_utilization": None if rates is None else rates.gpu / 100,
            "nv_gpu_memory_total_bytes": None if memory is None else int(memory.total),
            "nv_gpu_memory_used_bytes": None if memory is None else int(memory.used),
        }

    def _ask(self, name: str, handle: Any) -> Any:
        try:
            return getattr(self._nvml, name)(handle)
        except self._nvml.NVMLError:
            return None

    def _watts(self, name: str, handle: Any) -> float | None:
        milliwatts = self._ask(name, handle)
        return None if milliwatts is None else milliwatts / 1000

    def _joules(self, handle: Any) -> float | None:
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption", handle)
        return None if millijoules is None else millijoules / 1000


_GPU = [
    ("nv_gpu_utilization", "gauge", "GPU utilization rate [0.0 - 1.0)"),
    ("nv_gpu_memory_total_bytes", "gauge", "GPU total memory, in bytes"),
    ("nv_gpu_memory_used_bytes", "gauge", "GPU used memory, in bytes"),
    ("nv_gpu_power_usage", "gauge", "GPU power usage in watts"),
    ("nv_gpu_power_limit", "gauge", "GPU power management limit in watts"),
    (
        "nv_energy_consumption",
        "counter",
        "GPU energy consumption in joules since the Triton Server started",
    ),
]
