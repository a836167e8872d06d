"""The distance of a model's outputs from a reference or from labels; 0 is best.

Layer sensitivity and the choice of a range method need a value that responds to every frame,
unlike the limits in `acceptance_checks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import ModelKind, ModelSpec
from edgeinspect.learning.calibrate.frames import FrameLabel
from edgeinspect.learning.datasets import downsample_masks
from edgeinspect.learning.evaluate import confusion_matrix, iou_and_dice

Outputs = Sequence[NDArray[Any]]
_MIN_PROB = 1e-3


@dataclass(frozen=True, slots=True)
class OutputDistance:
    """A distance and its measure."""

    total: float
    by_class: tuple[float, ...]
    """1 - Dice of each class (0 for an absent class); empty for a gate."""
    words: str


def distance_from_reference(
    spec: ModelSpec, actual: Sequence[Outputs], expected: Sequence[Outputs]
) -> OutputDistance:
    """Return the distance from the outputs of the FP32 model on the same frames.

    Segmenter: 1 - mean Dice over classes between the class maps of all frames, plus the mean
    absolute difference of the class scores: a score below its threshold misses a defect even if
    no pixel changed. Gate: mean absolute difference of the probability, and of
    those of its kinds.
    """
    if spec.kind is ModelKind.GATE:
        change = np.abs(_probabilities(actual) - _probabilities(expected))
        return OutputDistance(float(change.mean()), (), "mean difference of the probability")
    maps = [outputs[0][0] for outputs in actual]
    targets = np.stack([outputs[0][0] for outputs in expected])
    loss = _dice_distance(
        maps, targets, spec, "1 - mean Dice against FP32, and change of the class scores"
    )
    scores = np.array([each[2][0] for each in actual], np.float64)
    change = np.abs(scores - np.array([each[2][0] for each in expected], np.float64))
    total = loss.total + float(change.mean())
    if "defect_prob" in spec.outputs:
        change = np.abs(_probabilities(actual, 3) - _probabilities(expected, 3))
        total += float(change.mean())
    return replace(loss, total=total)


def _probabilities(outputs: Sequence[Outputs], first: int = 0) -> NDArray[np.float64]:
    """Return (N, M) the probabilities among the outputs from number `first` on."""
    return np.array([np.concatenate([np.ravel(x) for x in one[first:]]) for one in outputs])


def distance_from_labels(
    spec: ModelSpec, actual: Sequence[Outputs], labels: Sequence[FrameLabel]
) -> OutputDistance:
    """Return the distance from the labels.

    Segmenter: 1 - mean Dice over classes at the output stride. Gate and good-parts model: mean
    log loss.
    """
    if spec.kind is ModelKind.GATE or spec.is_good_parts:
        at = spec.outputs.index("defect_prob")
        probs = np.clip([float(each[at][0]) for each in actual], _MIN_PROB, 1 - _MIN_PROB)
        bad = np.array([label.is_defective for label in labels], np.bool_)
        loss = -np.log(np.where(bad, probs, 1 - probs))
        return OutputDistance(float(loss.mean()), (), "log loss")
    maps = [outputs[0][0] for outputs in actual]
    empty = np.zeros((spec.shape.height_px, spec.shape.width_px), np.uint8)
    masks = np.stack([empty if label.mask is None else label.mask for label in labels])
    return _dice_distance(maps, downsample_masks(masks, spec.output_stride), spec, "1 - mean Dice")


def _dice_distance(
    maps: Sequence[NDArray[np.uint8]], targets: NDArray[np.uint8], spec: ModelSpec, words: str
) -> OutputDistance:
    matrix = confusion_matrix(maps, targets, len(spec.classes))
    _iou, dice = iou_and_dice(matrix)
    is_present = (matrix.sum(0) + matrix.sum(1))[1:] > 0
    losses = np.where(is_present, 1 - np.array(dice[1:]), 0.0)
    total = float(losses[is_present].mean()) if is_present.any() else 0.0
    return OutputDistance(total, tuple(float(each) for each in losses), words)
