"""OpenVINO on the processor: the default backend on a machine with no GPU.

Measured 2 to 5 times faster than ONNX Runtime on INT8 graphs with VNNI
(docs/decisions, benchmarks/).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edgeinspect.backends import _contract
from edgeinspect.backends._contract import TensorInfo
from edgeinspect.domain import Clock, ModelSpec, Pixels
from edgeinspect.errors import EngineFault, MissingExtraError
from edgeinspect.storage.model_store import ModelStore

if TYPE_CHECKING:
    import openvino

REQUIRES = (("openvino", "cpu"),)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `type: ov`."""

    model: str
    """Model in the store: `NAME`, `NAME/VERSION`, or a folder's path with a leading `/`, `./`."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Threads of one inference; 0 leaves it to OpenVINO."""
    hint: Literal["latency", "throughput"] = "latency"
    """What OpenVINO optimises for. `throughput` is for several workers."""
    cache_dir: str | None = None
    """Folder for compiled models, for a quicker start. In a systemd unit its runtime folder when
    absent: in memory, where no failing disk can change a weight after the model was verified."""


class OvEngine:
    """One compiled model and one inference request. For one thread; see `ports.Engine`.

    The frame's memory is handed over as it is, and the outputs are written into arrays of
    ours: no pixel is copied. OpenVINO releases the interpreter lock while it infers.
    """

    def __init__(self, spec: ModelSpec, compiled: openvino.CompiledModel) -> None:
        import openvino

        self._spec = spec
        self._tensor = openvino.Tensor
        self._request = compiled.create_infer_request()
        self._outputs = _contract.allocate_outputs(spec)
        wanted = [tensor.name for tensor in _contract.expected_outputs(spec)]
        for name, array in zip(wanted, self._outputs, strict=True):
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        _contract.check_image(self._spec, image)
        try:
            self._request.set_input_tensor(self._tensor(image[None], shared_memory=True))
            self._request.infer(share_inputs=True, share_outputs=True)
        except Exception as error:  # whatever the library raises, the line goes on
            raise EngineFault(f"{self._spec.id}: {error}", where="openvino") from error
        return self._outputs

    def close(self) -> None:
        self._request = _ClosedRequest(self._spec)


class _ClosedRequest:
    """Stands for the request after `close`."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def __getattr__(self, _name: str) -> Any:
        raise EngineFault(f"{self._spec.id} is closed")


def build(options: Options, clock: Clock, *, store: ModelStore) -> OvEngine:
    """Load a model.

    Raises:
        MissingExtraError: openvino is not installed.
        ModelError: The model is missing, corrupt, or breaks the contract.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("cpu", "openvino", where="backend ov") from error
    spec = store.resolve(options.model)
    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": options.hint.upper(),
        # Some processors would run an FP32 graph in bf16: other numbers than were accepted.
        "INFERENCE_PRECISION_HINT": "f32",
        # Pinned, two workers of one thread each would share the first processor: each model
        # pins for itself, and knows nothing of the other. It would also overrule
        # `real_time.cpus`.
        "ENABLE_CPU_PINNING": False,
    }
    if options.threads:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    if folder := options.cache_dir or _unit_cache_folder():
        properties["CACHE_DIR"] = folder
    core = _shared_core(openvino.Core)
    try:
        model = core.read_model(str(spec.path))
        _contract.check_graph(
            spec,
            [_tensor_info(port) for port in model.inputs],
            [_tensor_info(port) for port in model.outputs],
            _metadata(model),
        )
        compiled = core.compile_model(model, "CPU", properties)
        return OvEngine(spec, compiled)
    except RuntimeError as error:
        raise _contract.model_error(spec, error) from error


@cache
def _shared_core(make: Callable[[], openvino.Core]) -> openvino.Core:
    """The process's one core, never given up.

    Its CPU plugin gives the thread that made it a stack for signals, and takes the memory
    back with the plugin. If the last model of a core is closed by another thread, as a reload
    does, the first thread dies of the next signal: SIGTERM.
    """
    return make()


def _unit_cache_folder() -> str | None:
    """Where a unit's next start finds what this one compiled; half-written ones are refused."""
    unit = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return str(Path(unit, "openvino")) if unit else None


def _tensor_info(port: Any) -> TensorInfo:
    """A port of the model; several names of one tensor give the one the contract knows."""
    known = {_contract.INPUT_NAME, *_contract.GATE_OUTPUTS, *_contract.SEGMENTER_OUTPUTS}
    names = sorted(port.get_names())
    name = next((each for each in names if each in known), names[0] if names else "(unnamed)")
    shape = tuple(
        dim.get_length() if dim.is_static else _contract.DYNAMIC_SIZE
        for dim in (port.partial_shape if port.partial_shape.rank.is_static else ())
    )
    return TensorInfo(name, np.dtype(port.element_type.to_dtype()).name, shape)


def _metadata(model: openvino.Model) -> Mapping[str, str]:
    """The ONNX file's own metadata, which the reader keeps as `framework`."""
    if not model.has_rt_info(["framework"]):
        return {}
    return {key: str(value.value) for key, value in model.get_rt_info()["framework"].items()}
