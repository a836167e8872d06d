"""Histograms against numpy, and the estimate that weighs a stage against the budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.latency import LatencyEstimate, LatencyHistogram


@given(st.lists(st.integers(0, 10_000_000), min_size=1, max_size=300))
def test_quantiles_are_within_one_part_in_64(values: list[int]) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record(value)
    for ratio in (0.5, 0.9, 0.99):
        exact = int(np.quantile(values, ratio, method="inverted_cdf"))
        got = histogram.quantile_us(ratio)
        assert exact <= got <= exact + exact // 64 + 1
    assert histogram.quantile_us(1.0) == histogram.max_us == max(values)
    assert histogram.count == len(values)
    assert histogram.total_us == sum(values)


def test_empty_and_negative() -> None:
    histogram = LatencyHistogram()
    assert histogram.summary() == {"p50": 0, "p99": 0, "p999": 0, "max": 0}
    histogram.record(-5)
    assert histogram.quantile_us(0.5) == 0
    assert histogram.count == 1


def test_values_beyond_the_last_bucket_are_kept_as_the_maximum() -> None:
    histogram = LatencyHistogram()
    histogram.record(1 << 60)
    assert histogram.quantile_us(0.5) == 1 << 60 or histogram.max_us == 1 << 60


def test_one_outlier_never_counts() -> None:
    for count in (2, 10, 128):
        estimate = LatencyEstimate()
        for _ in range(count):
            estimate.add(5_000)
        estimate.add(4_000_000_000)
        assert (estimate.p50_ns, estimate.p99_ns) == (5_000, 5_000)


def test_estimate_follows_and_decays() -> None:
    estimate = LatencyEstimate()
    assert estimate.p99_ns == 0
    for value in range(1, 129):
        estimate.add(value * 1000)
    assert estimate.p99_ns == pytest.approx(127_000, abs=1_000)
    assert estimate.p50_ns == pytest.approx(64_000, abs=1_000)
    before = estimate.p99_ns
    estimate.decay()
    assert estimate.p99_ns < before
    for _ in range(200):
        estimate.add(10)
    assert estimate.p99_ns == 10
