"""Confusion matrices, IoU and Dice of class maps, over all pixels and as Severstal counts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import upsample_class_map
from edgeinspect.learning.datasets import VOID, ImageArrays, downsample_masks


@dataclass(frozen=True, slots=True)
class ClassSegmentationMetrics:
    """One class over the pixels of all images together, at frame size."""

    name: str
    iou: float | None
    """None where the class is neither labelled nor predicted."""
    dice: float | None
    precision: float | None
    """Correct among the predicted pixels."""
    recall: float | None
    """Predicted among the labelled pixels."""
    pictures: int
    """Images with the class."""


@dataclass(frozen=True, slots=True)
class SeverstalDice:
    """Mean Dice over every (image, class), 1 where both masks are empty.

    Source: the rules of Kaggle's Severstal competition (2019)
    """

    dice: float
    dice_of_empty: float
    """Score of a prediction without any defect on these images; the baseline of `dice`."""
    lift: float
    """`dice` minus `dice_of_empty`."""
    dice_where_present: float | None
    """Mean over the pairs with a labelled pixel."""


@dataclass(frozen=True, slots=True)
class SegmentationMetrics:
    """Agreement of predicted and labelled masks."""

    classes: tuple[ClassSegmentationMetrics, ...]
    """Background first."""
    miou: float | None
    """Mean IoU of background and classes, without those that are neither labelled nor predicted;
    None if no defect is labelled: agreement on defects is then undefined."""
    mean_dice: float | None
    """The same mean of Dice, of the classes without background."""
    severstal: SeverstalDice
    confusion: tuple[tuple[int, ...], ...]
    """Pixels, rows true, columns predicted, background first."""


def confusion_matrix(
    predicted_maps: Sequence[NDArray[np.uint8]], label_maps: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """Return (K+1, K+1) pixel counts, rows true, columns predicted; void pixels are ignored."""
    size = classes + 1
    matrix = np.zeros((size, size), np.int64)
    for predicted, true in zip(predicted_maps, label_maps, strict=True):
        index = true.astype(np.int64) * size + predicted
        known = index[true != VOID] if (true == VOID).any() else index.ravel()
        matrix += np.bincount(known, minlength=size * size).reshape(size, size)
    return matrix


def iou_and_dice(matrix: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Return IoU and Dice per class, background first."""
    hit = np.diag(matrix).astype(float)
    true, predicted = matrix.sum(1), matrix.sum(0)
    iou = hit / np.maximum(1, true + predicted - hit)
    dice = 2 * hit / np.maximum(1, true + predicted)
    return iou.tolist(), dice.tolist()


def measure_segmentation(
    confusions: Sequence[NDArray[np.int64] | None], classes: Sequence[str]
) -> SegmentationMetrics | None:
    """Compute the metrics from the confusion matrix of each image; None if one has none."""
    counted = [matrix for matrix in confusions if matrix is not None]
    if not counted or len(counted) != len(confusions):
        return None
    per_image = np.stack(counted)  # (N, K+1, K+1)
    total = per_image.sum(0)
    iou, dice = iou_and_dice(total)
    true, predicted, hit = total.sum(1), total.sum(0), np.diagonal(total)
    present = (per_image.sum(2) > 0).sum(0)
    rows = tuple(
        ClassSegmentationMetrics(
            name,
            iou[k] if true[k] + predicted[k] else None,
            dice[k] if true[k] + predicted[k] else None,
            float(hit[k] / predicted[k]) if predicted[k] else None,
            float(hit[k] / true[k]) if true[k] else None,
            int(present[k]),
        )
        for k, name in enumerate(["background", *classes])
    )
    is_defined = bool(true[1:].any())
    present_iou = [row.iou for row in rows if row.iou is not None]
    present_dice = [row.dice for row in rows[1:] if row.dice is not None]
    return SegmentationMetrics(
        classes=rows,
        miou=float(np.mean(present_iou)) if is_defined else None,
        mean_dice=float(np.mean(present_dice)) if is_defined else None,
        severstal=_severstal_dice(per_image),
        confusion=tuple(tuple(int(value) for value in row) for row in total),
    )


def segmentation_scores(
    outputs: Sequence[Sequence[NDArray[Any]]], images: ImageArrays, stride: int
) -> dict[str, Any]:
    """Return the scores of a segmenter for its manifest, rounded; None for an undefined one.

    Dice and IoU are over all pixels of the set, at the output stride and at frame size;
    `severstal_*` and `dice_where_present` are those of `SeverstalDice`.

    Args:
        outputs: Of the segmenter's graph, for each image.
        images: With masks.
        stride: Frame pixels per class-map cell.
    """
    maps = [output[0][0] for output in outputs]
    height, width = images.masks.shape[1:]
    count = len(images.classes)
    at_stride = confusion_matrix(maps, downsample_masks(images.masks, stride), count)
    per_image = [
        confusion_matrix([upsample_class_map(one, stride, height, width)], true[None], count)
        for one, true in zip(maps, images.masks, strict=True)
    ]
    metrics = measure_segmentation(per_image, images.classes)
    assert metrics is not None
    _iou, dice_at_stride = iou_and_dice(at_stride)
    defects = metrics.classes[1:]
    severstal = metrics.severstal
    return {
        "dice": {row.name: _rounded(row.dice) for row in defects},
        "dice_at_stride": {
            row.name: None if row.dice is None else round(dice, 4)
            for row, dice in zip(defects, dice_at_stride[1:], strict=True)
        },
        "iou": {row.name: _rounded(row.iou) for row in metrics.classes},
        "miou": _rounded(metrics.miou),
        "severstal_dice": round(severstal.dice, 4),
        "severstal_dice_of_empty": round(severstal.dice_of_empty, 4),
        "dice_where_present": _rounded(severstal.dice_where_present),
        "definition": "dice and iou over the pixels of all images together, at frame size",
    }


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)


def _severstal_dice(per_image: NDArray[np.int64]) -> SeverstalDice:
    hit = np.diagonal(per_image, axis1=1, axis2=2)[:, 1:]
    true, predicted = per_image.sum(2)[:, 1:], per_image.sum(1)[:, 1:]
    dice = np.where(true + predicted == 0, 1.0, 2 * hit / np.maximum(1, true + predicted))
    empty, mean = float((true == 0).mean()), float(dice.mean())
    present = float(dice[true > 0].mean()) if (true > 0).any() else None
    return SeverstalDice(mean, empty, mean - empty, present)
