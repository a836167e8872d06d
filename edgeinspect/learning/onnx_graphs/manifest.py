"""A model's graph metadata and its manifest, as training and import write them.

`storage.model_store` reads both. Source: docs/reference/models.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from edgeinspect.domain import BASE_CONTRACT, Decides, LearnedFrom, ModelKind, ModelSpec
from edgeinspect.system import MODEL_BYTES_MAX, read_regular

if TYPE_CHECKING:
    import onnx

EXPORT_OPSET = 20
"""Opset of exported graphs."""
MIN_CONTRACT_OPSET = 19
"""Lowest opset that the model contract allows."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Description of a model for its manifest and its graph metadata."""

    name: str
    version: int
    classes: Sequence[str]
    run: str
    thresholds: Mapping[str, Any]
    training: Mapping[str, Any]
    accuracy: Mapping[str, Any]
    created: str
    contract: str = BASE_CONTRACT
    """`EXTENDED_CONTRACT` for a gate with `class_prob` or a segmenter with `defect_prob`."""
    decides: Decides = Decides.DEFECTS
    learned_from: LearnedFrom = LearnedFrom.LABELS
    pretrained: str = ""
    pretrained_sha256: str = ""


def extended_keys(model: ModelCard | ModelSpec) -> dict[str, str]:
    """Return the keys, of manifest and graph metadata, that a plain model of contract 1 lacks."""
    keys = {
        "decides": model.decides.value if model.decides is not Decides.DEFECTS else "",
        "learned_from": ""
        if model.learned_from is LearnedFrom.LABELS
        else model.learned_from.value,
        "pretrained": model.pretrained,
        "pretrained_sha256": model.pretrained_sha256,
    }
    return {key: value for key, value in keys.items() if value}


def graph_metadata(kind: ModelKind, card: ModelCard, color: str, stride: int) -> dict[str, str]:
    """Return the metadata of a graph, keys without the prefix `edgeinspect.`.

    Args:
        kind: The model's kind.
        card: Supplies classes, run and thresholds.
        color: `mono`, `bgr` or `rgb`.
        stride: Frame pixels per class-map pixel; 1 for a gate.
    """
    return {
        "contract": card.contract,
        "kind": kind.value,
        "classes": json.dumps(list(card.classes)),
        "color": color,
        "output_stride": str(stride),
        "run": card.run,
        "thresholds": json.dumps(card.thresholds),
        **extended_keys(card),
    }


def set_metadata(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Replace the metadata of a graph by `metadata`."""
    import onnx

    onnx.helper.set_model_props(model, {f"edgeinspect.{k}": v for k, v in metadata.items()})


def write_manifest(
    folder: Path,
    path: Path,
    card: ModelCard,
    metadata: Mapping[str, str],
    opset: int,
    dims: tuple[int, ...],
    *,
    precision: str = "fp32",
) -> None:
    """Write `manifest.yaml` for a complete model file.

    Args:
        folder: Receives the manifest.
        path: The model file, which is hashed.
        card: The model's description.
        metadata: The result of `graph_metadata`.
        opset: The graph's opset.
        dims: The frame's (H, W, C).
        precision: `fp32`, `fp16` or `int8`: the type of the weights.
    """
    data = read_regular(path, MODEL_BYTES_MAX)
    manifest = {
        "schema": 1,
        "name": card.name,
        "version": card.version,
        "kind": metadata["kind"],
        "file": path.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "precision": precision,
        "opset": opset,
        "input": {
            "height_px": dims[0],
            "width_px": dims[1],
            "channels": dims[2],
            "color": metadata["color"],
        },
        "classes": list(card.classes),
        "output_stride": int(metadata["output_stride"]),
        **({} if card.contract == BASE_CONTRACT else {"contract": card.contract}),
        **extended_keys(card),
        "thresholds": json.loads(metadata["thresholds"]),
        "training": dict(card.training),
        "accuracy": dict(card.accuracy),
        "created": card.created,
        "calibration": None,
    }
    text = yaml.safe_dump(
        manifest, sort_keys=False, allow_unicode=True, width=96, default_flow_style=None
    )
    (folder / "manifest.yaml").write_text(text, encoding="utf-8")
