"""Decides by measurement how cells are compared, once there are defective images to measure with.

No one way is best for all parts: on magnetic tiles a lower limit of the features gains 0.04 AUC,
on turned screws it costs 0.01. From good images alone this cannot be known, so that those have
the default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeinspect.learning.evaluate import classifier_scores
from edgeinspect.learning.train.anomaly.anomaly_map import AnomalyMap, image_score
from edgeinspect.learning.train.anomaly.cell_features import CellMethod
from edgeinspect.learning.train.anomaly.feature_runner import FeatureRunner
from edgeinspect.learning.train.anomaly.good_cells import collect_good_cells

METHODS = (
    CellMethod(),
    CellMethod(limit=2.0),
    CellMethod(has_position=True),
    CellMethod(limit=2.0, has_position=True),
    CellMethod(limit=1.5, has_position=True),
)
"""The default first."""
MIN_DEFECTIVE = 8
"""Fewer defective images do not tell methods apart."""
_MAX_DEFECTIVE = 60
_MAX_GOOD = 200
_MAX_ENTRIES = 2000
"""Of the banks that are compared: a choice of more takes seconds, and ranks methods alike."""
_LEAST_GAIN = 0.01
"""AUC by which another method must be better than the default."""


@dataclass(frozen=True, slots=True)
class MethodDecision:
    """The method of comparison, and why."""

    method: CellMethod
    aucs: tuple[float, ...] = ()
    """Of `METHODS`, on held-out good and on defective images; empty if not measured."""
    defective: int = 0
    """Number of defective images that it was measured with."""

    def to_document(self) -> dict[str, Any]:
        """Return what the manifest says."""
        document: dict[str, Any] = {"used": self.method.name}
        if self.aucs:
            named = zip(METHODS, self.aucs, strict=True)
            document["auc"] = {method.name: round(auc, 4) for method, auc in named}
            document["defective"] = self.defective
        return document


def decide_method(
    runner: FeatureRunner,
    images: Sequence[int],
    defective: Sequence[NDArray[np.uint8]],
    entries: int,
    *,
    turned: bool,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> MethodDecision:
    """Decide which method tells defective images best from good ones that the bank lacks.

    Half of the good images are learned, the others are scored.

    Args:
        runner: Of the good images.
        images: Numbers of the good images.
        defective: Frames uint8 (H, W, C), not of the test split.
        entries: Of the final bank; those that are compared have at most `_MAX_ENTRIES`.
        turned: Learn each image in its other orientations too.
        on_progress: Called with done and total.
    """
    if len(defective) < MIN_DEFECTIVE or len(images) < 2 * MIN_DEFECTIVE:
        return MethodDecision(METHODS[0])
    few = images[:: -(-len(images) // _MAX_GOOD)]
    learned, scored = few[::2], few[1::2]
    step = -(-len(defective) // _MAX_DEFECTIVE)
    faulty = [runner.of_frame(frame) for frame in defective[::step]]
    is_defective = np.array([False] * len(scored) + [True] * len(faulty))
    aucs = []
    for done, method in enumerate(METHODS):
        on_progress(done, len(METHODS))
        cells = collect_good_cells(runner, list(learned), method=method, turned=turned)
        anomaly_map = cells.build_map(min(entries, _MAX_ENTRIES))
        good = [_score(anomaly_map, *runner.of_image(number)) for number in scored]
        bad = [_score(anomaly_map, *features) for features in faulty]
        aucs.append(classifier_scores(np.array(good + bad), is_defective, ()).auc)
    on_progress(len(METHODS), len(METHODS))
    best = int(np.argmax(aucs))
    if aucs[best] < aucs[0] + _LEAST_GAIN:
        best = 0
    return MethodDecision(METHODS[best], tuple(aucs), len(faulty))


def _score(anomaly_map: AnomalyMap, features: Tensor, inside: Tensor) -> float:
    with torch.no_grad():
        return float(image_score(anomaly_map(features, inside)))
