"""TensorRT plans for this machine's GPU: requests, building, inspection.

Source: docs/explanation/decisions/0011-tensorrt.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeinspect.backends import trt as backend
from edgeinspect.backends._tensorrt.builder import (
    LayerInfo,
    Progress,
    TrtLogCollector,
    inspect_layers,
    make_logger,
    tensorrt_version,
)
from edgeinspect.backends._tensorrt.cuda import open_device
from edgeinspect.backends._tensorrt.plan_cache import TrtPlan, read_plan
from edgeinspect.errors import DataError, ModelError
from edgeinspect.storage.model_store import ModelStore

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """One plan to build."""

    name: str
    """For messages: the configuration key, or the model as the user named it."""
    options: backend.Options
    store: ModelStore


def plan_requests(
    target: str, overrides: Mapping[str, Any], store: ModelStore | None = None
) -> list[PlanRequest]:
    """Return the plans to build for a configuration file, or for a model of the store.

    Args:
        target: Path of a line's configuration, or a model's name as in `model:`.
        overrides: Options of `type: trt` that replace those of the configuration.
        store: The model store; the configuration's own when absent.

    Raises:
        ConfigError: The configuration is invalid.
        DataError: None of its engines is of `type: trt`.
    """
    if not target.endswith((".yaml", ".yml")):
        return [
            PlanRequest(target, backend.Options(model=target, **overrides), store or ModelStore())
        ]
    from edgeinspect.config import load_config

    loaded = load_config(target)
    root = loaded.config.store
    model_store = store or ModelStore(Path(root) if root else None)
    requests = [
        PlanRequest(f"engines.{name}", _with_overrides(choice.options, overrides), model_store)
        for name, choice in loaded.engines.items()
        if choice.type == "trt"
    ]
    if not requests:
        raise DataError(
            "has no engine of type trt", where=target, remedy="Other backends build no plans"
        )
    return requests


def build_plan(
    request: PlanRequest, *, force: bool = False, progress: Progress | None = None
) -> TrtPlan:
    """Return the cached plan if it is still valid, else build a new one.

    A running line continues with the plan that it has loaded: files are replaced atomically.

    Raises:
        MissingExtraError, DeviceLostError, ModelError, EngineFault: As `backends.trt.build`.
    """
    tensorrt_version()
    options = request.options
    spec = request.store.resolve(options.model)
    cuda = open_device(options.device, spin=options.wait == "spin")
    return backend.find_or_build_plan(spec, options, cuda, force_build=force, progress=progress)


def inspect_plan(plan: Path, device: int = 0) -> tuple[LayerInfo, ...]:
    """Return the data types that each layer of a plan reads and writes.

    Args:
        plan: A `.plan` file; its manifest is in the same folder.
        device: The GPU to load it on.

    Raises:
        ModelError: The file does not match its manifest, or does not load on this GPU.
        MissingExtraError, DeviceLostError: TensorRT or the GPU is missing.
    """
    tensorrt_version()
    cached = read_plan(plan)
    with open_device(device).current():
        return _deserialize_and_inspect(cached)


def precision_ratio(layers: tuple[LayerInfo, ...], precision: str) -> float:
    """Return the ratio of convolutions and matrix products that read tensors of a precision."""
    compute_layers = [layer for layer in layers if _is_compute_layer(layer)]
    if not compute_layers:
        return 0.0
    return sum(layer.inputs[:1] == (precision,) for layer in compute_layers) / len(compute_layers)


def _with_overrides(options: Any, overrides: Mapping[str, Any]) -> backend.Options:
    values = {name: getattr(options, name) for name in backend.Options.__struct_fields__}
    return backend.Options(**{**values, **overrides})


def _deserialize_and_inspect(plan: TrtPlan) -> tuple[LayerInfo, ...]:
    import tensorrt as trt

    messages = TrtLogCollector()
    logger: trt.ILogger = make_logger(messages)
    runtime: trt.Runtime = trt.Runtime(logger)
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan.data)
    if engine is None:
        raise ModelError(
            f"TensorRT does not load the plan: {messages.last()}",
            where=str(plan.path),
            remedy="It was built by another TensorRT or for another GPU: build it again",
        )
    return inspect_layers(engine)


def _is_compute_layer(layer: LayerInfo) -> bool:
    words = f"{layer.kind} {layer.name}".lower()
    return any(word in words for word in ("conv", "gemm", "matmul", "matrixmultiply"))
