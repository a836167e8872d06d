"""Decides by measurement whether good parts lie in any orientation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgeinspect.learning.train.anomaly.anomaly_map import AnomalyMap, image_score
from edgeinspect.learning.train.anomaly.feature_runner import FeatureRunner
from edgeinspect.learning.train.anomaly.good_cells import collect_good_cells

MAX_IMAGES = 60
"""More good images show by themselves how parts lie. On 320 images of turned screws the other
orientations took entries from the rest, and the AUC fell from 0.988 to 0.978."""
_LEAST_GAIN = 0.01
"""Share by which the scores must fall: turned images take entries from the others."""


@dataclass(frozen=True, slots=True)
class TurnedDecision:
    """Whether the bank learns the images in their other orientations too, and why."""

    is_turned: bool
    plain_score: float | None
    """Mean score of held-out good images with the images as they are; None if not measured."""
    turned_score: float | None
    """The same with other orientations."""

    def to_document(self) -> dict[str, Any]:
        """Return what the manifest says."""
        return {
            "used": self.is_turned,
            "held_out_score": None if self.plain_score is None else round(self.plain_score, 4),
            "held_out_score_turned": None
            if self.turned_score is None
            else round(self.turned_score, 4),
        }


def decide_turned(
    runner: FeatureRunner,
    images: list[int],
    entries: int,
    wanted: bool | None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> TurnedDecision:
    """Decide whether other orientations of good images lower the scores of those held out.

    Half of the images are scored by banks of the other half, of the same number of entries.

    Args:
        runner: Of the images.
        images: Numbers of the good images.
        entries: Of each bank.
        wanted: The user's decision; None to measure.
        on_progress: Called with done and total.
    """
    if wanted is not None or len(images) > MAX_IMAGES:
        return TurnedDecision(bool(wanted), None, None)
    learned, scored = images[::2], images[1::2]
    means = []
    for turned in (False, True):
        before = len(learned) * turned
        cells = collect_good_cells(
            runner,
            learned,
            turned=turned,
            on_image=lambda done, before=before: on_progress(  # type: ignore[misc]
                before + done, 2 * len(learned)
            ),
        )
        means.append(_mean_score(runner, cells.build_map(entries), scored))
    return TurnedDecision(means[1] < means[0] * (1 - _LEAST_GAIN), means[0], means[1])


def _mean_score(runner: FeatureRunner, anomaly_map: AnomalyMap, images: list[int]) -> float:
    with torch.no_grad():
        scores = [float(image_score(anomaly_map(*runner.of_image(number)))) for number in images]
    return float(np.mean(scores))
