"""The line of a good-parts model: it decides alone, at the threshold of its training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeinspect.learning.datasets import TEST, TRAIN, VAL
from edgeinspect.learning.train.anomaly.config import AnomalyConfig
from edgeinspect.learning.train.anomaly.export import THRESHOLD
from edgeinspect.learning.train.anomaly.false_rejects import ThresholdChoice
from edgeinspect.learning.train.anomaly.images import AnomalyImages
from edgeinspect.learning.train.line_file import SEVERITY, LineDescription, write_line_file

_REJECT_CODE = 99
"""Beyond the codes of known defects, if the model is moved to a line that has those too."""


def write_good_parts_line(
    config: AnomalyConfig, images: AnomalyImages, choice: ThresholdChoice
) -> Path:
    """Write the line file of a training, and return its path.

    It inspects the test images, or those of validation, or the good ones that were learned.

    Raises:
        OutputError: The run folder cannot be written.
    """
    splits = ((TEST, images.test), (VAL, images.validation), (TRAIN, images.good))
    split, sample = next((name, part) for name, part in splits if part is not None and len(part))
    return write_line_file(
        LineDescription(
            name=config.name,
            out=config.out,
            engines={"unknown": config.out / config.name / "1"},
            decisions=tuple(_decisions(choice)),
            data=images.data,
            split=split,
            sample=sample,
            publishes_masks=True,
        )
    )


def _decisions(choice: ThresholdChoice) -> Iterator[str]:
    yield f"# Chosen for {100 * choice.wanted_rate:g} % of false rejects: of {choice.images} good"
    yield f"# images, each by a bank that had not seen it, {choice.rejected} are above it."
    yield "# CHANGE: `action: review` rejects nothing and marks the frame for a person."
    yield (
        f"  unknown: {{reject_at: {THRESHOLD:g}, action: reject, severity: {SEVERITY}, "
        f"reject_code: {_REJECT_CODE}}}"
    )
