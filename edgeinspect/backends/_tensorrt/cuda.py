"""CUDA contexts, memory and graphs for the TensorRT backend. The only file that imports pycuda.

Contexts live as long as the process: pycuda frees an object only while its context is current,
and a context that is released while another thread uses it crashes the process. pycuda has no
graphs; they are called in libcuda directly.

Source: docs/explanation/decisions/0011-tensorrt.md
"""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DeviceLostError, EngineFault, MissingExtraError

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: does not wait for the default stream."""
_CAPTURE_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate during a capture."""
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_L4T_FILE = Path("/etc/nv_tegra_release")

_lock = threading.Lock()
_contexts: dict[tuple[int, bool], CudaContext] = {}


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Properties of a device, driver and system that a plan depends on."""

    gpu: str
    compute_capability: str
    """Such as `8.7`."""
    driver: str
    """Version of NVIDIA's driver, such as `570.124.06`; empty if unknown."""
    cuda: str
    """CUDA version that the driver supports, such as `12.8`."""
    l4t: str
    """Release of a Jetson's system; empty on other machines."""
    is_integrated: bool
    """True if CPU and GPU share their memory (Jetson)."""


class CudaContext:
    """One context on one device, shared by the engines of the process.

    Thread-safe. Every method except `is_alive` must be called within `current()`.
    """

    def __init__(self, ordinal: int, *, spin: bool) -> None:
        driver = _import_driver()
        self._driver = driver
        device = driver.Device(ordinal)
        flags = driver.ctx_flags
        wait = flags.SCHED_SPIN if spin else flags.SCHED_BLOCKING_SYNC
        self.device_info = _read_device_info(driver, device)
        self._context = device.make_context(wait | flags.MAP_HOST)
        self._context.pop()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current in the calling thread.

        Raises:
            EngineFault: A CUDA call failed.
        """
        try:
            self._context.push()
            try:
                yield
            finally:
                self._driver.Context.pop()
        except self._driver.Error as error:
            raise EngineFault(f"CUDA failed: {error}", where=self.device_info.gpu) from error

    def is_alive(self) -> bool:
        """Return False if the context is lost: after an illegal access every call fails."""
        try:
            with self.current():
                self._driver.Context.synchronize()
        except EngineFault:
            return False
        return True

    def create_stream(self) -> Any:
        """Create a non-blocking stream; TensorRT takes its `handle`."""
        return self._driver.Stream(flags=NON_BLOCKING)

    def allocate(self, size_bytes: int) -> Any:
        """Allocate device memory; `int()` returns its address. Freed with its last reference."""
        return self._driver.mem_alloc(max(1, size_bytes))

    def allocate_pinned(
        self, shape: Sequence[int], dtype: np.dtype[Any], *, is_mapped: bool = False
    ) -> NDArray[Any]:
        """Allocate page-locked host memory, zeroed; `is_mapped`: the GPU can read it in place."""
        flags = self._driver.host_alloc_flags.DEVICEMAP if is_mapped else 0
        array: NDArray[Any] = self._driver.pagelocked_empty(tuple(shape), dtype, mem_flags=flags)
        array[...] = 0
        return array

    def mapped_address(self, array: NDArray[Any]) -> int:
        """Return the GPU address of an array from `allocate_pinned(is_mapped=True)`."""
        allocation: Any = array.base
        return int(allocation.get_device_pointer())

    def copy_to_device(self, target: Any, source: NDArray[Any], stream: Any) -> None:
        """Enqueue a copy from pinned memory to the device."""
        self._driver.memcpy_htod_async(target, source, stream)

    def copy_to_host(self, target: NDArray[Any], source: Any, stream: Any) -> None:
        """Enqueue a copy from the device to pinned memory."""
        self._driver.memcpy_dtoh_async(target, source, stream)


def open_device(ordinal: int = 0, *, spin: bool = False) -> CudaContext:
    """Return the context of a device, shared by calls with the same arguments.

    Args:
        ordinal: Index of the device, from 0.
        spin: Wait by polling, which wakes sooner but occupies a core.

    Raises:
        MissingExtraError: pycuda is not installed.
        DeviceLostError: There is no driver, or the device does not exist.
    """
    with _lock:
        existing = _contexts.get((ordinal, spin))
        if existing is not None and existing.is_alive():
            return existing
        driver = _import_driver()
        # Without a driver, TensorRT's runtime would end the process: initialise CUDA first.
        try:
            driver.init()
            count = int(driver.Device.count())
        except driver.Error as error:
            raise DeviceLostError(
                f"CUDA cannot start: {error}",
                where="GPU",
                remedy="Check the driver with nvidia-smi (on a Jetson: tegrastats)",
            ) from error
        if ordinal >= count:
            raise DeviceLostError(
                f"device {ordinal} does not exist; CUDA finds {count}",
                where="GPU",
                remedy="Correct `device`, or check the driver",
            )
        try:
            opened = _contexts[ordinal, spin] = CudaContext(ordinal, spin=spin)
        except driver.Error as error:
            raise DeviceLostError(f"cannot be used: {error}", where=f"GPU {ordinal}") from error
        return opened


def _import_driver() -> Any:
    try:
        import pycuda.driver
    except ImportError as error:
        raise MissingExtraError("trt", "pycuda", where="backend trt") from error
    return pycuda.driver


def _read_device_info(driver: Any, device: Any) -> DeviceInfo:
    version = int(driver.get_driver_version())
    driver_version = re.search(r"\b(\d+\.\d+(\.\d+)?)\b", _first_line(_DRIVER_FILE))
    return DeviceInfo(
        gpu=str(device.name()),
        compute_capability=".".join(map(str, device.compute_capability())),
        driver=driver_version[1] if driver_version else "",
        cuda=f"{version // 1000}.{version % 1000 // 10}",
        l4t=_first_line(_L4T_FILE),
        is_integrated=bool(device.get_attribute(driver.device_attribute.INTEGRATED)),
    )


def _first_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").partition("\n")[0].strip()[:200]
    except OSError:
        return ""


_HANDLE = ctypes.c_void_p
_GRAPH_FUNCTIONS = MappingProxyType(
    {
        "cuStreamBeginCapture_v2": (_HANDLE, ctypes.c_int),
        "cuStreamEndCapture": (_HANDLE, ctypes.POINTER(_HANDLE)),
        "cuGraphInstantiateWithFlags": (ctypes.POINTER(_HANDLE), _HANDLE, ctypes.c_ulonglong),
        "cuGraphLaunch": (_HANDLE, _HANDLE),
        "cuGraphExecDestroy": (_HANDLE,),
        "cuGraphDestroy": (_HANDLE,),
    }
)
"""Functions of libcuda and their argument types. Source: cuda.h of CUDA 12 and 13."""


class CudaGraph:
    """A recorded sequence of operations on one stream, launched as one. For one thread.

    It uses the addresses and shapes of the recording.
    """

    def __init__(self, stream: Any, record: Callable[[], None]) -> None:
        """Record the operations that `record` enqueues on `stream`; it must have run before.

        Raises:
            EngineFault: CUDA cannot record them; the stream remains usable.
        """
        self._library = _load_libcuda()
        self._stream = _HANDLE(int(stream.handle))
        self._graph = _HANDLE()
        self._executable = _HANDLE()
        self._call("cuStreamBeginCapture_v2", self._stream, _CAPTURE_THREAD_LOCAL)
        try:
            record()
        finally:  # a stream in capture mode accepts no other work
            ended = self._library.cuStreamEndCapture(self._stream, ctypes.byref(self._graph))
        _raise_on_error("cuStreamEndCapture", ended)
        try:
            self._call(
                "cuGraphInstantiateWithFlags", ctypes.byref(self._executable), self._graph, 0
            )
        except EngineFault:
            self.close()
            raise

    def launch(self) -> None:
        """Enqueue the recording, without waiting.

        Raises:
            EngineFault: CUDA refused.
        """
        _raise_on_error(
            "cuGraphLaunch", self._library.cuGraphLaunch(self._executable, self._stream)
        )

    def close(self) -> None:
        """Free the graph. May be called again."""
        if self._executable.value:
            self._library.cuGraphExecDestroy(self._executable)
        if self._graph.value:
            self._library.cuGraphDestroy(self._graph)
        self._executable, self._graph = _HANDLE(), _HANDLE()

    def _call(self, name: str, *arguments: Any) -> None:
        _raise_on_error(name, getattr(self._library, name)(*arguments))


def _load_libcuda() -> Any:
    """Load libcuda and declare the graph functions; they release the interpreter lock."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
        for name, arguments in _GRAPH_FUNCTIONS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
    except (OSError, AttributeError) as error:
        raise EngineFault(f"libcuda has no graph functions: {error}") from error
    return library


def _raise_on_error(name: str, code: int) -> None:
    if code:
        raise EngineFault(f"CUDA failed: {name} returned error {code}")
