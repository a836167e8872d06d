"""Scores of good images by banks that were built without them (cross-validation)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgeinspect.learning.train.anomaly.anomaly_map import image_score
from edgeinspect.learning.train.anomaly.feature_runner import FeatureRunner
from edgeinspect.learning.train.anomaly.good_cells import GoodCells

FOLDS = 5
LEAVE_ONE_OUT_IMAGES = 10
"""Up to this many images each is a fold of its own."""
MAX_SCORED = 1000


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """What good images score that the bank has not seen."""

    scores: NDArray[np.float64]
    """(N,)."""
    images: tuple[int, ...]
    folds: int


def assign_folds(groups: list[str], seed: int) -> list[list[int]]:
    """Return the numbers of the images of each fold; images of one group stay in one.

    If all are of one group, each counts as its own: without them there would be no bank.

    Args:
        groups: Of each image; empty for an image of its own.
        seed: Of the order.
    """
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(f"group {group}" if group else f"image {number}", []).append(number)
    if len(members) == 1:
        members = {f"image {number}": [number] for number in range(len(groups))}
    families = sorted(members.values())
    order = np.random.default_rng(seed).permutation(len(families))
    count = len(families) if len(families) <= LEAVE_ONE_OUT_IMAGES else FOLDS
    folds: list[list[int]] = [[] for _ in range(count)]
    for place in order:  # whole families, each to the smallest fold
        min(folds, key=len).extend(families[place])
    return [sorted(fold) for fold in folds]


def score_held_out(
    runner: FeatureRunner,
    cells: GoodCells,
    folds: list[list[int]],
    entries: int,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> HeldOutScores:
    """Score good images of each fold by a bank of the other folds' cells.

    Args:
        runner: Of the images.
        cells: Of all of them.
        folds: Numbers of images.
        entries: Of each bank, as of the final one.
        on_progress: Called with stage, done and total.
    """
    scores: list[float] = []
    images: list[int] = []
    maps = []
    for fold in folds:
        maps.append(cells.build_map(entries, without=fold))
        on_progress("banks", len(maps), len(folds))
    for fold, anomaly_map in zip(folds, maps, strict=True):
        for number in fold:
            with torch.no_grad():
                scores.append(float(image_score(anomaly_map(*runner.of_image(number)))))
            images.append(number)
            on_progress("held out", len(images), sum(map(len, folds)))
    return HeldOutScores(np.array(scores), tuple(images), len(folds))
