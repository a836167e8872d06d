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
def bench(tmp_path: Path) -> Iterator[LineHarness]:
    line = LineHarness(tmp_path)
    yield line
    line.close()


def counts(bench: LineHarness) -> tuple[int, int, int, int, int]:
    got = bench.closer.counters.counts()
    assert got.captured == got.passed + got.reject + got.no_verdict + got.open
    return got.captured, got.passed, got.reject, got.no_verdict, got.open


def test_clean_frame_passes_and_skips_the_segmenter(bench: LineHarness) -> None:
    frame = bench.capture.accept(bench.grab(10))
    assert bench.run_worker()
    verdict = bench.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.decision, verdict.reason) == (Decision.PASS, Reason.CLEAN)
    assert bench.segmenter.call_count == 0
    assert verdict.stages.gate_us == 10_000
    assert verdict.segmenter is None
    assert bench.ring.free_slots == bench.ring.slots


def test_suspect_frame_with_a_large_region_is_rejected(bench: LineHarness) -> None:
    grab = bench.grab(180)
    assert grab.pixels is not None
    grab.pixels[2:4, 3:6, 0] = 2
    frame = bench.capture.accept(grab)
    bench.run_worker()
    verdict = bench.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.decision, verdict.reason) == (Decision.REJECT, Reason.DEFECT)
    assert (verdict.reject_code, verdict.severity, verdict.regions_total) == (12, 5, 1)
    region = verdict.regions[0]
    assert (region.class_name, region.area_px, region.fatal) == ("bright", 6, True)
    assert (region.box.x_px, region.box.y_px) == (3, 2)
    assert region.area_mm2 == 1.5
    assert region.centroid_px == (4.0, 2.5)


def test_without_time_to_segment_the_gate_decides_and_says_so(bench: LineHarness) -> None:
    bench.worker.inspector.segmenter_time.add(95 * NS_PER_MS)
    low = bench.capture.accept(bench.grab(150))
    bench.run_worker()
    high = bench.capture.accept(bench.grab(200))
    bench.run_worker()
    first, second = bench.verdict(low.seq), bench.verdict(high.seq)
    assert first is not None
    assert second is not None
    assert (first.decision, first.degraded) == (Decision.PASS, True)
    assert (second.decision, second.degraded) == (Decision.REJECT, True)
    assert second.reject_code == 99
    assert bench.segmenter.call_count == 0


def test_a_degraded_line_tries_the_segmenter_again(bench: LineHarness) -> None:
    bench.worker.inspector.segmenter_time.add(500 * NS_PER_MS)
    for _ in range(200):
        bench.capture.accept(bench.grab(150))
        bench.run_worker()
    assert bench.segmenter.call_count > 0


def test_guard_closes_on_the_deadline_and_the_late_result_is_not_published(
    bench: LineHarness,
) -> None:
    frame = bench.capture.accept(bench.grab(10))
    taken = bench.frame_queue.pop_earliest()
    assert taken is frame
    bench.gate_ms = 150
    real_step = bench.guard.close_due
    original = bench.gate._take_time

    def hang() -> None:
        original()
        real_step()

    bench.gate._take_time = hang
    bench.worker.inspect(taken)
    verdict = bench.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.decision, verdict.reason) == (Decision.NO_VERDICT, Reason.DEADLINE)
    assert bench.closer.counters.counts().late == 1
    assert bench.closer.late_verdicts[0].decision is Decision.PASS
    assert counts(bench) == (1, 0, 0, 1, 0)
    assert bench.ring.free_slots == bench.ring.slots


def test_waiting_frame_past_its_deadline_gives_its_slot_back(bench: LineHarness) -> None:
    bench.capture.accept(bench.grab(10))
    assert bench.ring.free_slots == 3
    assert bench.guard.close_due() == bench.clock.now_ns() + 100 * NS_PER_MS
    bench.clock.advance(100 * NS_PER_MS)
    bench.guard.close_due()
    assert bench.ring.free_slots == 4
    assert counts(bench) == (1, 0, 0, 1, 0)
    assert not bench.run_worker()


@pytest.mark.parametrize(
    ("overload", "survivors"), [("drop_oldest", [3, 4, 5, 6]), ("drop_newest", [1, 2, 3, 4])]
)
def test_overload_policies_close_whom_they_drop(
    tmp_path: Path, overload: str, survivors: list[int]
) -> None:
    bench = LineHarness(tmp_path, overload=overload)
    frames = [bench.capture.accept(bench.grab(1)) for _ in range(6)]
    judged = []
    while bench.run_worker():
        pass
    for frame in frames:
        verdict = bench.verdict(frame.seq)
        assert verdict is not None
        if verdict.reason is Reason.OVERRUN:
            assert verdict.decision is Decision.NO_VERDICT
        else:
            judged.append(frame.seq)
    assert judged == survivors
    bench.close()


def test_wrong_shape_is_a_verdict_not_a_crash(bench: LineHarness) -> None:
    for shape in [(8, 17, 1), (1, 1, 1), (8, 16, 3), (0, 16, 1), (8, 16)]:
        frame = bench.capture.accept(bench.grab(1, shape))
        verdict = bench.verdict(frame.seq)
        assert verdict is not None
        assert verdict.reason is Reason.SHAPE
    assert bench.ring.free_slots == bench.ring.slots


def test_letterbox_fits_other_sizes_and_says_how(tmp_path: Path) -> None:
    bench = LineHarness(tmp_path, letterbox=True)
    frame = bench.capture.accept(bench.grab(0, (32, 32, 1)))
    bench.run_worker()
    verdict = bench.verdict(frame.seq)
    assert verdict is not None
    assert verdict.letterbox is not None
    assert (verdict.letterbox.scale_ratio, verdict.letterbox.left_px) == (0.25, 4)
    bench.close()


def test_unreadable_picture_is_a_capture_error(bench: LineHarness) -> None:
    frame = bench.capture.accept(Grab(None, 1, bench.clock.now_ns(), problem="is not a picture"))
    verdict = bench.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.reason, verdict.detail) == (Reason.CAPTURE_ERROR, "is not a picture")


def test_engine_fault_and_nan_are_no_verdicts(bench: LineHarness) -> None:
    def fail(_image: object) -> tuple[np.ndarray, ...]:
        raise EngineFault("device lost", where="gate")

    bench.gate._outputs = fail
    first = bench.capture.accept(bench.grab(1))
    bench.run_worker()
    bench.gate._outputs = lambda image: (np.array([np.nan], np.float32),)
    second = bench.capture.accept(bench.grab(1))
    bench.run_worker()
    for frame in (first, second):
        verdict = bench.verdict(frame.seq)
        assert verdict is not None
        assert verdict.reason is Reason.ENGINE_ERROR
        assert verdict.detail
    assert bench.ring.free_slots == bench.ring.slots


def test_part_and_encoder_travel_with_the_verdict(bench: LineHarness) -> None:
    grab = bench.grab(1)
    part = Part("plate-7", 5_000, True)
    frame = bench.capture.accept(Grab(grab.pixels, grab.camera_frame_id, grab.captured_at_ns, part))
    bench.run_worker()
    verdict = bench.verdict(frame.seq)
    assert verdict is not None
    assert (verdict.part_id, verdict.encoder_count, verdict.act_by_encoder) == (
        "plate-7",
        5_000,
        6_000,
    )
    assert verdict.simulated
    assert verdict.act_by_utc_ns == verdict.deadline_utc_ns


def test_shutdown_closes_what_is_open(bench: LineHarness) -> None:
    for _ in range(3):
        bench.capture.accept(bench.grab(1))
    assert bench.guard.close_all(Reason.SHUTDOWN) == 3
    assert counts(bench) == (3, 0, 0, 3, 0)
    assert bench.ring.free_slots == bench.ring.slots


def test_spool_full_of_open_frames_closes_the_oldest(tmp_path: Path) -> None:
    bench = LineHarness(tmp_path, slots=2, overload="drop_newest", spool_slots=64)
    bench.worker.inspect = lambda frame: None  # type: ignore[method-assign]
    first = bench.capture.accept(bench.grab(1))
    for _ in range(64):
        bench.capture.accept(bench.grab(1))
    assert bench.verdict(first.seq) is None  # overwritten in its turn, but counted
    assert bench.closer.counters.counts().reasons == {"overrun": 63}
    assert counts(bench)[-1] == 2  # the second, and the one that took the first one's slot
    bench.close()


def test_lost_camera_is_retried_and_given_up(tmp_path: Path) -> None:
    lost = CameraLostError("unplugged", where="cam")
    bench = LineHarness(tmp_path, script=[lost, lost, lost, lost], attempts=2)
    bench.capture.run()
    assert bench.camera.open_count == 3
    assert bench.capture.error is lost
    assert bench.capture.state == "lost"
    bench.close()


def test_camera_that_returns_starts_counting_again(tmp_path: Path) -> None:
    lost = CameraLostError("unplugged", where="cam")
    bench = LineHarness(tmp_path, attempts=1)
    bench.camera._script = [lost, bench.grab(1), lost, bench.grab(1), lost, bench.grab(1)]
    bench.capture.run()
    assert bench.capture.error is None
    assert bench.capture.state == "finished"
    assert bench.closer.counters.counts().captured == 3
    assert bench.camera.leased_count == 0
    bench.close()


def test_silent_free_running_camera_counts_as_lost(tmp_path: Path) -> None:
    bench = LineHarness(tmp_path, attempts=1)

    class Mute(type(bench.camera)):  # type: ignore[misc]
        def grab(self, timeout_ns: int) -> Grab | None:
            bench.clock.advance(timeout_ns)
            return None

    bench.capture.camera = bench.capture.grab_monitor._camera = Mute([], period_ns=NS_PER_MS)
    bench.capture.run()
    assert bench.capture.error is not None
    assert "no frame for" in bench.capture.error.what
    bench.close()


def test_frame_that_cannot_be_ready_in_time_is_not_started(bench: LineHarness) -> None:
    bench.worker.inspector.gate_time.add(50 * NS_PER_MS)
    frame = bench.capture.accept(bench.grab(1))
    bench.clock.advance(60 * NS_PER_MS)
    bench.run_worker()
    verdict = bench.verdict(frame.seq)
    assert verdict is not None
    assert verdict.reason is Reason.DEADLINE
    assert "not started" in verdict.detail
    assert bench.gate.call_count == 0


def test_pixels_reach_the_engine_unchanged(bench: LineHarness) -> None:
    grab = bench.grab(1)
    assert grab.pixels is not None
    grab.pixels[:] = np.random.default_rng(1).integers(0, 100, SHAPE.dims, np.uint8)
    want = grab.pixels.copy()
    seen: list[np.ndarray] = []
    outputs = bench.gate._outputs
    bench.gate._outputs = lambda image: (seen.append(image.copy()), outputs(image))[1]
    bench.capture.accept(grab)
    bench.run_worker()
    assert np.array_equal(seen[0], want)


def test_challenge_part_that_is_missed_is_remembered_until_one_is_caught(
    bench: LineHarness,
) -> None:
    bench.capture.inject_challenge(np.zeros(SHAPE.dims, np.uint8), "known-bad.png")
    bench.capture.accept(bench.capture._challenge_grab(*bench.capture._challenges.popleft()))
    bench.run_worker()
    verdict = bench.verdict(1)
    assert verdict is not None
    assert (verdict.simulated, verdict.part_id) == (True, "challenge:known-bad.png")
    assert bench.closer.missed_challenge == "known-bad.png"
    seen = np.zeros(SHAPE.dims, np.uint8)
    seen[0, 0] = 250
    bench.capture.inject_challenge(seen, "known-bad.png")
    bench.capture.accept(bench.capture._challenge_grab(*bench.capture._challenges.popleft()))
    bench.run_worker()
    assert bench.closer.missed_challenge == ""


def test_a_step_of_the_camera_s_count_is_lost_frames(bench: LineHarness) -> None:
    bench.capture.accept(bench.grab(1))
    bench.frame_id += 3
    bench.capture.accept(bench.grab(1))
    while bench.run_worker():
        pass
    got = [bench.verdict(seq) for seq in range(1, 6)]
    assert [v.camera_frame_id for v in got if v] == [1, 2, 3, 4, 5]
    assert [v.reason for v in got if v][1:4] == [Reason.CAPTURE_LOST] * 3
    assert counts(bench) == (5, 2, 0, 3, 0)


def test_guard_keeps_a_deadline_that_came_late_but_is_earlier(bench: LineHarness) -> None:
    first = bench.capture.accept(bench.grab(1))
    now = bench.clock.now_ns()
    grab = bench.grab(1)
    second = bench.capture.accept(Grab(grab.pixels, 2, now - 60 * NS_PER_MS))
    assert bench.guard.close_due() == second.deadline_ns < first.deadline_ns
    bench.clock.advance(50 * NS_PER_MS)
    bench.guard.close_due()
    assert bench.verdict(second.seq) is not None
    assert bench.verdict(first.seq) is None
