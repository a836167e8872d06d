"""Whole lines with threads, and everything that can go wrong on them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain.verdict import Decision, Reason
from edgeinspect.errors import CameraLostError, EngineFault, SpoolError
from tests.faults.harness import RunningLine, wait_for


def test_every_verdict_is_received_once_in_order(tmp_path: Path) -> None:
    running = RunningLine(tmp_path)
    counts = running.run()
    assert counts.captured == 200
    assert [verdict.seq for verdict in running.verdicts] == list(range(1, 201))
    assert not running.failures


def test_two_workers_inspect_in_parallel_and_verdicts_stay_in_order(tmp_path: Path) -> None:
    """Every frame waits for a partner: one worker alone would never get past the first."""
    together = threading.Barrier(2)
    running = RunningLine(
        tmp_path,
        workers=2,
        budget_ms=10_000,
        capture="{ring_slots: 16, overload: block}",
        take_time=lambda: meet(together),
    )
    counts = running.run()
    assert not running.failures
    assert counts.passed == counts.captured == 200
    assert [verdict.seq for verdict in running.verdicts] == list(range(1, 201))
    assert min(engine.call_count for engine in running.engines) >= 100


def meet(together: threading.Barrier) -> None:
    if threading.current_thread().name.startswith("inspect"):  # not while warming up
        together.wait(20)


def test_engine_that_hangs_delays_no_verdict(tmp_path: Path) -> None:
    hung = threading.Event()
    running = RunningLine(tmp_path, frames=300, rate_hz=100, capture="{ring_slots: 16}")

    def hang_once() -> None:
        if running.camera.sent_count > 20 and not hung.is_set():
            hung.set()
            time.sleep(1.5)

    running.engine._take_time = hang_once
    counts = running.run()
    assert counts.reasons["deadline"] >= 100
    assert counts.late >= 1
    assert counts.passed > 50, "the line must go on after the hang"
    late = {verdict.seq for verdict in running.line.closer.late_verdicts}
    for verdict in running.verdicts:
        if verdict.seq in late:
            assert verdict.decision is Decision.NO_VERDICT


def test_engine_that_fails_gives_no_verdict_and_goes_on(tmp_path: Path) -> None:
    running = RunningLine(tmp_path)
    outputs = running.engine._outputs

    def fail_sometimes(image: np.ndarray) -> tuple[np.ndarray, ...]:
        if running.engine.call_count % 5 == 0:
            raise EngineFault("device lost", where="gpu 0")
        return outputs(image)

    running.engine._outputs = fail_sometimes
    counts = running.run()
    assert counts.reasons["engine_error"] >= 20
    assert counts.passed >= 100
    details = {v.detail for v in running.verdicts if v.reason is Reason.ENGINE_ERROR}
    assert details == {"gpu 0: device lost"}


@pytest.mark.parametrize("overload", ["drop_oldest", "drop_newest"])
def test_ten_times_overload_keeps_the_counters_balanced_and_the_deadlines(
    tmp_path: Path, overload: str
) -> None:
    running = RunningLine(
        tmp_path,
        rate_hz=500,
        frames=1000,
        capture=f"{{overload: {overload}, ring_slots: 4}}",
        take_time=lambda: time.sleep(0.02),
    )
    counts = running.run()
    assert counts.reasons["overrun"] > 500
    assert counts.passed > 20
    assert running.line.rings["top"].free_slots == 4


def test_block_makes_the_camera_wait_and_drops_nothing(tmp_path: Path) -> None:
    running = RunningLine(
        tmp_path,
        rate_hz=2000,
        frames=300,
        budget_ms=5000,
        capture="{overload: block, ring_slots: 2}",
        take_time=lambda: time.sleep(0.002),
    )
    counts = running.run()
    assert counts.passed == 300


def test_camera_that_comes_back(tmp_path: Path) -> None:
    running = RunningLine(
        tmp_path, frames=200, capture="{reconnect: {attempts: 0, first_ms: 20, max_ms: 50}}"
    )
    running.line.start()
    wait_for(lambda: running.camera.sent_count > 40)
    running.camera.is_plugged = False
    wait_for(lambda: running.line.capture_threads[0].state == "lost")
    wait_for(lambda: "is lost" in running.line.alarms.text)
    running.camera.is_plugged = True
    assert running.ended.wait(30)
    assert running.stop().captured == 200


def test_camera_that_stays_lost_ends_the_line_with_all_frames_closed(tmp_path: Path) -> None:
    running = RunningLine(tmp_path, frames=200, capture="{reconnect: {attempts: 2, first_ms: 5}}")
    running.line.start()
    wait_for(lambda: running.camera.sent_count > 40)
    running.camera.is_plugged = False
    assert running.ended.wait(30)
    assert isinstance(running.failures[0], CameraLostError)
    counts = running.stop()
    assert counts.captured == len(running.verdicts)


def test_wrong_sizes_are_verdicts_unless_they_are_letterboxed(tmp_path: Path) -> None:
    running = RunningLine(tmp_path / "a", frames=40)
    running.camera.shape = (17, 5, 1)
    assert running.run().reasons == {"shape": 40}
    running = RunningLine(tmp_path / "b", frames=40, capture="{wrong_shape: letterbox}")
    running.camera.shape = (17, 5, 1)
    assert running.run().passed == 40
    assert all(verdict.letterbox for verdict in running.verdicts)


def test_stop_in_the_middle_closes_every_frame(tmp_path: Path) -> None:
    running = RunningLine(
        tmp_path, frames=100_000, rate_hz=400, budget_ms=2_000, take_time=lambda: time.sleep(0.05)
    )
    running.line.start()
    wait_for(lambda: running.camera.sent_count > 50)
    counts = running.stop()
    assert counts.captured == len(running.verdicts)


def test_restart_counts_on_and_a_second_daemon_is_refused(tmp_path: Path) -> None:
    first = RunningLine(tmp_path, frames=30)
    with pytest.raises(SpoolError, match="runs already"):
        RunningLine(tmp_path)
    first.run()
    second = RunningLine(tmp_path, frames=30)
    second.run()
    assert [verdict.seq for verdict in second.verdicts][-30:] == list(range(31, 61))
    assert second.line.spool.epoch > first.line.spool.epoch


def test_damaged_spool_is_quarantined_and_the_line_runs(tmp_path: Path) -> None:
    first = RunningLine(tmp_path, frames=30)
    first.run()
    path = tmp_path / "rig.spool"
    data = bytearray(path.read_bytes())
    data[0:16] = b"\xff" * 16
    path.write_bytes(data)
    second = RunningLine(tmp_path, frames=30)
    assert second.line.spool.quarantined is not None
    second.run()
    assert second.line.spool.last_seq == 60


def test_memory_is_flat_under_overload(tmp_path: Path) -> None:
    running = RunningLine(
        tmp_path,
        rate_hz=1000,
        frames=4000,
        capture="{ring_slots: 4}",
        take_time=lambda: time.sleep(0.01),
    )
    running.line.start()
    wait_for(lambda: running.camera.sent_count > 1000)
    early = resident_bytes() - verdict_bytes(running)
    assert running.ended.wait(60)
    late = resident_bytes() - verdict_bytes(running)
    running.stop()
    assert late - early < 20 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def verdict_bytes(running: RunningLine) -> int:
    """Memory of the verdicts that the test holds."""
    return 2_000 * len(running.verdicts)
