"""What a calibration is told: its model, frames, method and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgeinspect.domain import ModelSpec
from edgeinspect.learning.calibrate.acceptance_checks import AcceptanceLimits

BEST_METHOD = "best"
DEFAULT_SENSITIVITY_FRAMES = 8


@dataclass(frozen=True, slots=True)
class CalibrationConfig:
    """The settings of a calibration."""

    parent: ModelSpec
    """The FP32 model, verified."""
    images: str
    """Frames to calibrate with; see `frames.open_frames`."""
    labels: str | None = None
    """Labelled frames to verify with; without, FP32 and INT8 must agree on held-out frames."""
    split_file: Path | None = None
    """Says which images are in a split, instead of the data set's own."""
    on_training_images: bool = False
    """The verification may use images that the parent was trained on."""
    scoring_gate: ModelSpec | None = None
    """Scores the frames of a segmenter's calibration, for stratified sampling."""
    method: str = BEST_METHOD
    seed: int = 1
    frame_count: int = 256
    held_out_count: int = 64
    sensitivity_frames: int = DEFAULT_SENSITIVITY_FRAMES
    """Frames for layer sensitivity; 0 skips it unless `exclude_sensitive` needs it."""
    exclude_sensitive: bool = False
    max_float_layers: int = 6
    """Layers that `exclude_sensitive` may keep in float."""
    float_layers: tuple[str, ...] = ()
    limits: AcceptanceLimits = field(default_factory=AcceptanceLimits)
    backend: str = ""
    """Backend that runs the verification; `ov` if it is installed."""
