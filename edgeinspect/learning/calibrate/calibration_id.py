"""The id of a calibration, and what the INT8 graph says of its own origin."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from edgeinspect.domain import ModelSpec
from edgeinspect.learning.calibrate.config import CalibrationConfig
from edgeinspect.learning.calibrate.qdq_placement import QdqPlacement, int8_scale
from edgeinspect.learning.calibrate.sampling import FrameMetrics, FrameSelection
from edgeinspect.learning.calibrate.thresholds import ThresholdChoice

PLACEMENT_RULES_VERSION = "1"
"""Version of the Q/DQ placement rules; part of the calibration id."""


def calibration_id(
    config: CalibrationConfig,
    metrics: FrameMetrics,
    selection: FrameSelection,
    method: str,
    placement: QdqPlacement,
    clip_values: dict[str, float],
) -> str:
    """Return the calibration's id: a hash of the parent, the images and all decisions."""
    inputs = {
        "rules": PLACEMENT_RULES_VERSION,
        "parent": config.parent.id.sha256,
        "sample": [metrics.digests[number] for number in selection.calibration],
        "held_out": [metrics.digests[number] for number in selection.held_out],
        "seed": config.seed,
        "method": method,
        "int8": [layer.name for layer in placement.int8_layers],
        "scales": {name: int8_scale(clip_values[name]).item().hex() for name in placement.tensors},
    }
    text = json.dumps(inputs, sort_keys=True)
    return "cal-" + hashlib.sha256(text.encode()).hexdigest()[:16]


def set_metadata(
    graph: Any, parent: ModelSpec, calibration: str, thresholds: ThresholdChoice | None = None
) -> None:
    """Store calibration id and parent in the graph's metadata, and thresholds of its own."""
    known = {entry.key for entry in graph.metadata_props}
    for key, value in (
        ("edgeinspect.calibration", calibration),
        ("edgeinspect.parent", parent.id.sha256),
    ):
        if key not in known:
            graph.metadata_props.add(key=key, value=value)
    if thresholds is not None and thresholds.is_changed:
        for entry in graph.metadata_props:
            if entry.key == "edgeinspect.thresholds":
                entry.value = json.dumps(thresholds.child)
