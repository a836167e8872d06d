"""Acceptance of an INT8 good-parts model: it must rank images as its FP32 parent does.

Good images alone can verify it: what matters is the order of the scores, because its threshold is
chosen anew from good images. A class map that is empty on good images proves nothing, and defective
images, of which there are few, add the loss of AUC.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeinspect.learning.evaluate import classifier_scores

MAX_AUC_LOSS = 0.005
MIN_RANK_CORRELATION = 0.9
MIN_FRAMES = 8
"""Fewer frames order themselves by chance."""
MAX_NOISE = 0.5
"""Deviation of the scores' change, in units of the good frames' own deviation."""


def score_units(probs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return u of p = (1 + u / (1 + |u|)) / 2: the scale on which a good-parts score is linear."""
    centred = np.clip(2 * np.asarray(probs, np.float64) - 1, -1 + 1e-9, 1 - 1e-9)
    return np.asarray(centred / (1 - np.abs(centred)))


def rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return Spearman's correlation; 0 where one of them is constant."""
    ranks = [np.argsort(np.argsort(each, kind="stable"), kind="stable") for each in (a, b)]
    if min(float(np.ptp(each)) for each in (a, b)) == 0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def score_noise(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the deviation of the scores' change, in units of the deviation of `a`.

    A common shift costs nothing: the threshold moves with it.
    """
    spread = float(np.std(a))
    return float(np.std(b - a)) / spread if spread > 0 else float("inf")


CheckRow = tuple[str, float, float, bool, str]
"""The fields of an `AcceptanceCheck`."""


def good_parts_checks(
    before: NDArray[np.float64], after: NDArray[np.float64], defective: NDArray[np.bool_] | None
) -> list[CheckRow]:
    """Compare the scores of both models on the same frames.

    Args:
        before: `defect_prob` of FP32, (N,).
        after: Of INT8, (N,).
        defective: (N,); None without labels, when frames are taken as they come.
    """
    a, b = score_units(before), score_units(after)
    good = np.ones(len(a), np.bool_) if defective is None else ~defective
    rows = [_frames_check(int(good.sum()))]
    if good.sum() >= MIN_FRAMES:
        correlation, noise = rank_correlation(a[good], b[good]), score_noise(a[good], b[good])
        rows += [
            (
                "rank correlation of good frames",
                1.0,
                correlation,
                correlation >= MIN_RANK_CORRELATION,
                f"{correlation:.4f}, at least {MIN_RANK_CORRELATION:g} is required",
            ),
            (
                "change of the scores of good frames",
                0.0,
                noise,
                noise <= MAX_NOISE,
                f"{noise:.3f} of their own deviation, at most {MAX_NOISE:g} is allowed",
            ),
        ]
    if defective is not None and defective.any() and good.any():
        fp32, int8 = (classifier_scores(each, defective, (0.01,)).auc for each in (before, after))
        rows.append(
            (
                "AUC",
                fp32,
                int8,
                fp32 - int8 <= MAX_AUC_LOSS,
                f"{int8 - fp32:+.4f}, at most -{MAX_AUC_LOSS:g} is allowed",
            )
        )
    return rows


MORE_GOOD_FRAMES = (
    "Give more images of good parts that the training has not seen, 40 or more: a fifth of "
    "--images is compared, or all of --data"
)


def _frames_check(count: int) -> CheckRow:
    return (
        "good frames to compare",
        float(count),
        float(count),
        count >= MIN_FRAMES,
        f"{count}; at least {MIN_FRAMES} are needed",
    )
