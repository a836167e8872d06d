"""The recipe: everything besides the data that determines the trained weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgeinspect.learning.train.augment import AugmentSettings

LossName = Literal["ce+dice", "ce+tversky", "ce+lovasz", "focal+dice"]
Schedule = Literal["onecycle", "cosine"]


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """Hyperparameters. The same recipe, data, seed and thread count give the same weights."""

    steps: int
    batch: int = 16
    """Images per step, over all processes."""
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    schedule: Schedule = "onecycle"
    warm_up_ratio: float = 0.15
    average_decay: float = 0.995
    """Of the exponential moving average of the weights, which is the result."""
    clip_norm: float = 2.0
    crop_height_px: int | None = None
    """Height of crops; whole images when None."""
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
    """Steps between two validations; 0: only at the end."""
    patience: int = 0
    """Stop after this many validations without an improvement; 0: never."""
    seed: int = 1
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def full_frame_start(self) -> int:
        """Return the first step (from 0) on whole images."""
        return self.steps - round(self.steps * self.whole_ratio)

    def to_document(self) -> dict[str, Any]:
        """Return the recipe as plain values for JSON."""
        return asdict(self)
