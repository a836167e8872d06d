"""Runs a plan: its execution context, stream and memory.

Source: docs/explanation/decisions/0011-tensorrt.md
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from numpy.typing import NDArray

from edgeinspect.backends import _contract
from edgeinspect.backends._contract import TensorInfo
from edgeinspect.backends._onnx_metadata import read_metadata
from edgeinspect.backends._tensorrt import builder
from edgeinspect.backends._tensorrt.cuda import CudaContext, CudaGraph
from edgeinspect.backends._tensorrt.plan_cache import TrtPlan
from edgeinspect.domain import NS_PER_S, Clock, ModelSpec, Pixels
from edgeinspect.errors import EdgeInspectError, EngineFault, ModelError
from edgeinspect.system import log_events

if TYPE_CHECKING:
    import tensorrt as trt

_log = structlog.get_logger()


RETRY_NS = 2 * NS_PER_S
"""Time between attempts to recover a lost device; each may take as long as a load."""

_abandoned: list[_ExecutionResources] = []
"""Resources of lost contexts, which are never freed, as that could end the process."""


class TrtEngine:
    """A plan with its context, stream and buffers. For one thread; see `ports.Engine`.

    The frame is copied once, into page-locked memory. Outputs are copied to arrays of this
    engine, which remain valid if the device is lost. TensorRT, CUDA's waits and the launch of the
    graph release the interpreter lock.

    When the device's context is lost, `infer` raises at once, and every `RETRY_NS` the plan is
    loaded into a new context. Meanwhile the deadline guard closes the frames.

    Args:
        spec: The model.
        open_cuda: Returns a valid context; called again after a loss.
        plan: A verified plan.
        clock: Times the retries.
        use_mapped_input: The GPU reads the frame in host memory.
        use_cuda_graph: Launch an inference as one CUDA graph.
    """

    def __init__(
        self,
        spec: ModelSpec,
        open_cuda: Callable[[], CudaContext],
        plan: TrtPlan,
        clock: Clock,
        *,
        use_mapped_input: bool,
        use_cuda_graph: bool,
    ) -> None:
        self._spec = spec
        self._open_cuda = open_cuda
        self._plan = plan
        self._clock = clock
        self._use_mapped_input, self._use_cuda_graph = use_mapped_input, use_cuda_graph
        self._lost_reason = ""
        self._retry_at_ns = 0
        self._outputs = _contract.allocate_outputs(spec)
        self._resources: _ExecutionResources | None = None
        self._load()

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def is_device_lost(self) -> bool:
        """Return True while the device's context is lost."""
        return bool(self._lost_reason)

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        _contract.check_image(self._spec, image)
        if self._resources is None:
            raise EngineFault(f"{self._spec.id} is closed")
        if self._lost_reason:
            self._reload(self._resources)
        try:
            with self._cuda.current():
                self._resources.infer(image, self._outputs)
        except EngineFault as fault:
            self._check_device_lost(fault)
            raise
        except Exception as error:  # of any type: the line must keep running
            failure = EngineFault(f"{self._spec.id}: {error}", where="tensorrt")
            self._check_device_lost(failure)
            raise failure from error
        return self._outputs

    def close(self) -> None:
        parts, self._resources = self._resources, None
        if parts is None:
            return
        if self._lost_reason or not self._cuda.is_alive():
            _abandoned.append(parts)
            return
        # Must be freed while the context is current in this thread.
        with contextlib.suppress(EngineFault), self._cuda.current():
            parts.close()
            del parts

    def _load(self) -> None:
        cuda = self._open_cuda()
        with cuda.current():
            self._resources = _ExecutionResources(
                self._spec,
                self._plan,
                cuda,
                use_mapped_input=self._use_mapped_input,
                use_cuda_graph=self._use_cuda_graph,
            )
        self._cuda = cuda

    def _check_device_lost(self, fault: EngineFault) -> None:
        if not self._cuda.is_alive():
            self._lost_reason = fault.what
            self._retry_at_ns = self._clock.now_ns() + RETRY_NS

    def _reload(self, lost: _ExecutionResources) -> None:
        """Load the plan again if a retry is due.

        Raises:
            EngineFault: It is not due, or the device is still lost.
        """
        problem = f"{self._spec.id} lost its GPU: {self._lost_reason}"
        remedy = "It is retried; if that fails, restart the daemon"
        if self._clock.now_ns() < self._retry_at_ns:
            raise EngineFault(problem, remedy=remedy)
        try:
            self._load()
        except EdgeInspectError as error:
            self._retry_at_ns = self._clock.now_ns() + RETRY_NS
            raise EngineFault(f"{problem}; {error.what}", remedy=remedy) from error
        _abandoned.append(lost)
        self._lost_reason = ""
        _log.warning(log_events.GPU_RECOVERED, model=str(self._spec.id))


class _ExecutionResources:
    """Objects that must be created and freed while the context is current."""

    def __init__(
        self,
        spec: ModelSpec,
        plan: TrtPlan,
        cuda: CudaContext,
        *,
        use_mapped_input: bool,
        use_cuda_graph: bool,
    ) -> None:
        import tensorrt as trt

        self._messages = builder.TrtLogCollector()
        self._logger: trt.ILogger = builder.make_logger(self._messages)
        runtime: trt.Runtime = trt.Runtime(self._logger)
        engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan.data)
        if engine is None:
            raise ModelError(
                f"TensorRT cannot load the plan: {self._messages.last()}",
                where=str(plan.path),
                remedy="Delete it; it will be built again",
            )
        self._runtime_objects: list[Any] = [runtime, engine]
        _contract.check_graph(spec, *_io_tensors(engine), read_metadata(spec.path))
        context: trt.IExecutionContext | None = engine.create_execution_context()
        if context is None:
            raise EngineFault(f"not enough memory to run {spec.id}: {self._messages.last()}")
        self._context = context
        self._cuda = cuda
        self._stream = cuda.create_stream()
        self._bind_tensors(spec, use_mapped_input)
        self._graph: CudaGraph | None = None
        self._enqueue()  # TensorRT allocates at the first run; a recording must not allocate
        self._stream.synchronize()
        if use_cuda_graph:
            self._record_graph(spec)

    def infer(self, image: Pixels, outputs: tuple[NDArray[np.generic], ...]) -> None:
        """Run one frame and copy the outputs."""
        np.copyto(self._input[0], image)
        if self._graph is not None:
            self._graph.launch()
        else:
            self._enqueue()
        self._stream.synchronize()
        for target, (_device, host) in zip(outputs, self._output_buffers, strict=True):
            np.copyto(target, host)

    def close(self) -> None:
        """Free the objects in reverse order of creation, as TensorRT requires."""
        if self._graph is not None:
            self._graph.close()
        del self._context
        while self._runtime_objects:
            self._runtime_objects.pop()
        self._output_buffers.clear()
        del self._input, self._device_input, self._stream

    def _bind_tensors(self, spec: ModelSpec, use_mapped_input: bool) -> None:
        """Allocate the memory of every tensor, for the lifetime of the engine."""
        context: trt.IExecutionContext = self._context
        shape = (1, *spec.shape.dims)
        self._input = self._cuda.allocate_pinned(
            shape, np.dtype(np.uint8), is_mapped=use_mapped_input
        )
        self._device_input: Any = None
        if use_mapped_input:
            address = self._cuda.mapped_address(self._input)
        else:
            self._device_input = self._cuda.allocate(self._input.nbytes)
            address = int(self._device_input)
        context.set_tensor_address(_contract.INPUT_NAME, address)
        self._output_buffers: list[tuple[Any, NDArray[Any]]] = []
        for tensor in _contract.expected_outputs(spec):
            host = self._cuda.allocate_pinned(tensor.shape, np.dtype(tensor.dtype))
            device = self._cuda.allocate(host.nbytes)
            context.set_tensor_address(tensor.name, int(device))
            self._output_buffers.append((device, host))
        if missing := context.infer_shapes():
            raise EngineFault(f"{spec.id}: shapes of {', '.join(missing)} are unknown")

    def _enqueue(self) -> None:
        """Enqueue one inference: copy the frame, run the network, copy the outputs."""
        context: trt.IExecutionContext = self._context
        if self._device_input is not None:
            self._cuda.copy_to_device(self._device_input, self._input, self._stream)
        if not context.execute_async_v3(int(self._stream.handle)):
            raise EngineFault(f"TensorRT refused to run: {self._messages.last()}")
        for device, host in self._output_buffers:
            self._cuda.copy_to_host(host, device, self._stream)

    def _record_graph(self, spec: ModelSpec) -> None:
        try:
            graph = CudaGraph(self._stream, self._enqueue)
            graph.launch()
            self._stream.synchronize()
        except EngineFault as fault:
            if not self._cuda.is_alive():
                raise
            _log.warning(log_events.GRAPH_REFUSED, model=str(spec.id), problem=fault.what)
            return
        self._graph = graph


def _io_tensors(engine: trt.ICudaEngine) -> tuple[list[TensorInfo], list[TensorInfo]]:
    """Return the plan's inputs and outputs."""
    import tensorrt as trt

    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = builder.fixed_shape(engine.get_tensor_shape(name))
        tensor = TensorInfo(name, builder.dtype_name(engine.get_tensor_dtype(name)), shape)
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(tensor)
    return inputs, outputs
