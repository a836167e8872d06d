"""FP16 versions of models, verified against the version that they are derived from.

Source: docs/explanation/decisions/0011-tensorrt.md
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from edgeinspect.domain import ModelSpec, Precision
from edgeinspect.learning.calibrate import (
    AcceptanceLimits,
    AcceptanceResult,
    evaluate_acceptance,
    open_engine,
    open_frames,
)
from edgeinspect.learning.evaluate import inherited_files, training_knowledge
from edgeinspect.learning.onnx_graphs.fp16 import convert_to_fp16
from edgeinspect.learning.onnx_graphs.fp16_rounding import simulate_fp16
from edgeinspect.learning.onnx_graphs.graph import load_model, serialize_model
from edgeinspect.learning.onnx_graphs.new_version import MODEL_FILE, add_candidate, build_date
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore
from edgeinspect.system import read_text


@dataclass(frozen=True, slots=True)
class Fp16Conversion:
    """Result of a conversion to FP16."""

    version_folder: Path | None
    """The new version; None if it was rejected."""
    float32_layers: tuple[str, ...]
    """Convolutions and products that float16 cannot represent."""
    acceptance: AcceptanceResult


def make_fp16_version(
    parent: ModelSpec,
    store: ModelStore,
    images: str,
    labels: str | None = None,
    split_file: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fp16Conversion:
    """Write an FP16 version of a model as a candidate if its results match the parent's.

    Both run on a CPU, the FP16 graph with every float16 rounding simulated, and must stay
    within the limits of a calibration.

    Args:
        parent: An FP32 model, or an INT8 one whose float part is to become FP16.
        store: Receives the version.
        images: Frames to compare on, as for `edgeinspect calibrate --images`.
        labels: Labelled frames instead.
        split_file: Says which images are in a split, instead of the data set's own.
        progress: Called with the frames compared, and the frames in all.

    Raises:
        ModelError: The graph cannot be converted.
        StorageError: The store cannot be written.
    """
    converted = convert_to_fp16(load_model(parent.path))
    frames = open_frames(
        labels or images,
        parent,
        labelled=labels is not None,
        split_file=split_file,
        training=training_knowledge([parent]),
    )
    with tempfile.TemporaryDirectory(prefix="edgeinspect-fp16-") as folder:
        path = Path(folder) / MODEL_FILE
        path.write_bytes(serialize_model(simulate_fp16(converted.model)))
        child = replace(parent, path=path, precision=Precision.FP16, golden=None)
        engines = open_engine(parent, "ort"), open_engine(child, "ort")
        try:
            acceptance = evaluate_acceptance(
                *engines,
                frames,
                AcceptanceLimits(both_kinds=False),
                lambda done: progress(done, len(frames)),
            )
        finally:
            for engine in engines:
                engine.close()
    version_folder = None
    if acceptance.is_accepted:
        graph = serialize_model(converted.model)

        def manifest(number: int) -> str:
            return _manifest(parent, number, graph, acceptance, images=labels or images)

        version_folder = add_candidate(
            store.model_versions(parent.id.name), graph, manifest, files=inherited_files(parent)
        )
    return Fp16Conversion(version_folder, converted.float32_layers, acceptance)


def _manifest(
    parent: ModelSpec, number: int, graph: bytes, acceptance: AcceptanceResult, *, images: str
) -> str:
    """Return the manifest's text: the parent's, with what the conversion changed."""
    before: dict[str, Any] = yaml.safe_load(read_text(parent.path.parent / MANIFEST_FILE))
    kept = {key: v for key, v in before.items() if key not in ("golden", "built", "latency")}
    checks = {
        check.name: [round(check.fp32, 6), round(check.int8, 6)] for check in acceptance.checks
    }
    manifest = {
        **kept,
        "version": number,
        "file": MODEL_FILE,
        "sha256": hashlib.sha256(graph).hexdigest(),
        "size_bytes": len(graph),
        "precision": "int8" if parent.precision is Precision.INT8 else "fp16",
        "training": {
            **(before.get("training") or {}),
            "parent": {"model": str(parent.id), "sha256": parent.id.sha256},
        },
        "accuracy": {
            "against_fp32": {
                "frames": acceptance.frames,
                "images": Path(images).name,
                "checks": checks,
            },
            "fp32": before.get("accuracy"),
        },
        "created": build_date(),
    }
    return yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=96)
