"""Quantiles, misses and predictions of a bench's samples."""

from __future__ import annotations

import numpy as np

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
    assert found.latency.frames == 3, "a frame without inference has no latency of the line"


def test_quantiles_are_values_that_occurred() -> None:
    found = quantiles(np.arange(1, 1_001))
    assert (found.p50, found.p99, found.max) == (501, 991, 1_000)
    assert quantiles(np.array([], np.int64)).frames == 0


def test_a_sudden_slowdown_exceeds_the_prediction() -> None:
    steady = np.full(200, 10_000)
    assert count_underestimated(steady) == 0
    jump = np.concatenate([steady, np.full(3, 30_000)])
    assert count_underestimated(jump) == 3


def test_settings_become_configuration_overrides() -> None:
    assert WorkerSetting(2, 1).overrides(("gate",)) == [
        "inspect.workers=2",
        "engines.gate.threads=1",
    ]
    assert WorkerSetting(1).overrides(("gate",)) == ["inspect.workers=1"]
    assert str(WorkerSetting(2, 1)) == "2 workers of 1 thread"
    assert str(WorkerSetting(1, 0)) == "1 worker of all threads"


def test_the_realtime_options_are_measured_one_by_one_and_together() -> None:
    assert list(realtime_variants()) == ["none", "fifo", "memory", "affinity", "all"]
