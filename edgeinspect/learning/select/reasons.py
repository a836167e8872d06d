"""What models say of an image, and how near that is to the opposite decision.

Everything is in units of the logit, so that gates and segmenters compare: the margin is the
distance to the threshold, positive if the image is rejected.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind
from edgeinspect.learning.evaluate import OfflineInspector

MAX_MARGIN = 8.0
"""Larger margins say nothing more: a probability of 0.9997."""
_MIN_PROB = 1e-6
_SUM_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class ModelOpinion:
    """What one model says of one image."""

    margin: float
    """In logits, -`MAX_MARGIN` to `MAX_MARGIN`; positive if the image is rejected."""
    entropy: float
    """Of the classes' probabilities, 0 to 1; 0 if the model gives none."""
    words: str
    """The score and its threshold."""

    @property
    def uncertainty(self) -> float:
        """0 for a clear case to 1 at the threshold, or with all classes equally probable."""
        return max(math.exp(-abs(self.margin)), self.entropy)


@dataclass(frozen=True, slots=True)
class ImageMeasurement:
    """The opinions of all models on one image, and its descriptor."""

    opinions: tuple[ModelOpinion, ...]
    descriptor: NDArray[np.float32]

    @property
    def uncertainty(self) -> float:
        """The highest of any model."""
        return max(opinion.uncertainty for opinion in self.opinions)

    @property
    def disagreement(self) -> float:
        """0 to 1 by the difference of the margins; 1 more if the decisions differ."""
        margins = [opinion.margin for opinion in self.opinions]
        distance = (max(margins) - min(margins)) / (2 * MAX_MARGIN)
        return distance + (max(margins) > 0 >= min(margins))

    def most_uncertain(self) -> ModelOpinion:
        """Return the opinion that is the least certain."""
        return max(self.opinions, key=lambda opinion: opinion.uncertainty)


def ask_model(inspector: OfflineInspector, frame: NDArray[np.uint8]) -> ModelOpinion:
    """Run one model on a frame.

    Args:
        inspector: With a gate or a segmenter alone, and its thresholds.
        frame: uint8 (H, W, C) of the model's size.

    Raises:
        EngineFault: An inference failed.
    """
    engine = inspector.gate or inspector.segmenter
    assert engine is not None
    if engine.spec.kind is ModelKind.GATE:
        outputs: Any = engine.infer(frame)
        return gate_opinion(
            outputs, inspector.rules.gate.reject_at if inspector.rules.gate else 0.5
        )
    inspection = inspector.inspect(frame)
    assert inspection.class_scores is not None
    assert inspection.largest_region_px is not None
    limits = [inspector.rules.classes[k + 1] for k in range(len(inspector.classes))]
    return region_opinion(
        inspection.class_scores,
        inspection.largest_region_px,
        [(limit.name, limit.score, limit.area_px) for limit in limits],
    )


def gate_opinion(outputs: Sequence[NDArray[Any]], threshold: float) -> ModelOpinion:
    """Return a gate's opinion from its outputs: `defect_prob`, and perhaps class probabilities."""
    prob = float(np.ravel(outputs[0])[0])
    entropy, words = 0.0, f"defect_prob {_prob_text(prob)}, threshold {_prob_text(threshold)}"
    if len(outputs) > 1:
        classes = np.ravel(outputs[1]).astype(np.float64)
        if len(classes) > 1 and abs(float(classes.sum()) - 1) <= _SUM_TOLERANCE:
            kept = classes[classes > 0]
            entropy = float(-(kept * np.log(kept)).sum() / math.log(len(classes)))
            words += f", entropy of the classes {entropy:.2f}"
    return ModelOpinion(_clip(_logit(prob) - _logit(threshold)), max(0.0, min(1.0, entropy)), words)


def region_opinion(
    scores: NDArray[np.float64],
    areas_px: NDArray[np.float64],
    limits: Sequence[tuple[str, float, float]],
) -> ModelOpinion:
    """Return a segmenter's opinion: a class rejects if score and area both pass its limits.

    Args:
        scores: (K,): of each class.
        areas_px: (K,): of the largest region of each class; 0 without one.
        limits: Name, score and area of each class.
    """
    best, words = -MAX_MARGIN, "no region"
    for score, area_px, (name, least, least_px) in zip(scores, areas_px, limits, strict=True):
        if area_px <= 0:
            continue
        margin = min(
            _logit(float(score)) - _logit(least), math.log(float(area_px) / max(1.0, least_px))
        )
        if margin > best or words == "no region":
            best = max(best, margin)
            words = (
                f"{name} {score:.2f} in {area_px:.0f} px, limits {least:.2g} and {least_px:.0f} px"
            )
    return ModelOpinion(_clip(best), 0.0, words)


def _prob_text(prob: float) -> str:
    """Return three digits, and more near 0 and 1, where they tell scores apart."""
    return f"{prob:.5f}" if min(prob, 1 - prob) < 0.01 else f"{prob:.3f}"


def _logit(prob: float) -> float:
    if math.isnan(prob):  # NaN: the line would give no verdict, which is worth a look
        return 0.0
    prob = min(1 - _MIN_PROB, max(_MIN_PROB, prob))
    return math.log(prob / (1 - prob))


def _clip(margin: float) -> float:
    return max(-MAX_MARGIN, min(MAX_MARGIN, margin))
