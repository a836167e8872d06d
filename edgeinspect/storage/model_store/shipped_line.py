"""The line that ships with the project: the two strip models and their thresholds."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from edgeinspect.config import LoadedConfig, parse_config
from edgeinspect.domain import Precision
from edgeinspect.storage.model_store.manifest import MANIFEST_FILE, read_manifest
from edgeinspect.storage.model_store.store import ModelStore, default_root

GATE = "strip-gate"
SEGMENTER = "strip-segmenter"
_SEVERITY = {"pit": 3, "inclusion": 5, "scratch": 4, "patch": 2}

_TEMPLATE = """\
schema: 1
line: {line}
budget_ms: {budget_ms}
cameras: {{top: {{type: synthetic}}}}
engines:
  gate: {{type: {backend}, model: {gate}}}
  segmenter: {{type: {backend}, model: {segmenter}}}
optics: {{mm_per_px_x: 0.5, mm_per_px_y: 0.5}}
decide: {decide}
publish: {{heartbeat_ms: 50}}
spool: {{folder: {folder}}}
"""


def _model_reference(store: ModelStore, name: str, backend: str) -> str:
    """Return the live version (INT8); for ONNX Runtime, where Q/DQ are slow, an FP32 one."""
    if backend == "ort":
        for number in reversed(store.versions(name)):
            manifest = read_manifest(store.root / name / str(number) / MANIFEST_FILE)
            if manifest.precision is Precision.FP32:
                return f"{name}/{number}"
    return name


def shipped_line_config(
    folder: str,
    *,
    budget_ms: float,
    backend: str,
    line: str = "demo",
    overrides: Sequence[str] = (),
) -> LoadedConfig:
    """Return a line of the shipped models, with the thresholds that their training proposed.

    Args:
        folder: For spool and frame ring.
        budget_ms: Budget per frame.
        backend: A backend's name.
        line: Its name.
        overrides: `key.of.a.table=VALUE`, applied to it.
    """
    store = ModelStore(default_root())
    gate, segmenter = (_model_reference(store, name, backend) for name in (GATE, SEGMENTER))
    gate_thresholds = msgspec.convert(store.resolve(gate).thresholds, dict[str, float])
    classes = msgspec.convert(store.resolve(segmenter).thresholds, dict[str, dict[str, float]])
    decide = {
        "gate": {
            "suspect_at": gate_thresholds["suspect"],
            "reject_at": gate_thresholds["reject"],
            "degraded_reject_at": gate_thresholds["degraded"],
            "reject_code": 99,
        },
        "classes": {
            name: {
                "score": rule["score"],
                "area_px": max(1, round(rule["area_px"])),
                "severity": _SEVERITY.get(name, 1),
                "reject_code": 10 + index,
            }
            for index, (name, rule) in enumerate(classes.items(), start=1)
        },
    }
    text = _TEMPLATE.format(
        line=line,
        budget_ms=budget_ms,
        backend=backend,
        gate=gate,
        segmenter=segmenter,
        decide=json.dumps(decide),
        folder=folder,
    )
    return parse_config(text, line, overrides)
