"""Classification by a gate that tells kinds of defects apart: confusion, recall, precision.

The predicted class of an image is the most probable one of good and the kinds, whatever the
thresholds are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeinspect.domain import Decides
from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate

GOOD = "good"
_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class KindMetrics:
    """How well images of one class are recognised."""

    name: str
    images: int
    """Images of this class."""
    recall: Rate
    """Of the images of this class, those that are predicted as it."""
    precision: Rate
    """Of the images that are predicted as this class, those that are of it."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The classification of a gate with kinds, over the images with one known class."""

    names: tuple[str, ...]
    """Names of the rows and columns of `confusion`: `good`, unless the model has no such class,
    and the kinds."""
    confusion: tuple[tuple[int, ...], ...]
    """Images: rows true, columns predicted."""
    classes: tuple[KindMetrics, ...]
    """One for each name."""
    accuracy: Rate
    balanced_accuracy: float | None
    """Mean recall of the classes that have an image; None without any image."""
    balanced_accuracy_low: float
    """95 % interval: from draws of each recall's posterior (Jeffreys' prior)."""
    balanced_accuracy_high: float
    several_kinds: int
    """Images left out because they have defects of several kinds."""
    unknown_kind: int
    """Images left out because the data set does not tell their kind."""
    good_left_out: int
    """Good images left out because the model has no such class."""


def measure_kinds(
    results: Sequence[FrameResult], kinds: Sequence[str], decides: Decides, seed: int = 1
) -> Classification | None:
    """Compare the most probable class of each image with its label.

    Args:
        results: Of a gate with `kinds`.
        kinds: In the order of `class_prob`; empty for any other model.
        decides: Whether the model has a class for good.
        seed: Of the interval of the balanced accuracy.

    Returns:
        The metrics; None without kinds, or if no image has a known class.
    """
    if not kinds:
        return None
    has_good = decides is Decides.DEFECTS
    names = (GOOD, *kinds) if has_good else tuple(kinds)
    confusion: NDArray[np.int64] = np.zeros((len(names), len(names)), np.int64)
    several = unknown = good_left_out = 0
    for one in results:
        if one.is_defective and len(one.true_kinds) != 1:
            several += len(one.true_kinds) > 1
            unknown += not one.true_kinds
        elif not one.is_defective and not has_good:
            good_left_out += 1
        else:
            true = one.true_kinds[0] if one.is_defective else 0
            confusion[true - (not has_good), predicted_kind(one, decides) - (not has_good)] += 1
    total = int(confusion.sum())
    if not total or (has_good and not confusion[1:].any()):
        return None
    hits = confusion.diagonal()
    true_counts, predicted_counts = confusion.sum(axis=1), confusion.sum(axis=0)
    low, high = _balanced_accuracy_interval(hits, true_counts, seed)
    return Classification(
        names=names,
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        classes=tuple(
            KindMetrics(
                name,
                int(true_counts[i]),
                estimate_rate(int(hits[i]), int(true_counts[i])),
                estimate_rate(int(hits[i]), int(predicted_counts[i])),
            )
            for i, name in enumerate(names)
        ),
        accuracy=estimate_rate(int(hits.sum()), total),
        balanced_accuracy=mean_recall(hits, true_counts),
        balanced_accuracy_low=low,
        balanced_accuracy_high=high,
        several_kinds=several,
        unknown_kind=unknown,
        good_left_out=good_left_out,
    )


def mean_recall(hits: NDArray[np.int64], totals: NDArray[np.int64]) -> float | None:
    """Return the balanced accuracy: the mean recall of the classes with an image.

    Args:
        hits: By class, the images that are recognised.
        totals: By class, all images.

    Returns:
        None without any image.
    """
    present = totals > 0
    return float(np.mean(hits[present] / totals[present])) if present.any() else None


def predicted_kind(result: FrameResult, decides: Decides) -> int:
    """Return the most probable class of an image: 0 for good, else 1 and up for the kinds."""
    best = int(np.argmax(result.kind_probs))
    if decides is Decides.DEFECTS and 1 - (result.prob or 0.0) >= result.kind_probs[best]:
        return 0
    return best + 1


def _balanced_accuracy_interval(
    hits: NDArray[np.int64], totals: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """Return the 95 % interval of the mean recall; wide even where every image is right."""
    present = totals > 0
    rng = np.random.default_rng(seed)
    right, wrong = hits[present], (totals - hits)[present]
    draws = rng.beta(right + 0.5, wrong + 0.5, (_DRAWS, int(present.sum()))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    best = mean_recall(hits, totals)
    assert best is not None
    return min(float(low), best), max(float(high), best)
