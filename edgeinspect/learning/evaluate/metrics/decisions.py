"""Counts and rates of the reject decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.rates import Rate, estimate_rate


@dataclass(frozen=True, slots=True)
class DecisionMetrics:
    """The decisions of a line with the thresholds in force."""

    defective_rejected: int
    defective_passed: int
    sound_rejected: int
    sound_passed: int
    accuracy: Rate
    precision: Rate
    """Defective among the rejected."""
    recall: Rate
    """Rejected among the defective."""
    f1: float | None
    escape: Rate
    """Passed among the defective."""
    overkill: Rate
    """Rejected among the good."""
    reasons: dict[str, int]
    """Images by the verdict's reason."""


def measure_decisions(results: Sequence[FrameResult]) -> DecisionMetrics:
    """Count rejected and passed images, defective and good ones."""
    bad = np.array([one.is_defective for one in results], np.bool_)
    rejected = np.array([one.is_rejected for one in results], np.bool_)
    hit, missed = int((bad & rejected).sum()), int((bad & ~rejected).sum())
    over, passed = int((~bad & rejected).sum()), int((~bad & ~rejected).sum())
    counted = 2 * hit + missed + over
    return DecisionMetrics(
        defective_rejected=hit,
        defective_passed=missed,
        sound_rejected=over,
        sound_passed=passed,
        accuracy=estimate_rate(hit + passed, len(results)),
        precision=estimate_rate(hit, hit + over),
        recall=estimate_rate(hit, hit + missed),
        f1=2 * hit / counted if counted else None,
        escape=estimate_rate(missed, hit + missed),
        overkill=estimate_rate(over, over + passed),
        reasons=dict(Counter(one.reason for one in results).most_common()),
    )
