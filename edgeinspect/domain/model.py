"""The model contract as types: inputs, outputs and identity of a model.

Source: docs/reference/models.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.verdict import ModelRef

MODEL_CONTRACT_VERSION = "1"
"""Version of the model contract that this code implements."""


class ModelKind(str, Enum):
    """The two kinds of models of a line."""

    GATE = "gate"
    SEGMENTER = "segmenter"


class Precision(str, Enum):
    """Number format of most of the graph's arithmetic."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class ModelId:
    """The exact identity of a model, as in every verdict."""

    name: str
    version: int
    sha256: str
    """Digest of the ONNX file."""
    calibration: str | None = None
    """Calibration id of an INT8 model."""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A verified model on disk: identity, shape and classes."""

    id: ModelId
    kind: ModelKind
    path: Path
    """The model file, its digest verified."""
    shape: FrameShape
    color: str
    """`mono`, `bgr` or `rgb`: the channel order that the graph was trained with."""
    classes: tuple[str, ...]
    """Defect classes, without background; class id i + 1 is `classes[i]`."""
    output_stride: int
    """Input pixels per class-map pixel, each way (1 for a gate)."""
    precision: Precision
    thresholds: Mapping[str, object]
    """Thresholds that the training proposed; the configuration of the line decides."""
    golden: Path | None = None
    """File of the golden frames, its digest verified; None without."""


def model_ref(spec: ModelSpec | None) -> ModelRef | None:
    """Return the reference of a model in a verdict."""
    if spec is None:
        return None
    return ModelRef(spec.id.name, spec.id.version, spec.id.sha256, spec.id.calibration)
