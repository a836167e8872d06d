"""Mapping the camera's clock: within the least delay, and never after the arrival."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.cameras._genicam.clock_sync import ClockSynchronizer, lower_hull
from edgeinspect.cameras._genicam.device import WrappingCounter
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S

LEAST_NS = 300_000


@settings(max_examples=15, deadline=None)
@given(
    st.floats(-100, 100),
    st.integers(0, 1 << 50),
    st.integers(0, 1 << 50),
    st.integers(0, 1 << 30),
)
def test_drift_and_delay_are_removed(
    drift_ppm: float, camera_zero_ns: int, host_zero_ns: int, seed: int
) -> None:
    """50 frames per second for 40 s; delays of 0.3 ms and an exponential tail of 2 ms."""
    rng = random.Random(seed)
    sync = ClockSynchronizer()
    last_ns, errors_ns = 0, []
    for frame in range(2_000):
        elapsed_ns = frame * 20 * NS_PER_MS
        exposed_ns = host_zero_ns + elapsed_ns
        stamp_ns = camera_zero_ns + round(elapsed_ns * (1 - drift_ppm * 1e-6))
        arrived_ns = exposed_ns + LEAST_NS + round(rng.expovariate(1 / 2e6))
        mapped_ns = sync.map_timestamp(stamp_ns, arrived_ns)
        assert last_ns <= mapped_ns <= arrived_ns
        last_ns = mapped_ns
        if frame >= 500:
            errors_ns.append(mapped_ns - exposed_ns)
    errors_ns.sort()
    assert errors_ns[0] > -NS_PER_MS  # tolerance of the trigger matching
    assert errors_ns[len(errors_ns) // 2] < LEAST_NS + NS_PER_MS // 2
    assert errors_ns[-1] < LEAST_NS + 2 * NS_PER_MS
    assert abs(sync.drift_ppm - drift_ppm) < 40
    assert sync.reset_count == 0


def test_a_clock_jump_resets_the_mapping() -> None:
    sync = ClockSynchronizer()
    for frame in range(200):
        sync.map_timestamp(frame * 20 * NS_PER_MS, NS_PER_S + frame * 20 * NS_PER_MS)
    arrived_ns = NS_PER_S + 200 * 20 * NS_PER_MS
    for stamp_ns in (5, 20 * NS_PER_MS, 3_600 * NS_PER_S):  # restart, and a step by PTP
        arrived_ns += 20 * NS_PER_MS
        assert 0 <= arrived_ns - sync.map_timestamp(stamp_ns, arrived_ns) < 1_000
    assert sync.reset_count == 2


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=50))
def test_the_hull_is_below_every_point(heights: list[int]) -> None:
    points = list(enumerate(heights))
    hull = lower_hull(points)
    assert hull[0] == points[0]
    assert hull[-1] == points[-1]
    for (x0, y0), (x1, y1) in pairwise(hull):
        for x, y in points[x0 : x1 + 1]:
            assert (y - y0) * (x1 - x0) >= (y1 - y0) * (x - x0)


@given(st.integers(0, 65_534), st.lists(st.integers(1, 30_000), max_size=60), st.booleans())
def test_a_wrapping_counter_is_continued(start: int, steps: list[int], wraps: bool) -> None:
    count = WrappingCounter(65_535 if wraps else 0)
    true = start + 1
    first = count.unwrap(true)
    for step in steps:
        true += step
        wire = (true - 1) % 65_535 + 1 if wraps else true
        assert count.unwrap(wire) - first == true - start - 1
    # A frame out of order keeps its id.
    if len(steps) >= 1:
        wire = (true - steps[-1] - 1) % 65_535 + 1 if wraps else true - steps[-1]
        assert count.unwrap(wire) - first == true - steps[-1] - start - 1
