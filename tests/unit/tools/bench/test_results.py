"""Quantiles, misses and predictions of a bench's samples."""

from __future__ import annotations

import numpy as np
import pytest

from edgeinspect.errors import UsageError
from edgeinspect.tools.bench.benchmark import realtime_variants
from edgeinspect.tools.bench.measurement import NO_VERDICT, PASS, REJECT, FrameSamples
from edgeinspect.tools.bench.results import (
    WorkerSetting,
    count_underestimated,
    quantiles,
    summarise,
)


def samples() -> FrameSamples:
    """A clean pass, a rejected frame, one without a verdict, and one too late."""
    return FrameSamples(
        latency_us=np.array([4_200, 15_900, 80_000, 90_000]),
        engine_us=np.array([4_000, 15_000, 0, 89_000]),
        past_deadline_us=np.array([-70_000, -60_000, 10, 300]),
        kind=np.array([PASS, REJECT, NO_VERDICT, REJECT], np.uint8),
        segmenter_us=np.array([0, 11_000, 0, 85_000]),
    )


def test_a_frame_without_a_decision_in_time_is_a_miss() -> None:
    found = summarise(samples())
    assert found.frames == 4
    assert found.misses == 2
    assert found.overhead_clean.p50 == 200
    assert (found.overhead_reject.frames, found.overhead_reject.max) == (2, 1_000)
    assert found.latency.frames == 3, "what no engine judged has no latency of the line's own"


def test_a_spread_is_of_values_that_were_seen() -> None:
    found = quantiles(np.arange(1, 1_001))
    assert (found.p50, found.p99, found.max) == (501, 991, 1_000)
    assert quantiles(np.array([], np.int64)).frames == 0


def test_the_prediction_is_wrong_when_the_engine_suddenly_is_slower() -> None:
    steady = np.full(200, 10_000)
    assert count_underestimated(steady) == 0
    jump = np.concatenate([steady, np.full(3, 30_000)])
    assert count_underestimated(jump) == 3


def test_settings_are_what_a_configuration_says() -> None:
    assert WorkerSetting(2, 1).overrides(("gate",)) == [
        "inspect.workers=2",
        "engines.gate.threads=1",
    ]
    assert WorkerSetting(1).overrides(("gate",)) == ["inspect.workers=1"]
    assert str(WorkerSetting(2, 1)) == "2 workers of 1 thread"
    assert str(WorkerSetting(1, 0)) == "1 worker of all threads"


def test_an_unknown_option_is_refused_with_the_known() -> None:
    with pytest.raises(UsageError, match=r"no such option: turbo.*fifo"):
        realtime_variants(["turbo"])
    assert [name for name, _ in realtime_variants([])] == [
        "none",
        "fifo",
        "memory",
        "affinity",
        "all",
    ]
