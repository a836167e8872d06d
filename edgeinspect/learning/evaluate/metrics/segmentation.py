"""IoU and Dice of a segmenter, over all pixels and by Severstal's convention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.scores import iou_and_dice


@dataclass(frozen=True, slots=True)
class ClassSegmentationMetrics:
    """One class over the pixels of all pictures together, at frame size."""

    name: str
    iou: float | None
    """None where the class is neither there nor found."""
    dice: float | None
    precision: float | None
    """Pixels: right among found."""
    recall: float | None
    """Pixels: found among true."""
    pictures: int
    """Pictures that have it."""


@dataclass(frozen=True, slots=True)
class SeverstalDice:
    """Mean Dice over every (picture, class), 1 where both are empty.

    Source: the rules of Kaggle's Severstal competition (2019)
    """

    dice: float
    dice_of_empty: float
    """What an answer without any defect scores on these pictures."""
    lift: float
    """`dice` less `dice_of_empty`."""
    dice_where_present: float | None
    """Mean over the pairs whose truth is not empty."""


@dataclass(frozen=True, slots=True)
class SegmentationMetrics:
    """How well found and true masks agree."""

    classes: tuple[ClassSegmentationMetrics, ...]
    """Background first."""
    miou: float
    """Mean IoU of the background and all classes, 0 for one that is neither there nor found."""
    mean_dice: float
    """Mean Dice of the classes, without background."""
    severstal: SeverstalDice
    confusion: tuple[tuple[int, ...], ...]
    """Pixels, rows true, columns found, background first."""


def measure_segmentation(
    results: Sequence[FrameResult], classes: Sequence[str]
) -> SegmentationMetrics | None:
    """None unless every answer has its pixels counted against a mask."""
    cells = [one.confusion for one in results if one.confusion is not None]
    if not cells or len(cells) != len(results):
        return None
    each = np.stack(cells)  # (N, K+1, K+1)
    whole = each.sum(0)
    iou, dice = iou_and_dice(whole)
    true, found, hit = whole.sum(1), whole.sum(0), np.diagonal(whole)
    present = (each.sum(2) > 0).sum(0)
    rows = tuple(
        ClassSegmentationMetrics(
            name,
            iou[k] if true[k] + found[k] else None,
            dice[k] if true[k] + found[k] else None,
            float(hit[k] / found[k]) if found[k] else None,
            float(hit[k] / true[k]) if true[k] else None,
            int(present[k]),
        )
        for k, name in enumerate(["background", *classes])
    )
    return SegmentationMetrics(
        classes=rows,
        miou=float(np.mean(iou)),
        mean_dice=float(np.mean(dice[1:])),
        severstal=_severstal_dice(each),
        confusion=tuple(tuple(int(value) for value in row) for row in whole),
    )


def _severstal_dice(each: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> SeverstalDice:
    hit = np.diagonal(each, axis1=1, axis2=2)[:, 1:]
    true, found = each.sum(2)[:, 1:], each.sum(1)[:, 1:]
    dice = np.where(true + found == 0, 1.0, 2 * hit / np.maximum(1, true + found))
    empty = float((true == 0).mean())
    mean = float(dice.mean())
    there = float(dice[true > 0].mean()) if (true > 0).any() else None
    return SeverstalDice(mean, empty, mean - empty, there)
