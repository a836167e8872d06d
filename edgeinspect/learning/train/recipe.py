"""A recipe: everything that decides what weights come out, beside the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgeinspect.learning.train.augment import AugmentSettings

LossName = Literal["ce+dice", "ce+tversky", "ce+lovasz", "focal+dice"]
Schedule = Literal["onecycle", "cosine"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. The same recipe, data, seed and thread count give the same weights."""

    steps: int
    batch: int = 16
    """Images of a step, over all processes."""
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    schedule: Schedule = "onecycle"
    warm_up_ratio: float = 0.15
    average_decay: float = 0.995
    """Of the exponential average of the weights, which is what is kept."""
    clip_norm: float = 2.0
    crop_height_px: int | None = None
    """Crops of this height; whole images when None."""
    crop_width_px: int | None = None
    whole_ratio: float = 0.0
    """Share of the steps, the last ones, on whole images and half the batch."""
    positive_share: float = 0.5
    """Share of defective images in a batch."""
    centred_share: float = 0.8
    """Share of their crops that are centred on a defect."""
    loss: LossName = "ce+dice"
    """Of a segmenter."""
    validate_every: int = 0
    """Steps between two looks at the validation split; 0: only at the end."""
    patience: int = 0
    """Stop after so many looks without a better one; 0: never."""
    seed: int = 1
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def full_frame_start(self) -> int:
        """The first step (from 0) on whole images."""
        return self.steps - round(self.steps * self.whole_ratio)

    def to_document(self) -> dict[str, Any]:
        """As plain values, for files."""
        return asdict(self)
