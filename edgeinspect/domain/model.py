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

BASE_CONTRACT = "1"
"""The model contract of a gate with one probability and of a plain segmenter."""
EXTENDED_CONTRACT = "2"
"""The model contract of a gate with a probability per kind, and of a segmenter with a probability
of the whole image."""
GOOD_PARTS_CONTRACT = "3"
"""The model contract of a good-parts model with a heat map."""
MODEL_CONTRACTS = (BASE_CONTRACT, EXTENDED_CONTRACT, GOOD_PARTS_CONTRACT)
"""Versions of the model contract that this code implements."""


class ModelKind(str, Enum):
    """The two kinds of models of a line."""

    GATE = "gate"
    SEGMENTER = "segmenter"


HEAT_MAP_CELL_PX = 16
"""Input pixels per cell of a heat map, each way."""
ENGINE_ROLES = ("gate", "segmenter", "unknown")
"""The places of models on a line, in the order in which they run."""


class Decides(str, Enum):
    """What a model can tell apart."""

    DEFECTS = "defects"
    """Good parts from defective ones."""
    KINDS = "kinds"
    """Kinds of defects only: it was trained without good parts, and calls every part defective."""


KINDS_ONLY = (
    "it was trained without good parts: it tells kinds of defects apart, and cannot tell good "
    "parts from defective ones"
)
"""What a person must know of a model with `Decides.KINDS`."""


class LearnedFrom(str, Enum):
    """What a model learned from."""

    LABELS = "labels"
    """Good and defective parts with their labels."""
    GOOD = "good"
    """Good parts alone: whatever differs from them is `unknown`."""


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
    """Defect classes, without background; class id i + 1 is `classes[i]`. Of a gate of contract 2
    the kinds, in the order of `class_prob`."""
    output_stride: int
    """Input pixels per class-map pixel, each way (1 for a gate)."""
    precision: Precision
    thresholds: Mapping[str, object]
    """Thresholds that the training proposed; the configuration of the line decides."""
    golden: Path | None = None
    """File of the golden frames, its digest verified; None without."""
    contract: str = BASE_CONTRACT
    """One of `MODEL_CONTRACTS`."""
    decides: Decides = Decides.DEFECTS
    learned_from: LearnedFrom = LearnedFrom.LABELS
    pretrained: str = ""
    """Name of the weights that the training started from; empty for none, or not known."""
    pretrained_sha256: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of defects that a gate tells apart; empty for any other model."""
        is_gate = self.kind is ModelKind.GATE
        return self.classes if is_gate and self.contract == EXTENDED_CONTRACT else ()

    @property
    def is_good_parts(self) -> bool:
        """Whether it is a good-parts model, which finds what good parts do not have."""
        return self.learned_from is LearnedFrom.GOOD

    @property
    def heat_map_size(self) -> tuple[int, int]:
        """(height, width) of its heat map in cells; the last may reach beyond the input."""
        height_px, width_px = self.shape.height_px, self.shape.width_px
        return -(-height_px // HEAT_MAP_CELL_PX), -(-width_px // HEAT_MAP_CELL_PX)

    @property
    def role(self) -> str:
        """Its usual place on a line, one of `ENGINE_ROLES`."""
        return "unknown" if self.is_good_parts else self.kind.value

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in the order of `Engine.infer`."""
        return model_outputs(self.kind, self.contract)


def model_outputs(kind: ModelKind, contract: str) -> tuple[str, ...]:
    """Return the names of a model's outputs, in the order of `Engine.infer`."""
    if kind is ModelKind.GATE:
        return ("defect_prob", "class_prob") if contract != BASE_CONTRACT else ("defect_prob",)
    added = {
        BASE_CONTRACT: (),
        EXTENDED_CONTRACT: ("defect_prob",),
        GOOD_PARTS_CONTRACT: ("defect_prob", "heat_map"),
    }
    return ("class_map", "class_area_px", "class_score", *added[contract])


def model_ref(spec: ModelSpec | None) -> ModelRef | None:
    """Return the reference of a model in a verdict."""
    if spec is None:
        return None
    return ModelRef(spec.id.name, spec.id.version, spec.id.sha256, spec.id.calibration)
