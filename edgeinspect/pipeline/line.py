"""The line: creates its components, starts the threads, and stops with every frame closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from edgeinspect.config import LineConfig
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, ModelSpec, Reason
from edgeinspect.pipeline import recovery
from edgeinspect.pipeline.capture import CaptureThread, CommandHandler, capture_rules
from edgeinspect.pipeline.inspection import (
    EngineSwap,
    FrameInspector,
    InspectionWorker,
    WorkerEngines,
    make_fault_logger,
    make_frame_inspectors,
)
from edgeinspect.pipeline.line_threads import LineThreads
from edgeinspect.pipeline.publishing import LineSockets, RequestHandlers
from edgeinspect.pipeline.shadow import ShadowProcess
from edgeinspect.pipeline.supervision import (
    AlarmEvaluator,
    MonitoredThreads,
    StatusReporter,
    log_fields,
    make_liveness_monitors,
)
from edgeinspect.pipeline.verdicts import DeadlineGuard, FrameQueue, VerdictCloser
from edgeinspect.ports import Camera
from edgeinspect.storage.shared_memory import FrameRing
from edgeinspect.system import freeze_gc, log_events
from edgeinspect.wire import VerdictCounts

__all__ = ["Line", "WorkerEngines"]
_log = structlog.get_logger()


class Line:
    """One running line. `start`, `stop`, `set_shadow` and `close` are called by one thread.

    Args:
        config: Checked.
        config_hash: For the verdicts.
        cameras: By name, not opened.
        worker_engines: One per worker; closed by `close`.
        clock: For all deadlines.
        on_failure: Called in a thread with the error that ended it.
        on_end: Called in a capture thread when no camera will deliver any more.

    Raises:
        ConfigError: The models contradict the thresholds, or an address cannot be bound.
        AddressError: An address is in use, or not available yet.
        SpoolError: The spool cannot be created.
    """

    def __init__(
        self,
        config: LineConfig,
        *,
        config_hash: str,
        cameras: Mapping[str, Camera],
        worker_engines: Sequence[WorkerEngines],
        clock: Clock,
        on_failure: Callable[[BaseException], None] = lambda error: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.config = config
        self.clock = clock
        self._on_failure, self._on_end = on_failure, on_end
        inspectors = make_frame_inspectors(
            config, config_hash, tuple(cameras), worker_engines, clock
        )
        model = worker_engines[0].line_model
        self.frame_shape = model.shape
        self._threads = LineThreads(config.real_time.fifo_priority, on_failure)
        self.spool = recovery.open_spool(config, clock)
        self.frame_queue = FrameQueue(len(cameras))
        self.closer = VerdictCloser(
            self.spool, clock, inspectors[0].provenance, lambda: self.publisher.try_send()
        )
        self.ledger = recovery.open_ledger(config, self.spool, self.closer, clock)
        self.guard = DeadlineGuard(self.frame_queue, self.closer, clock)
        self.rings = {name: self._make_ring(name, model) for name in cameras}
        self.capture_threads = self._make_capture_threads(cameras)
        self.workers = self._make_workers(inspectors)
        self.engine_swap = EngineSwap(
            self.workers, self.frame_queue, self.closer, clock, self._record_event
        )
        self.alarms = self._make_alarms()
        self._sockets = LineSockets(
            config, self.closer, clock, self.alarms.check, self._make_handlers(model.color)
        )
        self.publisher = self._sockets.publisher
        self.replay_server = self._sockets.replay_server
        self.reporter = StatusReporter(
            closer=self.closer,
            publisher=self.publisher,
            capture_threads=self.capture_threads,
            alarms=self.alarms,
            clock=clock,
            period_s=config.publish.status_ms / 1000,
            on_tick=self._run_periodic_checks,
        )
        self.heartbeat_liveness, self.watchdog_liveness = make_liveness_monitors(
            config,
            MonitoredThreads(
                self.capture_threads, self.workers, self.guard, self.replay_server, self.publisher
            ),
            clock,
        )
        self.shadow: ShadowProcess | None = None

    # -- components -----------------------------------------------------------------

    def _make_ring(self, camera: str, model: ModelSpec) -> FrameRing:
        return FrameRing(
            self.spool.path.parent / f"{self.config.line}.{camera}.ring",
            self.config.capture.ring_slots,
            model.shape,
            model.color,
            self.spool.epoch,
        )

    def _make_capture_threads(self, cameras: Mapping[str, Camera]) -> list[CaptureThread]:
        recovery.assign_history_files(self.config, cameras)
        return [
            CaptureThread(
                camera=camera,
                ring=self.rings[name],
                rules=capture_rules(self.config, name, index),
                frame_queue=self.frame_queue,
                guard=self.guard,
                closer=self.closer,
                clock=self.clock,
                on_end=self._on_camera_end,
            )
            for index, (name, camera) in enumerate(cameras.items())
        ]

    def _make_workers(self, inspectors: Sequence[FrameInspector]) -> list[InspectionWorker]:
        on_fault = make_fault_logger(self.clock)
        keep_warm_ns = round(self.config.inspect.keep_warm_ms * NS_PER_MS)
        return [
            InspectionWorker(
                frame_queue=self.frame_queue,
                closer=self.closer,
                inspector=inspector,
                keep_warm_ns=keep_warm_ns,
                on_fault=on_fault,
            )
            for inspector in inspectors
        ]

    def _make_alarms(self) -> AlarmEvaluator:
        return AlarmEvaluator(
            self.closer,
            self.capture_threads,
            self.config.alarms,
            self.clock,
            stall=lambda: self.heartbeat_liveness.problem(),
            sources=(
                lambda: self.engine_swap.alarm,
                lambda: self.ledger.alarm if self.ledger else "",
                lambda: self.closer.clock_steps.alarm,
                lambda: self.reporter.alarm,
            ),
            on_change=self._record_alarm,
        )

    def _make_handlers(self, color: str) -> RequestHandlers:
        commands = CommandHandler(
            self.capture_threads, color, self.config.capture.challenge_folder, self.clock
        )
        handlers = RequestHandlers(
            commands.trigger, commands.read_challenge, commands.add_trigger_count
        )
        if self.ledger is None:
            return handlers
        return replace(handlers, record_operator_action=self._record_operator_action)

    # -- start and stop -------------------------------------------------------------

    def start(self, warm_up_rounds: int = 10) -> None:
        """Close what a crashed daemon left open, warm up, and start the threads."""
        recovery.check_clock_at_start(self.config, self.closer.clock_steps, self._record_event)
        recovery.recover_unfinished(self.spool, self.closer, self.clock)
        for worker in self.workers:
            worker.warm_up(warm_up_rounds)
        freeze_gc()
        self._threads.start("publish", self.publisher.run, realtime=True)
        self._threads.start("guard", self.guard.run, realtime=True)
        self._threads.start("replay", self.replay_server.run)
        if self.ledger is not None:
            self.ledger.record_event(
                "line.started", {"config_hash": self.closer.provenance.config_hash}
            )
            self._threads.start("ledger", self.ledger.run)
        for index, worker in enumerate(self.workers):
            self._threads.start(f"inspect-{index}", worker.run)
        for capture in self.capture_threads:
            self._threads.start(f"capture-{capture.rules.camera}", capture.run, realtime=True)
        self._threads.start("report", self.reporter.run)
        _log.info(
            log_events.LINE_STARTED,
            line=self.config.line,
            epoch=self.spool.epoch,
            first_seq=self.spool.last_seq + 1,
            verdicts=self.publisher.address,
            replay=self.replay_server.address,
        )

    def stop(self) -> VerdictCounts:
        """Stop capturing, wait one budget for open frames, and close the rest.

        Returns:
            The final counters; `open` is 0.
        """
        for capture in self.capture_threads:
            capture.stop()
        self._threads.join("capture")
        self._wait_for_open_frames()
        for worker in self.workers:
            worker.stop()
        self.frame_queue.wake_workers(len(self.workers))
        self.guard.stop()
        self._threads.join("guard")
        self.guard.close_all(Reason.SHUTDOWN)
        self._threads.join("inspect", timeout_s=2.0)
        self.reporter.stop()
        self._threads.join("report")
        self.set_shadow(None)
        self.publisher.queue_status(self.reporter.status())
        self.publisher.stop()
        self.replay_server.stop()
        self._threads.join("publish")
        self._threads.join("replay")
        if self.ledger is not None:  # last, so that it records what the publisher sent last
            self.ledger.record_event("line.stopped")
            self.ledger.stop()
            self._threads.join("ledger", timeout_s=10.0)
        counts = self.closer.counters.counts()
        _log.info(log_events.LINE_STOPPED, line=self.config.line, **log_fields(counts))
        return counts

    def set_shadow(self, shadow_process: ShadowProcess | None) -> None:
        """Start to copy frames to a shadow, or stop; end the one before. Not for workers."""
        old, self.shadow = self.shadow, shadow_process
        for worker in self.workers:
            worker.on_inspected = shadow_process.submit if shadow_process is not None else None
        if old is not None:
            old.close()

    def close(self) -> None:
        """Free sockets, memory and engines. After `stop`, or instead of `start`."""
        self._sockets.close()
        if not self._threads.are_running:  # a hung engine keeps its memory until the process ends
            self.frame_queue.close()
            self.engine_swap.close()
        for ring in self.rings.values():
            ring.remove_file()
        self.spool.release()

    def _run_periodic_checks(self) -> None:
        recovery.check_clock_step(self.closer.clock_steps, self._record_event)
        self._sockets.refresh_keys()
        if self.shadow is not None:
            self.shadow.check_child()

    def _record_event(self, kind: str, detail: dict[str, Any]) -> None:
        if self.ledger is not None:
            self.ledger.record_event(kind, detail)

    def _record_alarm(self, text: str) -> None:
        self._record_event("alarm.raised" if text else "alarm.cleared", {"alarm": text})

    def _record_operator_action(self, actor: str, action: str, detail: str) -> None:
        assert self.ledger is not None
        self.ledger.record_event("operator.acted", {"action": action, "detail": detail}, actor)

    def _wait_for_open_frames(self) -> None:
        """Wait until every frame is closed, at most one budget or 2 s."""
        limit_ns = min(round(self.config.budget_ms * NS_PER_MS), 2 * NS_PER_S)
        until_ns = self.clock.now_ns() + limit_ns
        while self.closer.counters.counts().open and self.clock.now_ns() < until_ns:
            self.clock.sleep_until(self.clock.now_ns() + NS_PER_MS)

    def _on_camera_end(self, capture: CaptureThread) -> None:
        if capture.error is not None:
            self._on_failure(capture.error)
        elif all(other.state == "finished" for other in self.capture_threads):
            self._on_end()
