"""What models say of an image, and how near that is to the opposite decision.

The margin is the distance to the threshold, positive if the image is rejected. It is in units of
the logit, so that gates and segmenters compare; of a good-parts model in those of its own scale
(`to_scale_units`), on which ordinary good parts are about as clear as a gate's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import find_blobs
from edgeinspect.learning.evaluate import OfflineInspector
from edgeinspect.pipeline.inspection import UnknownLimits
from edgeinspect.ports import Engine

MAX_MARGIN = 8.0
"""Larger margins say nothing more: a probability of 0.9997."""
_MIN_PROB = 1e-6
_SUM_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class ModelOpinion:
    """What one model says of one image."""

    margin: float
    """-`MAX_MARGIN` to `MAX_MARGIN`; positive if the image is rejected."""
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
        inspector: With a gate, a segmenter or a good-parts model alone, and its thresholds.
        frame: uint8 (H, W, C) of the model's size.

    Raises:
        EngineFault: An inference failed.
    """
    if inspector.gate is not None:
        outputs: Any = inspector.gate.infer(frame)
        return gate_opinion(
            outputs, inspector.rules.gate.reject_at if inspector.rules.gate else 0.5
        )
    if inspector.segmenter is None:
        assert inspector.unknown is not None
        assert inspector.rules.unknown is not None
        return _ask_good_parts(inspector.unknown, inspector.rules.unknown, frame)
    inspection = inspector.inspect(frame)
    assert inspection.class_scores is not None
    assert inspection.largest_region_px is not None
    limits = [inspector.rules.classes[k + 1] for k in range(len(inspector.classes))]
    return region_opinion(
        inspection.class_scores,
        inspection.largest_region_px,
        [(limit.name, limit.score, limit.area_px) for limit in limits],
    )


def _ask_good_parts(
    engine: Engine, limits: UnknownLimits, frame: NDArray[np.uint8]
) -> ModelOpinion:
    outputs: Any = engine.infer(frame)
    blobs = find_blobs(outputs[0][0], outputs[1][0], outputs[2][0])
    cells = max((each.largest_px for each in blobs), default=0)
    return unknown_opinion(float(outputs[3][0]), float(cells * limits.stride**2), limits)


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


def unknown_opinion(prob: float, largest_px: float, limits: UnknownLimits) -> ModelOpinion:
    """Return a good-parts model's opinion: it rejects if score and area both pass its limits.

    Args:
        prob: Its score of the whole image, `defect_prob`.
        largest_px: Area of its largest region; 0 without one.
        limits: Its threshold, and perhaps an area.
    """
    margin = to_scale_units(prob) - to_scale_units(limits.reject_at)
    words = f"defect_prob {_prob_text(prob)}, threshold {_prob_text(limits.reject_at)}"
    if limits.area_px:
        margin = min(margin, math.log(max(1.0, largest_px) / limits.area_px))
        words += f", largest region {largest_px:.0f} px, limit {limits.area_px:.0f} px"
    return ModelOpinion(_clip(margin), 0.0, words)


def to_scale_units(prob: float) -> float:
    """Return how many units a good-parts model's score lies above a `defect_prob` of 0.5.

    Its scale is p = (1 + u / (1 + |u|)) / 2, with the median good image at u = -4. The logit of p
    would be -2.2 there, and call every good part uncertain.
    """
    if math.isnan(prob):
        return 0.0
    signed = 2 * min(1 - _MIN_PROB, max(_MIN_PROB, prob)) - 1
    return signed / (1 - abs(signed))


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
