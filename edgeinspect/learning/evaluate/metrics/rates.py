"""Shares with honest intervals, and the four counts of a reject decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeinspect.learning.evaluate.metrics.frame_results import FrameResult
from edgeinspect.learning.evaluate.metrics.scores import wilson_interval


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of counted pictures."""

    hits: int
    total: int
    value: float | None
    """None when there is nothing to count."""
    low: float
    """95 % interval, after Wilson 1927; (0, 1) when there is nothing to count."""
    high: float
    no_better_than: float | None
    """With 0 hits in n: 3/n, which the true rate may still be (95 %, one-sided)."""


def estimate_rate(hits: int, total: int) -> Rate:
    """`hits` of `total`."""
    low, high = wilson_interval(hits, total)
    rule = min(1.0, 3 / total) if total and not hits else None
    return Rate(hits, total, hits / total if total else None, low, high, rule)


@dataclass(frozen=True, slots=True)
class DecisionMetrics:
    """What a line with these thresholds does with these pictures."""

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
    """Rejected among the sound."""
    reasons: dict[str, int]
    """Pictures by the verdict's reason."""


def measure_decisions(results: Sequence[FrameResult]) -> DecisionMetrics:
    """Count rejects and passes of defective and of sound pictures."""
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
