"""The watchdog is fed by progress: what stands still is named, what may wait is not."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.pipeline.supervision.liveness import (
    CAMERA_OPEN_TIMEOUT_NS,
    STALL_TIMEOUT_NS,
    LivenessMonitor,
)
from edgeinspect.services.daemon import service


class FakeThreads:
    """A line's threads as `Progress` sees them; those not in `stuck` turn."""

    def __init__(self, budget_ms: int = 100, patience_ns: int = STALL_TIMEOUT_NS) -> None:
        self.clock = ManualClock()
        self.publisher = SimpleNamespace(turns=0)
        self.guard = SimpleNamespace(turns=0, overdue_ns=0)
        self.replay = SimpleNamespace(turns=0, name="replay")  # equal to no other
        self.inspector = SimpleNamespace(turns=0, working=True)
        rules = SimpleNamespace(camera="top")
        self.capture = SimpleNamespace(turns=0, state="live", rules=rules)
        self.progress = LivenessMonitor(
            capture_threads=[self.capture],  # type: ignore[list-item]
            workers=[self.inspector],  # type: ignore[list-item]
            publisher=self.publisher,  # type: ignore[arg-type]
            guard=self.guard,  # type: ignore[arg-type]
            replay_server=self.replay,  # type: ignore[arg-type]
            clock=self.clock,
            budget_ns=budget_ms * NS_PER_MS,
            heartbeat_ns=50 * NS_PER_MS,
            stall_timeout_ns=patience_ns,
        )

    def problem_after(self, for_ns: int, *stuck: Any, step_ns: int = NS_PER_S // 2) -> str:
        """What is said after so long, looked at twice a second, with some that do not turn."""
        self.progress.problem()
        found = ""
        for _ in range(for_ns // step_ns):
            self.clock.advance(step_ns)
            for one in (self.publisher, self.guard, self.replay, self.inspector, self.capture):
                if one not in stuck:
                    one.turns += 1
            found = self.progress.problem()
        return found


@pytest.mark.parametrize("name", ["publisher", "guard", "replay", "inspector", "capture"])
def test_a_thread_that_stands_still_is_named(name: str) -> None:
    threads = FakeThreads()
    assert threads.problem_after(3600 * NS_PER_S) == ""
    stuck = getattr(threads, name)
    assert threads.problem_after(STALL_TIMEOUT_NS - NS_PER_S, stuck) == ""
    found = threads.problem_after(2 * NS_PER_S, stuck)
    assert "stands still" in found
    assert found.startswith(name[:5].replace("inspe", "inspect-0").replace("captu", "capture-top"))
    assert threads.problem_after(NS_PER_S) == ""


def test_an_idle_worker_may_wait_for_ever() -> None:
    threads = FakeThreads()
    threads.inspector.working = False
    assert threads.problem_after(3600 * NS_PER_S, threads.inspector) == ""


def test_a_worker_may_take_two_budgets() -> None:
    threads = FakeThreads(budget_ms=60_000)
    assert threads.problem_after(119 * NS_PER_S, threads.inspector) == ""
    assert "inspect-0" in threads.problem_after(2 * NS_PER_S, threads.inspector)


def test_a_lost_camera_may_take_long_to_open_and_a_finished_one_is_done() -> None:
    threads = FakeThreads()
    threads.capture.state = "lost"
    assert threads.problem_after(CAMERA_OPEN_TIMEOUT_NS - NS_PER_S, threads.capture) == ""
    assert "capture-top" in threads.problem_after(2 * NS_PER_S, threads.capture)
    threads.capture.state = "finished"
    assert threads.problem_after(3600 * NS_PER_S, threads.capture) == ""


def test_a_frame_without_a_verdict_is_no_progress() -> None:
    threads = FakeThreads()
    threads.guard.overdue_ns = STALL_TIMEOUT_NS
    assert threads.progress.problem() == ""
    threads.guard.overdue_ns = STALL_TIMEOUT_NS + 1
    assert threads.progress.problem() == ""  # a process that was stopped closes it first
    assert "without a verdict" in threads.progress.problem()


def test_time_that_we_were_stopped_ourselves_is_not_held_against_the_threads() -> None:
    threads = FakeThreads()
    threads.progress.problem()
    threads.clock.advance(8 * 3600 * NS_PER_S)  # a PC that slept
    assert threads.progress.problem() == ""


def test_the_heartbeat_is_told_within_its_timeout_and_a_stop_is_not_held_against_anybody() -> None:
    timeout_ns, beat_ns = 200 * NS_PER_MS, 50 * NS_PER_MS
    threads = FakeThreads(budget_ms=50, patience_ns=timeout_ns)
    assert threads.problem_after(10 * NS_PER_S, step_ns=beat_ns) == ""
    for stuck in (threads.guard, threads.replay, threads.inspector, threads.capture):
        assert threads.problem_after(timeout_ns - beat_ns, stuck, step_ns=beat_ns) == ""
        found = threads.problem_after(4 * beat_ns, stuck, step_ns=beat_ns)
        assert "stands still" in found
        assert threads.problem_after(beat_ns, step_ns=beat_ns) == ""
        threads.clock.advance(60 * NS_PER_S)  # SIGSTOP, SIGCONT: nobody has turned yet
        assert threads.progress.problem() == ""
        assert threads.problem_after(beat_ns, step_ns=beat_ns) == ""


def test_a_camera_that_takes_long_to_open_is_told_before_it_is_restarted() -> None:
    threads = FakeThreads(patience_ns=200 * NS_PER_MS)
    threads.capture.state = "starting"
    beat_ns = 50 * NS_PER_MS
    assert threads.problem_after(4 * NS_PER_S, threads.capture, step_ns=beat_ns) == ""
    assert "capture-top" in threads.problem_after(2 * NS_PER_S, threads.capture, step_ns=beat_ns)


def test_a_slow_engine_with_a_long_budget_is_no_alarm() -> None:
    threads = FakeThreads(budget_ms=2_000, patience_ns=200 * NS_PER_MS)
    beat_ns = 50 * NS_PER_MS
    assert threads.problem_after(3_900 * NS_PER_MS, threads.inspector, step_ns=beat_ns) == ""
    assert "inspect-0" in threads.problem_after(200 * NS_PER_MS, threads.inspector, step_ns=beat_ns)


def test_systemd_is_fed_only_while_the_line_gets_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def hear(*lines: str) -> bool:
        said.extend(lines)
        return True

    monkeypatch.setattr("edgeinspect.services.daemon.service.notify", hear)
    monkeypatch.setattr("edgeinspect.system.systemd.sd_notify", hear)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    threads = FakeThreads()
    line: Any = SimpleNamespace(
        clock=threads.clock,
        progress=threads.progress,
        health=SimpleNamespace(alarm=""),
        config=SimpleNamespace(line="press"),
    )

    class Ended(threading.Event):
        turns = 0

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            assert timeout <= 0.5
            threads.clock.advance(round(timeout * NS_PER_S))
            self.turns += 1
            stuck = (threads.inspector,) if self.turns > 8 else ()
            for one in (
                threads.publisher,
                threads.guard,
                threads.replay,
                threads.inspector,
                threads.capture,
            ):
                one.turns += one not in stuck
            return self.turns == 40

    service.run_watchdog(line, Ended())
    stood = next(index for index, words in enumerate(said) if "stands still" in words)
    assert said[0] == "READY=1"
    assert "STATUS=inspecting press" in said[:stood]
    assert said[:stood].count("WATCHDOG=1") > 8
    assert "WATCHDOG=1" not in said[stood:]
