"""What a model takes and gives: the model contract as types.

Source: docs/models.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edgeinspect.domain.frame import FrameShape
from edgeinspect.domain.verdict import ModelRef

MODEL_CONTRACT_VERSION = "1"
"""Version of the model contract this code speaks."""


class ModelKind(str, Enum):
    """The two jobs of the line."""

    GATE = "gate"
    SEGMENTER = "segmenter"


class Precision(str, Enum):
    """Number format most of the graph's arithmetic runs in."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class ModelId:
    """Names one model exactly, as every verdict does."""

    name: str
    version: int
    sha256: str
    """Hash of the ONNX file."""
    calibration: str | None = None
    """Calibration id of an INT8 model."""

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A verified model on disk: identity, shape and meaning."""

    id: ModelId
    kind: ModelKind
    path: Path
    """The model file, its hash checked."""
    shape: FrameShape
    color: str
    """`mono`, `bgr` or `rgb`: the channel order the graph was trained with."""
    classes: tuple[str, ...]
    """Defect classes, without background; class id i + 1 is `classes[i]`."""
    output_stride: int
    """Input pixels per class-map pixel, each way (1 for a gate)."""
    precision: Precision
    thresholds: Mapping[str, object]
    """Thresholds the training proposed; the line's configuration decides."""
    golden: Path | None = None
    """File of the frames whose outputs are known, its hash checked."""


def model_ref(spec: ModelSpec | None) -> ModelRef | None:
    """How verdicts name a model."""
    if spec is None:
        return None
    return ModelRef(spec.id.name, spec.id.version, spec.id.sha256, spec.id.calibration)
