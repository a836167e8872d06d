"""OpenVINO on the CPU: the default backend without a GPU.

Measured 2 to 5 times faster than ONNX Runtime on INT8 graphs with VNNI
(docs/explanation/decisions, benchmarks/).
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
    """Model in the store: `NAME`, `NAME/VERSION`, or a folder with a leading `/` or `./`."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Threads of one inference; 0: chosen by OpenVINO."""
    hint: Literal["latency", "throughput"] = "latency"
    """Goal of OpenVINO's optimisation. `throughput` is for several workers."""
    cache_dir: str | None = None
    """Folder for compiled models, for a faster start. Absent: the runtime folder of a systemd unit,
    which is in memory, where a failing disk cannot change weights after verification."""


class OvEngine:
    """One compiled model and one inference request. For one thread; see `ports.Engine`.

    OpenVINO reads the frame without a copy and writes to arrays of this engine. It releases the
    interpreter lock during inference.
    """

    def __init__(self, spec: ModelSpec, compiled: openvino.CompiledModel) -> None:
        import openvino

        self._spec = spec
        self._tensor = openvino.Tensor
        self._request = compiled.create_infer_request()
        self._outputs = _contract.allocate_outputs(spec)
        names = [tensor.name for tensor in _contract.expected_outputs(spec)]
        for name, array in zip(names, self._outputs, strict=True):
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def infer(self, image: Pixels) -> tuple[NDArray[np.generic], ...]:
        _contract.check_image(self._spec, image)
        try:
            self._request.set_input_tensor(self._tensor(image[None], shared_memory=True))
            self._request.infer(share_inputs=True, share_outputs=True)
        except Exception as error:  # of any type: the line must keep running
            raise EngineFault(f"{self._spec.id}: {error}", where="openvino") from error
        return self._outputs

    def close(self) -> None:
        self._request = _ClosedRequest(self._spec)


class _ClosedRequest:
    """Replaces the request after `close`."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def __getattr__(self, _name: str) -> Any:
        raise EngineFault(f"{self._spec.id} is closed")


def build(options: Options, clock: Clock, *, store: ModelStore) -> OvEngine:
    """Load a model.

    Raises:
        MissingExtraError: openvino is not installed.
        ModelError: The model is missing, corrupt, or violates the contract.
    """
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("cpu", "openvino", where="backend ov") from error
    spec = store.resolve(options.model)
    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": options.hint.upper(),
        # Some CPUs would run an FP32 graph in bf16, with other results than those approved.
        "INFERENCE_PRECISION_HINT": "f32",
        # With pinning, two workers of one thread each would share the first CPU, as each model
        # pins independently. It would also override `real_time.cpus`.
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
        cause = _shortage(error) or error
        raise _contract.model_error(spec, cause) from cause


def _shortage(error: RuntimeError) -> MemoryError | None:
    """Return an error of memory if OpenVINO could not load its own reader of ONNX files.

    Where it cannot map that library it takes the model for one of an unknown format.
    """
    _, found, readers = str(error).partition("Available frontends:")
    if not found or "onnx" in readers.split():
        return None
    return MemoryError(f"OpenVINO's reader of ONNX files could not be loaded: {error}")


@cache
def _shared_core(make: Callable[[], openvino.Core]) -> openvino.Core:
    """Return the process's only core, which is never freed.

    Its CPU plugin sets a signal stack for the thread that created it, and frees this memory with
    the plugin. If another thread closes the last model of a core, as a reload does, the next
    signal (SIGTERM) would kill the process.
    """
    return make()


def _unit_cache_folder() -> str | None:
    """Return the folder for compiled models in a systemd unit; OpenVINO refuses partial files."""
    unit = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return str(Path(unit, "openvino")) if unit else None


def _tensor_info(port: Any) -> TensorInfo:
    """Describe a port of the model; of several names, use the one in the contract."""
    expected = {_contract.INPUT_NAME, *_contract.OUTPUT_NAMES}
    names = sorted(port.get_names())
    name = next((each for each in names if each in expected), names[0] if names else "(unnamed)")
    shape = tuple(
        dim.get_length() if dim.is_static else _contract.DYNAMIC_SIZE
        for dim in (port.partial_shape if port.partial_shape.rank.is_static else ())
    )
    return TensorInfo(name, np.dtype(port.element_type.to_dtype()).name, shape)


def _metadata(model: openvino.Model) -> Mapping[str, str]:
    """Return the ONNX file's metadata, which OpenVINO stores as `framework`."""
    if not model.has_rt_info(["framework"]):
        return {}
    return {key: str(value.value) for key, value in model.get_rt_info()["framework"].items()}
