"""Building: plans for the GPU of this machine, FP16 versions of models, and what a plan runs.

Source: docs/decisions/0011-tensorrt.md
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

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
from edgeinspect.domain import ModelSpec, Precision
from edgeinspect.errors import DataError, ModelError, StorageError
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore
from edgeinspect.system import check_regular, read_text

if TYPE_CHECKING:
    import tensorrt as trt

MODEL_FILE = "model.onnx"


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """One plan to build."""

    name: str
    """For messages: the configuration's key, or the model as it was named."""
    options: backend.Options
    store: ModelStore


@dataclass(frozen=True, slots=True)
class Fp16Conversion:
    """An FP16 version of a model, proved against its parent."""

    version_folder: Path | None
    """The new version; None if it was refused."""
    fp16_node_count: int
    float32_layers: tuple[str, ...]
    """Convolutions and products that half cannot hold."""
    acceptance: Any
    """A `calibrate.accept.AcceptanceResult`."""


def plan_requests(
    target: str, overrides: Mapping[str, Any], store: ModelStore | None = None
) -> list[PlanRequest]:
    """What to build for a configuration file, or for a model of the store.

    Args:
        target: Path of a line's configuration, or a model's name as in `model:`.
        overrides: Options of `type: trt` that replace those of the configuration.
        store: Where the models are; the configuration's own when absent.

    Raises:
        ConfigError: The configuration has faults.
        DataError: None of its engines is of `type: trt`.
    """
    if not target.endswith((".yaml", ".yml")):
        return [
            PlanRequest(target, backend.Options(model=target, **overrides), store or ModelStore())
        ]
    from edgeinspect.config import load_config

    loaded = load_config(target)
    root = loaded.config.store
    holder = store or ModelStore(Path(root) if root else None)
    tasks = [
        PlanRequest(f"engines.{name}", _with_overrides(choice.options, overrides), holder)
        for name, choice in loaded.engines.items()
        if choice.type == "trt"
    ]
    if not tasks:
        raise DataError(
            "has no engine of type trt", where=target, remedy="Other backends build no plans"
        )
    return tasks


def build_plan(
    task: PlanRequest, *, force: bool = False, progress: Progress | None = None
) -> TrtPlan:
    """The plan of one task: the one that is kept, if it still holds, else a new one.

    A line that runs goes on with the plan it has loaded: files are exchanged whole.

    Raises:
        MissingExtraError, DeviceLostError, ModelError, EngineFault: As `backends.trt.build`.
    """
    tensorrt_version()
    options = task.options
    spec = task.store.resolve(options.model)
    cuda = open_device(options.device, spin=options.wait == "spin")
    return backend.find_or_build_plan(spec, options, cuda, force_build=force, progress=progress)


def inspect_plan(plan: Path, device: int = 0) -> tuple[LayerInfo, ...]:
    """What each layer of a plan computes in.

    Args:
        plan: A `.plan` file with its manifest beside it.
        device: The GPU to load it on.

    Raises:
        ModelError: It is not what its manifest names, or does not load here.
        MissingExtraError, DeviceLostError: There is no TensorRT, or no such GPU.
    """
    tensorrt_version()
    found = read_plan(plan)
    with open_device(device).current():
        return _deserialize_and_inspect(found)


def precision_ratio(layers: tuple[LayerInfo, ...], precision: str) -> float:
    """Share of a plan's convolutions and products that read tensors of a precision."""
    heavy = [layer for layer in layers if _is_compute_layer(layer)]
    if not heavy:
        return 0.0
    return sum(layer.inputs[:1] == (precision,) for layer in heavy) / len(heavy)


def make_fp16_version(
    parent: ModelSpec,
    store: ModelStore,
    images: str,
    labels: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fp16Conversion:
    """Write an FP16 version of a model, a candidate, if it judges frames as its parent does.

    The proof runs on a processor with every rounding of half written out
    (`models.fp16_rounding`), and has the bounds of a calibration.

    Args:
        parent: An FP32 model, or an INT8 one whose float part shall become half.
        store: Gets the version.
        images: Frames to agree on, as `edgeinspect calibrate --images` takes them.
        labels: Labelled frames instead.
        progress: Frames judged, frames in all.

    Raises:
        ModelError: The graph cannot be written in half.
        StorageError: The store cannot be written.
    """
    import onnx

    from edgeinspect.learning.calibrate.acceptance import AcceptanceLimits, evaluate_acceptance
    from edgeinspect.learning.calibrate.frames import open_frames
    from edgeinspect.learning.calibrate.sessions import open_engine
    from edgeinspect.learning.onnx_graphs.fp16 import convert_to_fp16
    from edgeinspect.learning.onnx_graphs.fp16_rounding import simulate_fp16

    halved = convert_to_fp16(onnx.load(check_regular(parent.path)))
    frames = open_frames(labels or images, parent, labelled=labels is not None)
    with tempfile.TemporaryDirectory(prefix="edgeinspect-fp16-") as folder:
        path = Path(folder) / MODEL_FILE
        path.write_bytes(simulate_fp16(halved.model).SerializeToString(deterministic=True))
        child = replace(parent, path=path, precision=Precision.FP16, golden=None)
        engines = open_engine(parent, "ort"), open_engine(child, "ort")
        try:
            accepted = evaluate_acceptance(
                *engines,
                frames,
                AcceptanceLimits(both_kinds=False),
                lambda done: progress(done, len(frames)),
            )
        finally:
            for engine in engines:
                engine.close()
    folder_made = None
    if accepted.is_accepted:
        data = halved.model.SerializeToString(deterministic=True)
        folder_made = _write_version(parent, store, data, accepted, images=labels or images)
    return Fp16Conversion(folder_made, len(halved.fp16_nodes), halved.float32_layers, accepted)


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


def _write_version(
    parent: ModelSpec, store: ModelStore, data: bytes, accepted: Any, *, images: str
) -> Path:
    """Put a graph into the store as the next version of its parent; it appears whole."""
    from edgeinspect.learning.calibrate.write_version import build_date

    shelf = store.model_versions(parent.id.name)
    number = max(shelf.versions(), default=0) + 1
    target = shelf.folder / str(number)
    making = shelf.folder / f".making-{number}-{os.getpid()}"
    read = yaml.safe_load(read_text(parent.path.parent / MANIFEST_FILE))
    manifest = {
        **{key: value for key, value in read.items() if key not in ("golden", "built", "latency")},
        "version": number,
        "file": MODEL_FILE,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "precision": "int8" if parent.precision is Precision.INT8 else "fp16",
        "training": {
            **(read.get("training") or {}),
            "parent": {"model": str(parent.id), "sha256": parent.id.sha256},
        },
        "accuracy": {
            "against_fp32": {
                "frames": accepted.frames,
                "images": Path(images).name,
                "checks": {
                    check.name: [round(check.fp32, 6), round(check.int8, 6)]
                    for check in accepted.checks
                },
            },
            "fp32": read.get("accuracy"),
        },
        "created": build_date(),
    }
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=96)
    try:
        shelf.folder.mkdir(parents=True, exist_ok=True)
        shelf.pin_live()
        making.mkdir(mode=0o755)
        (making / MODEL_FILE).write_bytes(data)
        (making / MANIFEST_FILE).write_text(text, encoding="utf-8")
        making.rename(target)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(target)) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return target
