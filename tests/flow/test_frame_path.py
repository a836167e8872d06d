"""A frame's path, step by step, on a manual clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain.clock import NS_PER_MS
from edgeinspect.domain.frame import Grab, Part
from edgeinspect.domain.verdict import Decision, Reason
from edgeinspect.errors import CameraLostError, EngineFault
from tests.flow.line_harness import SHAPE, LineHarness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[LineHarness]:
    line = LineHarness(tmp_path)
    yield line
    line.close()


def counts(harness: LineHarness) -> tuple[int, int, int, int, int]:
    got = harness.closer.counters.counts()
    assert got.captured == got.passed + got.reject + got.no_verdict + got.open
    return got.captured, got.passed, got.reject, got.no_verdict, got.open


def test_clean_frame_passes_and_skips_the_segmenter(harness: LineHarness) -> None:
    frame = harness.capture.accept(harness.grab(10))
    assert harness.run_worker()
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.decision, verdict.reason) == (Decision.PASS, Reason.CLEAN)
    assert harness.segmenter.call_count == 0
    assert verdict.stages.gate_us == 10_000
    assert verdict.segmenter is None
    assert harness.ring.free_slots == harness.ring.slots


def test_suspect_frame_with_a_large_region_is_rejected(harness: LineHarness) -> None:
    grab = harness.grab(180)
    assert grab.pixels is not None
    grab.pixels[2:4, 3:6, 0] = 2
    frame = harness.capture.accept(grab)
    harness.run_worker()
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.decision, verdict.reason) == (Decision.REJECT, Reason.DEFECT)
    assert (verdict.reject_code, verdict.severity, verdict.regions_total) == (12, 5, 1)
    region = verdict.regions[0]
    assert (region.class_name, region.area_px, region.fatal) == ("bright", 6, True)
    assert (region.box.x_px, region.box.y_px) == (3, 2)
    assert region.area_mm2 == 1.5
    assert region.centroid_px == (4.0, 2.5)


def test_without_time_to_segment_the_gate_decides_and_the_verdict_is_degraded(
    harness: LineHarness,
) -> None:
    harness.worker.inspector.segmenter_time.add(95 * NS_PER_MS)
    low = harness.capture.accept(harness.grab(150))
    harness.run_worker()
    high = harness.capture.accept(harness.grab(200))
    harness.run_worker()
    first, second = harness.verdict(low.seq), harness.verdict(high.seq)
    assert first is not None
    assert second is not None
    assert (first.decision, first.degraded) == (Decision.PASS, True)
    assert (second.decision, second.degraded) == (Decision.REJECT, True)
    assert second.reject_code == 99
    assert harness.segmenter.call_count == 0


def test_a_degraded_line_tries_the_segmenter_again(harness: LineHarness) -> None:
    harness.worker.inspector.segmenter_time.add(500 * NS_PER_MS)
    for _ in range(200):
        harness.capture.accept(harness.grab(150))
        harness.run_worker()
    assert harness.segmenter.call_count > 0


def test_guard_closes_on_the_deadline_and_the_late_result_is_not_published(
    harness: LineHarness,
) -> None:
    frame = harness.capture.accept(harness.grab(10))
    taken = harness.frame_queue.pop_earliest()
    assert taken is frame
    harness.gate_ms = 150
    real_step = harness.guard.close_due
    original = harness.gate._take_time

    def hang() -> None:
        original()
        real_step()

    harness.gate._take_time = hang
    harness.worker.inspect(taken)
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.decision, verdict.reason) == (Decision.NO_VERDICT, Reason.DEADLINE)
    assert harness.closer.counters.counts().late == 1
    assert harness.closer.late_verdicts[0].decision is Decision.PASS
    assert counts(harness) == (1, 0, 0, 1, 0)
    assert harness.ring.free_slots == harness.ring.slots


def test_waiting_frame_past_its_deadline_releases_its_slot(harness: LineHarness) -> None:
    harness.capture.accept(harness.grab(10))
    assert harness.ring.free_slots == 3
    assert harness.guard.close_due() == harness.clock.now_ns() + 100 * NS_PER_MS
    harness.clock.advance(100 * NS_PER_MS)
    harness.guard.close_due()
    assert harness.ring.free_slots == 4
    assert counts(harness) == (1, 0, 0, 1, 0)
    assert not harness.run_worker()


@pytest.mark.parametrize(
    ("overload", "survivors"), [("drop_oldest", [3, 4, 5, 6]), ("drop_newest", [1, 2, 3, 4])]
)
def test_overload_policies_close_the_frame_that_they_drop(
    tmp_path: Path, overload: str, survivors: list[int]
) -> None:
    harness = LineHarness(tmp_path, overload=overload)
    frames = [harness.capture.accept(harness.grab(1)) for _ in range(6)]
    inspected = []
    while harness.run_worker():
        pass
    for frame in frames:
        verdict = harness.verdict(frame.seq)
        assert verdict is not None
        if verdict.reason is Reason.OVERRUN:
            assert verdict.decision is Decision.NO_VERDICT
        else:
            inspected.append(frame.seq)
    assert inspected == survivors
    harness.close()


def test_wrong_shape_is_a_verdict_not_a_crash(harness: LineHarness) -> None:
    for shape in [(8, 17, 1), (1, 1, 1), (8, 16, 3), (0, 16, 1), (8, 16)]:
        frame = harness.capture.accept(harness.grab(1, shape))
        verdict = harness.verdict(frame.seq)
        assert verdict is not None
        assert verdict.reason is Reason.SHAPE
    assert harness.ring.free_slots == harness.ring.slots


def test_letterbox_fits_other_sizes_and_is_in_the_verdict(tmp_path: Path) -> None:
    harness = LineHarness(tmp_path, letterbox=True)
    frame = harness.capture.accept(harness.grab(0, (32, 32, 1)))
    harness.run_worker()
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert verdict.letterbox is not None
    assert (verdict.letterbox.scale_ratio, verdict.letterbox.left_px) == (0.25, 4)
    harness.close()


def test_unreadable_image_is_a_capture_error(harness: LineHarness) -> None:
    frame = harness.capture.accept(
        Grab(None, 1, harness.clock.now_ns(), problem="is not a picture")
    )
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.reason, verdict.detail) == (Reason.CAPTURE_ERROR, "is not a picture")


def test_engine_fault_and_nan_are_no_verdicts(harness: LineHarness) -> None:
    def fail(_image: object) -> tuple[np.ndarray, ...]:
        raise EngineFault("device lost", where="gate")

    harness.gate._outputs = fail
    first = harness.capture.accept(harness.grab(1))
    harness.run_worker()
    harness.gate._outputs = lambda image: (np.array([np.nan], np.float32),)
    second = harness.capture.accept(harness.grab(1))
    harness.run_worker()
    for frame in (first, second):
        verdict = harness.verdict(frame.seq)
        assert verdict is not None
        assert verdict.reason is Reason.ENGINE_ERROR
        assert verdict.detail
    assert harness.ring.free_slots == harness.ring.slots


def test_part_and_encoder_travel_with_the_verdict(harness: LineHarness) -> None:
    grab = harness.grab(1)
    part = Part("plate-7", 5_000, True)
    frame = harness.capture.accept(
        Grab(grab.pixels, grab.camera_frame_id, grab.captured_at_ns, part)
    )
    harness.run_worker()
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.part_id, verdict.encoder_count, verdict.act_by_encoder) == (
        "plate-7",
        5_000,
        6_000,
    )
    assert verdict.simulated
    assert verdict.act_by_utc_ns == verdict.deadline_utc_ns


def test_shutdown_closes_what_is_open(harness: LineHarness) -> None:
    for _ in range(3):
        harness.capture.accept(harness.grab(1))
    assert harness.guard.close_all(Reason.SHUTDOWN) == 3
    assert counts(harness) == (3, 0, 0, 3, 0)
    assert harness.ring.free_slots == harness.ring.slots


def test_spool_full_of_open_frames_closes_the_oldest(tmp_path: Path) -> None:
    harness = LineHarness(tmp_path, slots=2, overload="drop_newest", spool_slots=64)
    harness.worker.inspect = lambda frame: None  # type: ignore[method-assign]
    first = harness.capture.accept(harness.grab(1))
    for _ in range(64):
        harness.capture.accept(harness.grab(1))
    assert harness.verdict(first.seq) is None  # overwritten, but counted
    assert harness.closer.counters.counts().reasons == {"overrun": 63}
    assert counts(harness)[-1] == 2  # the second, and the one that took the first one's slot
    harness.close()


def test_lost_camera_is_retried_until_the_attempts_end(tmp_path: Path) -> None:
    lost = CameraLostError("unplugged", where="cam")
    harness = LineHarness(tmp_path, script=[lost, lost, lost, lost], attempts=2)
    harness.capture.run()
    assert harness.camera.open_count == 3
    assert harness.capture.error is lost
    assert harness.capture.state == "lost"
    harness.close()


def test_camera_that_returns_starts_counting_again(tmp_path: Path) -> None:
    lost = CameraLostError("unplugged", where="cam")
    harness = LineHarness(tmp_path, attempts=1)
    harness.camera._script = [lost, harness.grab(1), lost, harness.grab(1), lost, harness.grab(1)]
    harness.capture.run()
    assert harness.capture.error is None
    assert harness.capture.state == "finished"
    assert harness.closer.counters.counts().captured == 3
    assert harness.camera.leased_count == 0
    harness.close()


def test_silent_free_running_camera_counts_as_lost(tmp_path: Path) -> None:
    harness = LineHarness(tmp_path, attempts=1)

    class Mute(type(harness.camera)):  # type: ignore[misc]
        def grab(self, timeout_ns: int) -> Grab | None:
            harness.clock.advance(timeout_ns)
            return None

    harness.capture.camera = harness.capture.grab_monitor._camera = Mute([], period_ns=NS_PER_MS)
    harness.capture.run()
    assert harness.capture.error is not None
    assert "no frame for" in harness.capture.error.what
    harness.close()


def test_frame_that_cannot_be_ready_in_time_is_not_started(harness: LineHarness) -> None:
    harness.worker.inspector.gate_time.add(50 * NS_PER_MS)
    frame = harness.capture.accept(harness.grab(1))
    harness.clock.advance(60 * NS_PER_MS)
    harness.run_worker()
    verdict = harness.verdict(frame.seq)
    assert verdict is not None
    assert verdict.reason is Reason.DEADLINE
    assert "not started" in verdict.detail
    assert harness.gate.call_count == 0


def test_pixels_reach_the_engine_unchanged(harness: LineHarness) -> None:
    grab = harness.grab(1)
    assert grab.pixels is not None
    grab.pixels[:] = np.random.default_rng(1).integers(0, 100, SHAPE.dims, np.uint8)
    want = grab.pixels.copy()
    seen: list[np.ndarray] = []
    outputs = harness.gate._outputs
    harness.gate._outputs = lambda image: (seen.append(image.copy()), outputs(image))[1]
    harness.capture.accept(grab)
    harness.run_worker()
    assert np.array_equal(seen[0], want)


def test_missed_challenge_part_is_remembered_until_one_is_rejected(
    harness: LineHarness,
) -> None:
    harness.capture.inject_challenge(np.zeros(SHAPE.dims, np.uint8), "known-bad.png")
    harness.capture.accept(harness.capture._challenge_grab(*harness.capture._challenges.popleft()))
    harness.run_worker()
    verdict = harness.verdict(1)
    assert verdict is not None
    assert (verdict.simulated, verdict.part_id) == (True, "challenge:known-bad.png")
    assert harness.closer.missed_challenge == "known-bad.png"
    seen = np.zeros(SHAPE.dims, np.uint8)
    seen[0, 0] = 250
    harness.capture.inject_challenge(seen, "known-bad.png")
    harness.capture.accept(harness.capture._challenge_grab(*harness.capture._challenges.popleft()))
    harness.run_worker()
    assert harness.closer.missed_challenge == ""


def test_a_step_of_the_camera_s_count_is_lost_frames(harness: LineHarness) -> None:
    harness.capture.accept(harness.grab(1))
    harness.frame_id += 3
    harness.capture.accept(harness.grab(1))
    while harness.run_worker():
        pass
    got = [harness.verdict(seq) for seq in range(1, 6)]
    assert [v.camera_frame_id for v in got if v] == [1, 2, 3, 4, 5]
    assert [v.reason for v in got if v][1:4] == [Reason.CAPTURE_LOST] * 3
    assert counts(harness) == (5, 2, 0, 3, 0)


def test_guard_keeps_a_deadline_that_came_late_but_is_earlier(harness: LineHarness) -> None:
    first = harness.capture.accept(harness.grab(1))
    now = harness.clock.now_ns()
    grab = harness.grab(1)
    second = harness.capture.accept(Grab(grab.pixels, 2, now - 60 * NS_PER_MS))
    assert harness.guard.close_due() == second.deadline_ns < first.deadline_ns
    harness.clock.advance(50 * NS_PER_MS)
    harness.guard.close_due()
    assert harness.verdict(second.seq) is not None
    assert harness.verdict(first.seq) is None
