"""Liveness: a stalled thread is named, a thread that may wait is not."""

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
    """A line's threads as `LivenessMonitor` sees them."""

    def __init__(self, budget_ms: int = 100, stall_timeout_ns: int = STALL_TIMEOUT_NS) -> None:
        self.clock = ManualClock()
        self.publisher = SimpleNamespace(progress_count=0)
        self.guard = SimpleNamespace(progress_count=0, overdue_ns=0)
        self.replay = SimpleNamespace(progress_count=0, name="replay")  # equal to no other
        self.worker = SimpleNamespace(progress_count=0, is_working=True)
        rules = SimpleNamespace(camera="top")
        self.capture = SimpleNamespace(progress_count=0, state="live", rules=rules)
        threads: Any = SimpleNamespace(
            capture_threads=[self.capture],
            workers=[self.worker],
            publisher=self.publisher,
            guard=self.guard,
            replay_server=self.replay,
        )
        self.monitor = LivenessMonitor(
            threads,
            self.clock,
            budget_ns=budget_ms * NS_PER_MS,
            heartbeat_ns=50 * NS_PER_MS,
            stall_timeout_ns=stall_timeout_ns,
        )

    def problem_after(self, for_ns: int, *stuck: Any, step_ns: int = NS_PER_S // 2) -> str:
        """Return the problem after `for_ns`, checked every `step_ns`, while `stuck` are stalled."""
        self.monitor.problem()
        problem = ""
        for _ in range(for_ns // step_ns):
            self.clock.advance(step_ns)
            for one in (self.publisher, self.guard, self.replay, self.worker, self.capture):
                if one not in stuck:
                    one.progress_count += 1
            problem = self.monitor.problem()
        return problem


THREADS = {
    "publisher": "publish",
    "guard": "guard",
    "replay": "replay",
    "worker": "inspect-0",
    "capture": "capture-top",
}


@pytest.mark.parametrize("name", THREADS)
def test_a_stalled_thread_is_named(name: str) -> None:
    threads = FakeThreads()
    assert threads.problem_after(3600 * NS_PER_S) == ""
    stuck = getattr(threads, name)
    assert threads.problem_after(STALL_TIMEOUT_NS - NS_PER_S, stuck) == ""
    problem = threads.problem_after(2 * NS_PER_S, stuck)
    assert "stands still" in problem
    assert problem.startswith(THREADS[name])
    assert threads.problem_after(NS_PER_S) == ""


def test_an_idle_worker_may_wait_indefinitely() -> None:
    threads = FakeThreads()
    threads.worker.is_working = False
    assert threads.problem_after(3600 * NS_PER_S, threads.worker) == ""


def test_a_worker_may_take_two_budgets() -> None:
    threads = FakeThreads(budget_ms=60_000)
    assert threads.problem_after(119 * NS_PER_S, threads.worker) == ""
    assert "inspect-0" in threads.problem_after(2 * NS_PER_S, threads.worker)


def test_a_lost_camera_has_longer_to_open_and_a_finished_one_is_not_checked() -> None:
    threads = FakeThreads()
    threads.capture.state = "lost"
    assert threads.problem_after(CAMERA_OPEN_TIMEOUT_NS - NS_PER_S, threads.capture) == ""
    assert "capture-top" in threads.problem_after(2 * NS_PER_S, threads.capture)
    threads.capture.state = "finished"
    assert threads.problem_after(3600 * NS_PER_S, threads.capture) == ""


def test_an_overdue_frame_is_a_problem() -> None:
    threads = FakeThreads()
    threads.guard.overdue_ns = STALL_TIMEOUT_NS
    assert threads.monitor.problem() == ""
    threads.guard.overdue_ns = STALL_TIMEOUT_NS + 1
    assert threads.monitor.problem() == ""  # once: a process that was stopped closes it first
    assert "without a verdict" in threads.monitor.problem()


def test_time_in_which_the_process_was_stopped_does_not_count() -> None:
    threads = FakeThreads()
    threads.monitor.problem()
    threads.clock.advance(8 * 3600 * NS_PER_S)  # a PC that slept
    assert threads.monitor.problem() == ""


def test_a_short_timeout_is_kept_and_a_stopped_process_raises_nothing() -> None:
    timeout_ns, beat_ns = 200 * NS_PER_MS, 50 * NS_PER_MS
    threads = FakeThreads(budget_ms=50, stall_timeout_ns=timeout_ns)
    assert threads.problem_after(10 * NS_PER_S, step_ns=beat_ns) == ""
    for stuck in (threads.guard, threads.replay, threads.worker, threads.capture):
        assert threads.problem_after(timeout_ns - beat_ns, stuck, step_ns=beat_ns) == ""
        problem = threads.problem_after(4 * beat_ns, stuck, step_ns=beat_ns)
        assert "stands still" in problem
        assert threads.problem_after(beat_ns, step_ns=beat_ns) == ""
        threads.clock.advance(60 * NS_PER_S)  # SIGSTOP, SIGCONT: no thread has run yet
        assert threads.monitor.problem() == ""
        assert threads.problem_after(beat_ns, step_ns=beat_ns) == ""


def test_a_slow_camera_is_reported_before_the_watchdog_restarts_the_daemon() -> None:
    threads = FakeThreads(stall_timeout_ns=200 * NS_PER_MS)
    threads.capture.state = "starting"
    beat_ns = 50 * NS_PER_MS
    assert threads.problem_after(4 * NS_PER_S, threads.capture, step_ns=beat_ns) == ""
    assert "capture-top" in threads.problem_after(2 * NS_PER_S, threads.capture, step_ns=beat_ns)


def test_a_slow_engine_with_a_long_budget_is_no_alarm() -> None:
    threads = FakeThreads(budget_ms=2_000, stall_timeout_ns=200 * NS_PER_MS)
    beat_ns = 50 * NS_PER_MS
    assert threads.problem_after(3_900 * NS_PER_MS, threads.worker, step_ns=beat_ns) == ""
    assert "inspect-0" in threads.problem_after(200 * NS_PER_MS, threads.worker, step_ns=beat_ns)


def test_systemd_is_notified_only_while_no_thread_is_stalled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []

    def notify(*lines: str) -> bool:
        sent.extend(lines)
        return True

    monkeypatch.setattr("edgeinspect.services.daemon.service.sd_notify", notify)
    monkeypatch.setattr("edgeinspect.system.systemd.sd_notify", notify)
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    threads = FakeThreads()
    line: Any = SimpleNamespace(
        clock=threads.clock,
        watchdog_liveness=threads.monitor,
        alarms=SimpleNamespace(text="", is_inspecting=True),
        config=SimpleNamespace(line="press"),
    )

    class Ended(threading.Event):
        waits = 0

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            assert timeout <= 0.5
            threads.clock.advance(round(timeout * NS_PER_S))
            self.waits += 1
            stuck = (threads.worker,) if self.waits > 8 else ()
            for one in (
                threads.publisher,
                threads.guard,
                threads.replay,
                threads.worker,
                threads.capture,
            ):
                one.progress_count += one not in stuck
            return self.waits == 40

    service.run_watchdog(line, Ended())
    stalled = next(index for index, words in enumerate(sent) if "stands still" in words)
    assert sent[0] == "READY=1"
    report = sent.index("STATUS=inspecting press")
    assert report < stalled
    assert sent[report + 1] == "X_INSPECTING=1"  # read by a container's health check
    assert sent[:stalled].count("WATCHDOG=1") > 8
    assert "WATCHDOG=1" not in sent[stalled:]
