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
from edgeinspect.backends._tensorrt.cuda import open_device
from edgeinspect.backends._tensorrt.builder import (
    Layer,
    Messages,
    Progress,
    inspect_layers,
    make_logger,
    tensorrt_version,
)
from edgeinspect.backends._tensorrt.plan_cache import Plan, read_plan
from edgeinspect.domain.model import ModelSpec, Precision
from edgeinspect.errors import DataError, ModelError, StorageError
from edgeinspect.system.regular_file import check_regular, read_text
from edgeinspect.storage.model_store import MANIFEST, Store

if TYPE_CHECKING:
    import tensorrt as trt

FILE = "model.onnx"


@dataclass(frozen=True, slots=True)
class Task:
    """One plan to build."""

    name: str
    """For messages: the configuration's key, or the model as it was named."""
    options: backend.Options
    store: Store


@dataclass(frozen=True, slots=True)
class Halving:
    """An FP16 version of a model, proved against its parent."""

    folder: Path | None
    """The new version; None if it was refused."""
    half_layers: int
    float_layers: tuple[str, ...]
    """Convolutions and products that half cannot hold."""
    acceptance: Any
    """A `calibrate.accept.Acceptance`."""


def tasks_of(target: str, overrides: Mapping[str, Any], store: Store | None = None) -> list[Task]:
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
        return [Task(target, backend.Options(model=target, **overrides), store or Store())]
    from edgeinspect.config.loader import load

    loaded = load(target)
    root = loaded.config.store
    holder = store or Store(Path(root) if root else None)
    tasks = [
        Task(f"engines.{name}", _changed(choice.options, overrides), holder)
        for name, choice in loaded.engines.items()
        if choice.type == "trt"
    ]
    if not tasks:
        raise DataError(
            "has no engine of type trt", where=target, remedy="Other backends build no plans"
        )
    return tasks


def build_plan(task: Task, *, force: bool = False, progress: Progress | None = None) -> Plan:
    """The plan of one task: the one that is kept, if it still holds, else a new one.

    A line that runs goes on with the plan it has loaded: files are exchanged whole.

    Raises:
        MissingExtraError, DeviceLostError, ModelError, EngineFault: As `backends.trt.build`.
    """
    tensorrt_version()
    options = task.options
    spec = task.store.resolve(options.model)
    cuda = open_device(options.device, spin=options.wait == "spin")
    return backend.find_plan(spec, options, cuda, force=force, progress=progress)


def inspect(plan: Path, device: int = 0) -> tuple[Layer, ...]:
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
        return _inspect(found)


def share(layers: tuple[Layer, ...], precision: str) -> float:
    """Share of a plan's convolutions and products that read tensors of a precision."""
    heavy = [layer for layer in layers if _is_heavy(layer)]
    if not heavy:
        return 0.0
    return sum(layer.inputs[:1] == (precision,) for layer in heavy) / len(heavy)


def make_fp16(
    parent: ModelSpec,
    store: Store,
    images: str,
    labels: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Halving:
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

    from edgeinspect.learning.calibrate.acceptance import Bounds, accept
    from edgeinspect.learning.calibrate.sessions import open_file
    from edgeinspect.learning.calibrate.frames import open_frames
    from edgeinspect.learning.onnx_graphs.fp16 import convert
    from edgeinspect.learning.onnx_graphs.fp16_rounding import write_out

    halved = convert(onnx.load(check_regular(parent.path)))
    frames = open_frames(labels or images, parent, labelled=labels is not None)
    with tempfile.TemporaryDirectory(prefix="edgeinspect-fp16-") as folder:
        path = Path(folder) / FILE
        path.write_bytes(write_out(halved.model).SerializeToString(deterministic=True))
        child = replace(parent, path=path, precision=Precision.FP16, golden=None)
        engines = open_file(parent, "ort"), open_file(child, "ort")
        try:
            accepted = accept(
                *engines, frames, Bounds(both_kinds=False), lambda done: progress(done, len(frames))
            )
        finally:
            for engine in engines:
                engine.close()
    folder_made = None
    if accepted.accepted:
        data = halved.model.SerializeToString(deterministic=True)
        folder_made = _write_version(parent, store, data, accepted, images=labels or images)
    return Halving(folder_made, len(halved.half), halved.kept, accepted)


def _changed(options: Any, overrides: Mapping[str, Any]) -> backend.Options:
    values = {name: getattr(options, name) for name in backend.Options.__struct_fields__}
    return backend.Options(**{**values, **overrides})


def _inspect(plan: Plan) -> tuple[Layer, ...]:
    import tensorrt as trt

    messages = Messages()
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


def _is_heavy(layer: Layer) -> bool:
    words = f"{layer.kind} {layer.name}".lower()
    return any(word in words for word in ("conv", "gemm", "matmul", "matrixmultiply"))


def _write_version(
    parent: ModelSpec, store: Store, data: bytes, accepted: Any, *, images: str
) -> Path:
    """Put a graph into the store as the next version of its parent; it appears whole."""
    from edgeinspect.learning.calibrate.write_version import today

    shelf = store.shelf(parent.id.name)
    number = max(shelf.versions(), default=0) + 1
    target = shelf.folder / str(number)
    making = shelf.folder / f".making-{number}-{os.getpid()}"
    read = yaml.safe_load(read_text(parent.path.parent / MANIFEST))
    manifest = {
        **{key: value for key, value in read.items() if key not in ("golden", "built", "latency")},
        "version": number,
        "file": FILE,
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
        "created": today(),
    }
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=96)
    try:
        shelf.folder.mkdir(parents=True, exist_ok=True)
        shelf.pin()
        making.mkdir(mode=0o755)
        (making / FILE).write_bytes(data)
        (making / MANIFEST).write_text(text, encoding="utf-8")
        making.rename(target)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(target)) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return target
