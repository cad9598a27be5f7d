"""CUDA shared memory, with a driver library that keeps its "GPU" in this process's memory."""

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nerite.core.errors import InferenceError, Status
from nerite.frontends.cuda import CudaError, Driver
from nerite.frontends.regions import Regions

INVALID_CONTEXT, INVALID_HANDLE, NO_DEVICE = 201, 400, 100
HANDLE = bytes(range(64))


class FakeLibrary:
    """libcuda's functions, one GPU; arguments are ctypes' own, as for the real one."""

    def __init__(self, size: int = 256) -> None:
        self.memory = ctypes.create_string_buffer(size)
        self.open_handles = 0
        self.current: list[int] = []
        self.handles: list[bytes] = []

    @property
    def address(self) -> int:
        return ctypes.addressof(self.memory)

    def cuInit(self, flags: Any) -> int:
        return 0

    def cuDeviceGet(self, device: Any, number: Any) -> int:
        return 0 if number.value == 0 else 101

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        context._obj.value = 7
        return 0

    def cuCtxPushCurrent_v2(self, context: Any) -> int:
        self.current.append(context.value)
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        self.current.pop()
        return 0

    def cuIpcOpenMemHandle_v2(self, address: Any, handle: Any, flags: Any) -> int:
        if self.current != [7]:
            return INVALID_CONTEXT
        if bytes(handle) != HANDLE or flags.value != 1:
            return INVALID_HANDLE
        self.open_handles += 1
        address._obj.value = self.address
        return 0

    def cuMemGetAddressRange_v2(self, start: Any, size: Any, address: Any) -> int:
        start._obj.value, size._obj.value = address.value, len(self.memory)
        return 0

    def cuIpcCloseMemHandle(self, address: Any) -> int:
        assert address.value == self.address
        self.open_handles -= 1
        return 0

    def cuMemcpyDtoH_v2(self, to: Any, address: Any, size: Any) -> int:
        ctypes.memmove(to, address.value, size.value)
        return 0 if self.current == [7] else INVALID_CONTEXT

    def cuMemcpyHtoD_v2(self, address: Any, data: Any, size: Any) -> int:
        ctypes.memmove(address.value, data, size.value)
        return 0 if self.current == [7] else INVALID_CONTEXT

    def cuGetErrorName(self, code: Any, text: Any) -> int:
        text._obj.value = b"CUDA_ERROR_%d" % code.value
        return 0


@pytest.fixture
def library() -> FakeLibrary:
    return FakeLibrary()


@pytest.fixture
def regions(library: FakeLibrary) -> Iterator[Regions]:
    yield Regions(allowed=True, open_driver=lambda: Driver(library))
    assert library.current == []


def test_what_is_written_is_read(regions: Regions, library: FakeLibrary) -> None:
    regions.register_cuda("r", HANDLE, 0, 100)
    region = regions.find("r", 10, 5)
    region.write(10, memoryview(b"hello"))
    assert library.memory.raw[10:15] == b"hello"
    assert region.read(10, 5) == b"hello"
    assert region.read(100, 0) == b""
    assert regions.status(cuda=True) == [{"name": "r", "device_id": 0, "byte_size": 100}]
    assert regions.status() == []


def test_a_region_lives_while_it_is_used(regions: Regions, library: FakeLibrary) -> None:
    regions.register_cuda("r", HANDLE, 0, 100)
    used = regions.find("r", 0, 1)
    regions.unregister("r")  # the system's of this name: there is none
    assert regions.status("r", cuda=True)
    regions.unregister(cuda=True)
    assert [one["name"] for one in regions.status(cuda=True)] == ["r"]
    assert library.open_handles == 1
    del used
    assert regions.status(cuda=True) == []
    assert library.open_handles == 0


def _refused(what: Callable[[], None]) -> tuple[Status, str]:
    with pytest.raises(InferenceError) as caught:
        what()
    return caught.value.status, caught.value.message


@pytest.mark.parametrize(
    ("handle", "device", "size"),
    [(HANDLE, 0, 257), (HANDLE, 1, 8), (bytes(64), 0, 8), (b"short", 0, 8), (HANDLE, 1 << 40, 8)],
    ids=["too large", "no such device", "no such handle", "no handle", "no device number"],
)
def test_what_cannot_be_registered(
    regions: Regions, library: FakeLibrary, handle: bytes, device: int, size: int
) -> None:
    text = "failed to register shared memory region 'r': invalid args"
    found = _refused(lambda: regions.register_cuda("r", handle, device, size))
    assert found == (Status.INVALID_ARG, text)
    assert library.open_handles == 0


def test_names_are_shared_with_the_systems(regions: Regions) -> None:
    regions.register_cuda("r", HANDLE, 0, 8)
    text = "shared memory region 'r' already in manager"
    assert _refused(lambda: regions.register("r", "/x", 0, 1)) == (Status.ALREADY_EXISTS, text)
    text = "Unable to find system shared memory region: 'r'"
    assert _refused(lambda: (regions.status("r"), None)[1]) == (Status.NOT_FOUND, text)


def test_without_a_gpu() -> None:
    def no_gpu() -> Driver:
        raise CudaError("cuInit: CUDA_ERROR_NO_DEVICE")

    regions = Regions(allowed=True, open_driver=no_gpu)
    text = "failed to register CUDA shared memory region: 'r', GPUs not supported"
    found = _refused(lambda: regions.register_cuda("r", HANDLE, 0, 8))
    assert found == (Status.INVALID_ARG, text)


def test_what_is_not_allowed() -> None:
    regions = Regions(allowed=False, open_driver=lambda: pytest.fail("the driver is not needed"))
    status, text = _refused(lambda: regions.register_cuda("r", HANDLE, 0, 8))
    assert status is Status.UNSUPPORTED
    assert text.startswith("Client shared memory is disabled.")


def test_a_driver_that_does_not_start() -> None:
    class Broken(FakeLibrary):
        def cuInit(self, flags: Any) -> int:
            return NO_DEVICE

    with pytest.raises(CudaError, match="cuInit: CUDA_ERROR_100"):
        Driver(Broken())
