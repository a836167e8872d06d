"""Evaluation of exported graphs: the figures a manifest may quote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.datasets import VOID, ImageArrays, downsample_masks


def wilson_interval(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) when there is nothing to count."""
    if not total:
        return 0.0, 1.0
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


@dataclass(frozen=True, slots=True)
class ClassifierScores:
    """How well probabilities separate defective from sound pictures."""

    auc: float
    recall: dict[float, float]
    """By false-reject rate."""
    recall_interval: dict[float, tuple[float, float]]
    threshold: dict[float, float]
    auc_interval: tuple[float, float]
    """95 %, after DeLong 1988."""


def classifier_scores(
    probs: NDArray[np.floating[Any]],
    defective: NDArray[np.bool_],
    false_reject_rates: Sequence[float],
) -> ClassifierScores:
    """Recall at fixed false-reject rates, and the area under the ROC curve."""
    bad, good = np.sort(probs[defective]), np.sort(probs[~defective])
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    above = 2 * len(bad) - np.searchsorted(bad, good, "left") - np.searchsorted(bad, good, "right")
    auc = float(below.sum() / (2 * max(1, len(bad) * len(good))))
    variance = sum(
        float(np.var(places / (2 * max(1, others)), ddof=1)) / len(places)
        for places, others in ((below, len(good)), (above, len(bad)))
        if len(places) > 1
    )
    spread = 1.96 * math.sqrt(variance)
    recall, interval, threshold = {}, {}, {}
    for rate in false_reject_rates:
        allowed = int(rate * len(good))  # sound pictures that may be rejected
        limit = float(good[len(good) - 1 - allowed]) if len(good) > allowed else 0.0
        hits = int((bad > limit).sum())
        recall[rate] = hits / max(1, len(bad))
        interval[rate] = wilson_interval(hits, len(bad))
        threshold[rate] = limit
    around = (max(0.0, auc - spread), min(1.0, auc + spread))
    return ClassifierScores(auc, recall, interval, threshold, around)


def confusion_matrix(
    predicted_maps: Sequence[NDArray[np.uint8]], label_maps: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """(K+1, K+1) pixel counts, rows true, columns found; maps and targets of one size.

    Void pixels of the targets are not counted.
    """
    size = classes + 1
    matrix = np.zeros((size, size), np.int64)
    for found, true in zip(predicted_maps, label_maps, strict=True):
        index = true.astype(np.int64) * size + found
        known = index[true != VOID] if (true == VOID).any() else index.ravel()
        matrix += np.bincount(known, minlength=size * size).reshape(size, size)
    return matrix


def iou_and_dice(matrix: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Per class, background first."""
    hit = np.diag(matrix).astype(float)
    true, found = matrix.sum(1), matrix.sum(0)
    iou = hit / np.maximum(1, true + found - hit)
    dice = 2 * hit / np.maximum(1, true + found)
    return iou.tolist(), dice.tolist()


def upsample_class_map(
    class_map: NDArray[np.uint8], stride: int, height: int, width: int
) -> NDArray[Any]:
    """A class map at frame size, each cell repeated."""
    return np.repeat(np.repeat(class_map, stride, 0), stride, 1)[:height, :width]


def segmentation_scores(
    outputs: Sequence[Sequence[NDArray[Any]]], images: ImageArrays, stride: int
) -> dict[str, Any]:
    """Dice and IoU over all pixels of the set, at the output stride and at frame size.

    `severstal_dice` is the mean over every (picture, class), 1 where both are empty, as in
    Severstal's competition; `severstal_dice_of_empty` is what an empty answer scores there,
    without which the former says little. `dice_where_present` is its mean over the pairs
    whose truth is not empty.
    """
    classes = len(images.classes)
    maps = [output[0][0] for output in outputs]
    height, width = images.masks.shape[1:]
    at_stride = confusion_matrix(maps, downsample_masks(images.masks, stride), classes)
    per_picture = [
        confusion_matrix([upsample_class_map(found, stride, height, width)], true[None], classes)
        for found, true in zip(maps, images.masks, strict=True)
    ]
    whole = np.sum(per_picture, axis=0)
    iou, dice = iou_and_dice(whole)
    _, dice_stride = iou_and_dice(at_stride)
    names = list(images.classes)
    return {
        "dice": dict(zip(names, (round(v, 4) for v in dice[1:]), strict=True)),
        "dice_at_stride": dict(zip(names, (round(v, 4) for v in dice_stride[1:]), strict=True)),
        "iou": dict(zip(["background", *names], (round(v, 4) for v in iou), strict=True)),
        "miou": round(float(np.mean(iou)), 4),
        **_severstal_dice(per_picture),
        "definition": "dice and iou over the pixels of all pictures together, at frame size",
    }


def _severstal_dice(per_picture: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    cells = np.stack(per_picture)
    hit = np.diagonal(cells, axis1=1, axis2=2)[:, 1:]
    true, found = cells.sum(2)[:, 1:], cells.sum(1)[:, 1:]
    dice = np.where(true + found == 0, 1.0, 2 * hit / np.maximum(1, true + found))
    return {
        "severstal_dice": round(float(dice.mean()), 4),
        "severstal_dice_of_empty": round(float((true == 0).mean()), 4),
        "dice_where_present": round(float(dice[true > 0].mean()) if true.any() else 0.0, 4),
    }
