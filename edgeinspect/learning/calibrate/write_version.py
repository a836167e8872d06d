"""Writing what a calibration made: a version in the store, and its papers beside the store."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from edgeinspect.errors import StorageError
from edgeinspect.learning.calibrate import ranges, sampling
from edgeinspect.learning.calibrate.calibration import Outcome
from edgeinspect.learning.calibrate.checkpoint import write_whole
from edgeinspect.learning.onnx_graphs.graph import opset, stored
from edgeinspect.storage.model_store import MANIFEST, Store, read_manifest

PAPERS = "calibration"
"""Folder beside the store's, one folder in it for each calibrated version."""
FILE = "model.onnx"


def today() -> str:
    """The date for manifests; SOURCE_DATE_EPOCH stands in for it where builds must be equal."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdecimal() and len(epoch) <= 11:  # of year 5138 at most: any calendar has it
        moment = datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
    else:
        moment = datetime.datetime.now(datetime.timezone.utc)
    return moment.date().isoformat()


def write_version(outcome: Outcome, store: Store) -> Path:
    """Put the INT8 graph into the store as the next version of its parent: a candidate.

    The version appears whole or not at all, and what is live stays live.

    Raises:
        StorageError: The store cannot be written.
        ModelError: Its state cannot be read.
    """
    parent = outcome.request.parent
    shelf = store.shelf(parent.id.name)
    number = max(shelf.versions(), default=0) + 1
    data = stored(outcome.graph)
    manifest = make_manifest(outcome, number, data)
    target = shelf.folder / str(number)
    making = shelf.folder / f".making-{number}-{os.getpid()}"
    try:
        shelf.folder.mkdir(parents=True, exist_ok=True)
        shelf.pin()
        making.mkdir(mode=0o755)
        write_whole(making / FILE, data)
        write_whole(making / MANIFEST, manifest.encode())
        making.rename(target)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(target)) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return target


def make_manifest(outcome: Outcome, number: int, data: bytes) -> str:
    """The manifest's text. Its parent's, but for what the calibration changed."""
    parent = outcome.request.parent
    path = parent.path.parent / MANIFEST
    before = read_manifest(path) if path.is_file() else None
    training = dict(before.training) if before and isinstance(before.training, dict) else {}
    manifest: dict[str, Any] = {
        "schema": 1,
        "name": parent.id.name,
        "version": number,
        "kind": parent.kind.value,
        "file": FILE,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "precision": "int8",
        "opset": opset(outcome.graph),
        "input": {
            "height_px": parent.shape.height_px,
            "width_px": parent.shape.width_px,
            "channels": parent.shape.channels,
            "color": parent.color,
        },
        "classes": list(parent.classes),
        "output_stride": parent.output_stride,
        "thresholds": _plain(parent.thresholds),
        "training": {**training, "parent": {"model": str(parent.id), "sha256": parent.id.sha256}},
        "accuracy": {
            "calibration": _calibration(outcome),
            "against_fp32": _against(outcome),
            # The parent's own figures stay readable, under its name.
            "fp32": _plain(before.accuracy) if before else None,
        },
        "created": today(),
        "calibration": outcome.id,
    }
    return yaml.safe_dump(
        manifest, sort_keys=False, allow_unicode=True, width=96, default_flow_style=None
    )


def _plain(value: Any) -> Any:
    """Mappings and sequences of any sort as dict and list, which YAML writes."""
    if hasattr(value, "items"):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def _calibration(outcome: Outcome) -> dict[str, Any]:
    drawn = outcome.scan.values[list(outcome.sample.calibration)]
    return {
        "images": outcome.frames.where
        if ":" in outcome.frames.where.split("/")[0]
        else Path(outcome.frames.where.partition("#")[0]).name,
        "frames": len(outcome.sample.calibration),
        "held_out": len(outcome.sample.held_out),
        "seed": outcome.request.seed,
        "method": outcome.method,
        "int8_layers": len(outcome.placement.quantized),
        "layers": len(outcome.placement.layers),
        "left_in_float": list(outcome.left_float),
        "statistics": sampling.deciles(drawn),
    }


def _against(outcome: Outcome) -> dict[str, Any]:
    proof = outcome.acceptance
    return {
        "frames": proof.frames,
        "labelled": proof.labelled,
        "backend": outcome.backend,
        "accepted": proof.accepted,
        "checks": {
            check.name: {"fp32": round(check.fp32, 6), "int8": round(check.int8, 6)}
            for check in proof.checks
        },
        "verdicts_that_agree": round(proof.paired.agreement_ratio, 6),
    }


def write_papers(outcome: Outcome, folder: Path, page: str) -> None:
    """The range table, the sample, the report as a page and as JSON.

    Raises:
        StorageError: They cannot be written.
    """
    table = ranges.table(outcome.histograms, outcome.method)
    write_whole(folder / "ranges.csv", table)
    write_whole(folder / "sample.csv", sampling.table(outcome.frames, outcome.scan, outcome.sample))
    write_whole(folder / "report.json", (json.dumps(document(outcome), indent=2) + "\n").encode())
    write_whole(folder / "report.html", page.encode())


def document(outcome: Outcome) -> dict[str, Any]:
    """The report as plain data; the same calibration always gives the same."""
    proof, blame = outcome.acceptance, outcome.blame
    return {
        "schema": "edgeinspect.calibration/1",
        "id": outcome.id,
        "parent": {
            "model": str(outcome.request.parent.id),
            "sha256": outcome.request.parent.id.sha256,
        },
        "accepted": proof.accepted,
        "reason": proof.reason,
        "backend": outcome.backend,
        "calibration": _calibration(outcome),
        "drift": list(outcome.drift),
        "methods": {name: asdict(each) for name, each in outcome.distances.items()},
        "bounds": asdict(outcome.request.bounds),
        "checks": [asdict(check) for check in proof.checks],
        "before_recovering": [asdict(check) for check in outcome.first.checks],
        "auc": None if proof.paired.auc is None else asdict(proof.paired.auc),
        "pixel_agreement_ratio": proof.paired.pixel_agreement_ratio,
        "largest_prob_difference": proof.paired.largest_prob_difference,
        "recall_by_area": [None if each is None else asdict(each) for each in proof.sizes],
        "changed": [
            {
                "name": each.name,
                "rejected": list(each.rejected),
                "probs": list(each.probs),
                "defective": each.defective,
            }
            for each in proof.changed
        ],
        "layers": [asdict(layer) for layer in outcome.placement.layers],
        "skips": dict(outcome.placement.skips),
        "blame": None if blame is None else asdict(blame),
    }
