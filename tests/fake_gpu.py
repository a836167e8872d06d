"""A fake GPU in host memory that replaces `pycuda.driver` and `tensorrt` in tests.

It implements only the calls that the backend uses, refuses them without a current context in the
calling thread, runs a plan with ONNX Runtime on the given addresses, and fails on request. It
verifies the order of calls and the recovery, not the behaviour of a device.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx

VERSION = "11.4.0.106"


class CudaError(Exception):
    """`pycuda.driver.Error`."""


@dataclass
class FakeGpu:
    """State of the fake device, and the calls to it."""

    devices: int = 1
    version: str = VERSION
    driver_version: int = 13000
    name: str = "Fake GPU"
    calls: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """Call to the error that it raises."""
    is_context_lost: bool = False
    """If True, every call fails."""
    builds: int = 0
    flags: list[str] = field(default_factory=list)
    strong: list[bool] = field(default_factory=list)
    timing_caches: list[bytes] = field(default_factory=list)
    strong_builds_fail: bool = False
    live_allocations: int = 0
    """Number of allocations that were not freed."""
    local: threading.local = field(default_factory=threading.local)

    def stack(self) -> list[Any]:
        if not hasattr(self.local, "stack"):
            self.local.stack = []
        return self.local.stack

    def record_call(self, name: str, *, context: bool = True) -> None:
        self.calls.append(name)
        if self.is_context_lost and name != "init":
            raise CudaError(f"{name} failed: an illegal memory access was encountered")
        if context and not self.stack():
            raise CudaError(f"{name} failed: no currently active context?")
        if name in self.failures:
            raise CudaError(f"{name} failed: {self.failures[name]}")


def make_driver(gpu: FakeGpu) -> ModuleType:
    """Create the module `pycuda.driver`."""

    class Context:
        def __init__(self, flags: int) -> None:
            self.flags = flags

        def push(self) -> None:
            gpu.record_call("push", context=False)
            gpu.stack().append(self)

        @staticmethod
        def pop() -> None:
            gpu.stack().pop()

        @staticmethod
        def synchronize() -> None:
            gpu.record_call("Context.synchronize")

    class Device:
        def __init__(self, ordinal: int) -> None:
            self.ordinal = ordinal

        @staticmethod
        def count() -> int:
            return gpu.devices

        def name(self) -> str:
            return gpu.name

        def compute_capability(self) -> tuple[int, int]:
            return (8, 7)

        def get_attribute(self, which: str) -> int:
            return 0

        def make_context(self, flags: int) -> Context:
            made = Context(flags)
            gpu.record_call("make_context", context=False)
            gpu.stack().append(made)
            return made

    class Memory:
        def __init__(self, size: int) -> None:
            self.array = np.zeros(size, np.uint8)
            gpu.live_allocations += 1

        def __int__(self) -> int:
            return int(self.array.ctypes.data)

        def __del__(self) -> None:
            gpu.live_allocations -= 1

    class Host:
        """Page-locked memory: the base of an array."""

        def __init__(self, shape: Any, dtype: Any) -> None:
            self.memory = np.full(shape, 1, dtype)
            self.__array_interface__ = self.memory.__array_interface__

        def get_device_pointer(self) -> int:
            return int(self.memory.ctypes.data)

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            gpu.record_call("Stream")
            assert flags == 1, "the default stream synchronizes with others"
            self.handle = 4242

        def synchronize(self) -> None:
            gpu.record_call("Stream.synchronize")

    def allocate(size: int) -> Memory:
        gpu.record_call("mem_alloc")
        return Memory(size)

    def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        gpu.record_call("pagelocked_empty")
        return np.asarray(Host(shape, dtype))

    def copy_in(target: Memory, source: Any, stream: Stream) -> None:
        gpu.record_call("memcpy_htod_async")
        target.array[: source.nbytes] = source.reshape(-1).view(np.uint8)

    def copy_out(target: Any, source: Memory, stream: Stream) -> None:
        gpu.record_call("memcpy_dtoh_async")
        target.reshape(-1).view(np.uint8)[:] = source.array[: target.nbytes]

    made = ModuleType("pycuda.driver")
    made.__dict__.update(
        init=lambda: gpu.record_call("init", context=False),
        Error=CudaError,
        Context=Context,
        Device=Device,
        Stream=Stream,
        mem_alloc=allocate,
        pagelocked_empty=pagelocked_empty,
        memcpy_htod_async=copy_in,
        memcpy_dtoh_async=copy_out,
        get_driver_version=lambda: gpu.driver_version,
        ctx_flags=SimpleNamespace(SCHED_SPIN=1, SCHED_BLOCKING_SYNC=4, MAP_HOST=8),
        host_alloc_flags=SimpleNamespace(DEVICEMAP=2),
        device_attribute=SimpleNamespace(INTEGRATED="integrated"),
    )
    return made


_NAMES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF"}


def _tensor(value: onnx.ValueInfoProto) -> SimpleNamespace:
    dims = value.type.tensor_type.shape.dim
    shape = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]
    dtype = SimpleNamespace(name=_NAMES[value.type.tensor_type.elem_type])
    return SimpleNamespace(name=value.name, dtype=dtype, shape=shape)


class _Network:
    def __init__(self, gpu: FakeGpu, flags: int) -> None:
        gpu.strong.append(bool(flags))
        self.model: onnx.ModelProto | None = None
        self.num_layers = 0

    num_inputs = property(lambda self: len(self.model.graph.input))
    num_outputs = property(lambda self: len(self.model.graph.output))

    def get_input(self, index: int) -> SimpleNamespace:
        assert self.model is not None
        return _tensor(self.model.graph.input[index])

    def get_output(self, index: int) -> SimpleNamespace:
        assert self.model is not None
        return _tensor(self.model.graph.output[index])


class _Parser:
    def __init__(self, network: _Network, logger: Any) -> None:
        self.network = network
        self.num_errors = 0

    def parse(self, data: bytes) -> bool:
        try:
            model = onnx.load_from_string(data)
            onnx.checker.check_model(model)
        except Exception:
            self.num_errors = 1
            return False
        self.network.model = model
        return True

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(
            desc=lambda: "cannot be read", node_name=lambda: "", node_operator=lambda: ""
        )


class _Config:
    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.cache = b""
        self.progress_monitor: Any = None

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        assert size >= 16 << 20

    def clear_flag(self, flag: str) -> None:
        assert flag == "TF32"

    def set_flag(self, flag: str) -> None:
        self.gpu.flags.append(flag)

    def create_timing_cache(self, data: bytes) -> Any:
        return SimpleNamespace(data=data, serialize=lambda: data + b"+timed")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache
        self.gpu.timing_caches.append(cache.data)
        return not cache.data.startswith(b"of another")

    def get_timing_cache(self) -> Any:
        return self.cache


class _Engine:
    def __init__(self, gpu: FakeGpu, data: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.gpu = gpu
        model = onnx.load_from_string(data)
        self.io_tensors = {value.name: _tensor(value) for value in model.graph.input}
        self.inputs = set(self.io_tensors)
        self.io_tensors |= {value.name: _tensor(value) for value in model.graph.output}
        self.session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )
        self.num_io_tensors = len(self.io_tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.io_tensors)[index]

    def get_tensor_shape(self, name: str) -> list[int]:
        return self.io_tensors[name].shape

    def get_tensor_dtype(self, name: str) -> Any:
        return self.io_tensors[name].dtype

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name in self.inputs else "OUTPUT"

    def create_execution_context(self) -> _Context | None:
        return None if "create_execution_context" in self.gpu.failures else _Context(self)

    def create_engine_inspector(self) -> Any:
        report = '{"Layers": [{"Name": "c", "LayerType": "Conv", "Inputs": [], "Outputs": []}]}'
        return SimpleNamespace(get_engine_information=lambda _format: report)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def infer_shapes(self) -> list[str]:
        return []

    def execute_async_v3(self, stream_handle: int) -> bool:
        gpu = self.engine.gpu
        gpu.record_call("execute")
        if "refuse" in gpu.failures:
            return False
        ends = self.engine.io_tensors
        (name,) = self.engine.inputs
        image = self._array(name)
        names = [each for each in ends if each not in self.engine.inputs]
        for output, value in zip(names, self.engine.session.run(names, {name: image}), strict=True):
            self._array(output)[...] = value
        return True

    def _array(self, name: str) -> Any:
        dtypes = {"FLOAT": np.float32, "UINT8": np.uint8}
        tensor = self.engine.io_tensors[name]
        dtype = np.dtype(dtypes[tensor.dtype.name])
        size = int(np.prod(tensor.shape)) * dtype.itemsize
        memory = (ctypes.c_uint8 * size).from_address(self.addresses[name])
        return np.frombuffer(memory, dtype).reshape(tensor.shape)


def make_tensorrt(gpu: FakeGpu) -> ModuleType:
    """Create the module `tensorrt`. A plan is the ONNX file after a stamp with the version."""
    stamp = b"plan of " + gpu.version.encode() + b"\n"

    class Logger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1)

        def __init__(self) -> None: ...

    class Monitor:
        def __init__(self) -> None: ...

    class Builder:
        max_threads = 1

        def __init__(self, logger: Any) -> None:
            gpu.record_call("Builder")
            self.logger = logger

        def create_network(self, flags: int) -> _Network:
            return _Network(gpu, flags)

        def create_builder_config(self) -> _Config:
            return _Config(gpu)

        def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
            gpu.builds += 1
            if config.progress_monitor is not None:
                config.progress_monitor.phase_start("timing", None, 2)
                config.progress_monitor.step_complete("timing", 0)
                config.progress_monitor.phase_finish("timing")
            if "build" in gpu.failures or (gpu.strong_builds_fail and gpu.strong[-1]):
                self.logger.log(Logger.Severity.ERROR, "no implementation\nfor node conv")
                return None
            assert network.model is not None
            return stamp + network.model.SerializeToString()

    class Runtime:
        def __init__(self, logger: Any) -> None:
            gpu.record_call("Runtime")

        def deserialize_cuda_engine(self, data: bytes) -> _Engine | None:
            return _Engine(gpu, data[len(stamp) :]) if data.startswith(stamp) else None

    class Flags:
        def __getattr__(self, name: str) -> str:
            return name

    made = ModuleType("tensorrt")
    made.__dict__.update(
        __version__=gpu.version,
        ILogger=Logger,
        IProgressMonitor=Monitor,
        Builder=Builder,
        Runtime=Runtime,
        OnnxParser=_Parser,
        BuilderFlag=Flags(),
        DataType=Flags(),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        MemoryPoolType=Flags(),
        ProfilingVerbosity=Flags(),
        TensorIOMode=Flags(),
        LayerInformationFormat=Flags(),
    )
    return made


def install(setitem: Callable[[Any, str, Any], None], modules: Any, gpu: FakeGpu) -> None:
    """Replace the real modules."""
    pycuda = ModuleType("pycuda")
    pycuda.driver = make_driver(gpu)  # type: ignore[attr-defined]
    setitem(modules, "pycuda", pycuda)
    setitem(modules, "pycuda.driver", pycuda.driver)
    setitem(modules, "tensorrt", make_tensorrt(gpu))
