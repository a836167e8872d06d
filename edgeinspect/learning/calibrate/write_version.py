"""Writes the result of a calibration: a version in the store, and reports beside the store."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from edgeinspect.domain import BASE_CONTRACT
from edgeinspect.learning.calibrate import ranges, sampling
from edgeinspect.learning.calibrate.acceptance import AcceptanceResult
from edgeinspect.learning.calibrate.calibration import CalibrationResult
from edgeinspect.learning.calibrate.checkpoint import write_file
from edgeinspect.learning.calibrate.frame_statistics import deciles
from edgeinspect.learning.calibrate.layer_sensitivity import SensitivityReport
from edgeinspect.learning.evaluate import inherited_files
from edgeinspect.learning.onnx_graphs.graph import opset_version, serialize_model
from edgeinspect.learning.onnx_graphs.manifest import extended_keys
from edgeinspect.learning.onnx_graphs.new_version import MODEL_FILE, add_candidate, build_date
from edgeinspect.storage.model_store import MANIFEST_FILE, ModelStore, read_manifest

REPORTS_DIR = "calibration"
"""Folder beside the store, with a folder per calibrated version."""


def write_version(result: CalibrationResult, store: ModelStore) -> Path:
    """Write the INT8 graph as the next version of its parent: a candidate.

    Raises:
        StorageError: The store cannot be written.
        ModelError: Its state cannot be read.
    """
    data = serialize_model(result.graph)
    versions = store.model_versions(result.config.parent.id.name)
    return add_candidate(
        versions,
        data,
        lambda number: make_manifest(result, number, data),
        files=inherited_files(result.config.parent),
    )


def make_manifest(result: CalibrationResult, number: int, data: bytes) -> str:
    """Return the text of the manifest: its parent's, with what the calibration changed."""
    parent = result.config.parent
    path = parent.path.parent / MANIFEST_FILE
    before = read_manifest(path) if path.is_file() else None
    training = dict(before.training) if before and isinstance(before.training, dict) else {}
    manifest: dict[str, Any] = {
        "schema": 1,
        "name": parent.id.name,
        "version": number,
        "kind": parent.kind.value,
        "file": MODEL_FILE,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "precision": "int8",
        "opset": opset_version(result.graph),
        "input": {
            "height_px": parent.shape.height_px,
            "width_px": parent.shape.width_px,
            "channels": parent.shape.channels,
            "color": parent.color,
        },
        "classes": list(parent.classes),
        "output_stride": parent.output_stride,
        **({} if parent.contract == BASE_CONTRACT else {"contract": parent.contract}),
        **extended_keys(parent),
        "thresholds": _to_plain(_thresholds(result)),
        "training": {**training, "parent": {"model": str(parent.id), "sha256": parent.id.sha256}},
        "accuracy": {
            "calibration": _calibration_section(result),
            "against_fp32": _comparison_section(result),
            # The parent's own metrics.
            "fp32": _to_plain(before.accuracy) if before else None,
        },
        "created": build_date(),
        "calibration": result.id,
    }
    return yaml.safe_dump(
        manifest, sort_keys=False, allow_unicode=True, width=96, default_flow_style=None
    )


def _thresholds(result: CalibrationResult) -> Any:
    """Return the INT8 model's thresholds; without a choice the parent's, as they are."""
    choice = result.acceptance.thresholds
    return choice.child if choice and choice.where else result.config.parent.thresholds


def threshold_section(result: CalibrationResult) -> dict[str, Any] | None:
    """Return how the thresholds were chosen, and what both models reject at them."""
    choice = result.acceptance.thresholds
    if choice is None:
        return None
    keys = ("fp32", "int8_at_fp32_thresholds", "int8")
    return {
        "chosen_on": choice.where or None,
        "frames": choice.frames,
        "note": choice.note,
        "fp32": _to_plain(choice.parent),
        "int8": _to_plain(choice.child),
        "rejects": {
            point.name: {
                "recall": dict(zip(keys, map(_rounded, point.recall), strict=True)),
                "false_rejects": dict(zip(keys, map(_rounded, point.false_rejects), strict=True)),
            }
            for point in result.acceptance.operating_points
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _to_plain(value: Any) -> Any:
    """Return nested mappings and sequences as dicts and lists for YAML."""
    if hasattr(value, "items"):
        return {str(key): _to_plain(each) for key, each in value.items()}
    return [_to_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _calibration_section(result: CalibrationResult) -> dict[str, Any]:
    drawn = result.frame_metrics.values[list(result.selection.calibration)]
    return {
        "images": result.frames.where
        if ":" in result.frames.where.split("/")[0]
        else Path(result.frames.where.partition("#")[0]).name,
        "frames": len(result.selection.calibration),
        "held_out": len(result.selection.held_out),
        "seed": result.config.seed,
        "method": result.method,
        "int8_layers": len(result.placement.int8_layers),
        "layers": len(result.placement.layers),
        "left_in_float": list(result.float_layers),
        "statistics": deciles(drawn),
    }


def _comparison_section(result: CalibrationResult) -> dict[str, Any]:
    acceptance = result.acceptance
    return {
        "frames": acceptance.frames,
        "labelled": acceptance.is_labelled,
        "backend": result.backend,
        "accepted": acceptance.is_accepted,
        "checks": {
            check.name: {"fp32": round(check.fp32, 6), "int8": round(check.int8, 6)}
            for check in acceptance.checks
        },
        "verdicts_that_agree": round(acceptance.comparison.agreement_ratio, 6),
        "scores": score_section(acceptance),
        "thresholds": threshold_section(result),
        "training_images": result.training_images,
    }


def score_section(acceptance: AcceptanceResult) -> dict[str, dict[str, float]]:
    """Return the scores that do not depend on thresholds: AUC, and a segmenter's mean IoU."""
    comparison = acceptance.comparison
    rows = {
        "auc": comparison.auc,
        "mean_iou": next((row for row in comparison.iou if row.name == "mean"), None),
    }
    return {
        name: {"fp32": round(row.a, 6), "int8": round(row.b, 6)}
        for name, row in rows.items()
        if row is not None
    }


def write_reports(result: CalibrationResult, folder: Path, html: str) -> None:
    """Write the range table, the sample, and the report as HTML and JSON.

    Raises:
        StorageError: They cannot be written.
    """
    table = ranges.ranges_csv(result.histograms, result.method)
    write_file(folder / "ranges.csv", table)
    write_file(
        folder / "sample.csv",
        sampling.selection_csv(result.frames, result.frame_metrics, result.selection),
    )
    write_file(folder / "report.json", (json.dumps(to_document(result), indent=2) + "\n").encode())
    write_file(folder / "report.html", html.encode())


def to_document(result: CalibrationResult) -> dict[str, Any]:
    """Return the report as plain data; deterministic for a calibration."""
    acceptance = result.acceptance
    return {
        "schema": "edgeinspect.calibration/1",
        "id": result.id,
        "parent": {
            "model": str(result.config.parent.id),
            "sha256": result.config.parent.id.sha256,
        },
        "accepted": acceptance.is_accepted,
        "reason": acceptance.reason,
        "backend": result.backend,
        "calibration": _calibration_section(result),
        "drift": list(result.drift),
        "methods": {name: asdict(each) for name, each in result.distances.items()},
        "bounds": asdict(result.config.limits),
        "scores": score_section(acceptance),
        "thresholds": threshold_section(result),
        "checks": [asdict(check) for check in acceptance.checks],
        "before_recovering": [asdict(check) for check in result.first_acceptance.checks],
        "auc": None if acceptance.comparison.auc is None else asdict(acceptance.comparison.auc),
        "pixel_agreement_ratio": acceptance.comparison.pixel_agreement_ratio,
        "largest_prob_difference": acceptance.comparison.largest_prob_difference,
        "training_images": result.training_images,
        "recall_by_area": [
            None if each is None else asdict(each) for each in acceptance.recall_by_size
        ],
        "changed": [
            {
                "name": each.name,
                "rejected": list(each.rejected),
                "probs": list(each.probs),
                "defective": each.is_defective,
            }
            for each in acceptance.changed_frames
        ],
        "layers": [asdict(layer) for layer in result.placement.layers],
        "skips": dict(result.placement.residual_branches),
        "blame": result.sensitivity and _sensitivity_section(result.sensitivity),
    }


def _sensitivity_section(sensitivity: SensitivityReport) -> dict[str, Any]:
    keys = {"distance_int8": "strays", "distance_recovered": "restores"}  # as in the schema
    section = asdict(sensitivity)
    section["rows"] = [
        {keys.get(key, key): value for key, value in row.items()} for row in section["rows"]
    ]
    return section
