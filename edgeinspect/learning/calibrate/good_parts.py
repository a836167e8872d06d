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
_SPREADS = 0.5
"""How far a score may move, in units of the good frames' own deviation."""


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


def auc_loss(
    before: NDArray[np.float64], after: NDArray[np.float64], defective: NDArray[np.bool_]
) -> float | None:
    """Return how much AUC `after` loses; None without images of both kinds."""
    if defective.all() or not defective.any():
        return None
    first, second = (classifier_scores(each, defective, (0.01,)).auc for each in (before, after))
    return first - second
