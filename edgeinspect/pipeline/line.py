"""The line: builds the flow, starts its threads, and stops them with every frame closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import zmq

from edgeinspect.config import LineConfig
from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, Reason
from edgeinspect.errors import EdgeInspectError
from edgeinspect.pipeline import recovery
from edgeinspect.pipeline.capture import CaptureThread, CommandHandler, capture_rules
from edgeinspect.pipeline.inspection import (
    EngineSwap,
    InspectionWorker,
    WorkerEngines,
    make_fault_logger,
    make_frame_inspectors,
)
from edgeinspect.pipeline.publishing import Publisher, ReplayServer, make_part_aggregator, no_ledger
from edgeinspect.pipeline.recovery import (
    assign_history_files,
    open_ledger,
    open_spool,
    recover_unfinished,
)
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
from edgeinspect.storage.paths import bind_addresses, shared_memory_folder
from edgeinspect.storage.shared_memory import FrameRing
from edgeinspect.system import freeze_gc, log_events, set_thread_realtime
from edgeinspect.wire import CurveAuthenticator, VerdictCounts, no_encryption

__all__ = ["Line", "WorkerEngines"]
_log = structlog.get_logger()


class Line:
    """One running line.

    `start`, `stop` and `dispose` belong to one thread; `snapshot` to any.
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
        """Build everything; nothing runs yet.

        Args:
            config: Checked.
            config_hash: Named by every verdict.
            cameras: By name, not opened.
            workers: One pair of engines per worker; the line closes them in `dispose`.
            clock: All deadlines.
            on_failure: Told of an error that ended a thread; from that thread.
            on_end: Told when no camera will deliver any more; from a capture thread.

        Raises:
            ConfigError: The models contradict the thresholds, or an address is taken.
            SpoolError: The spool cannot be had.
        """
        self.config = config
        self.clock = clock
        self._on_failure, self._on_end = on_failure, on_end
        self._threads: list[threading.Thread] = []
        judges = make_frame_inspectors(config, config_hash, tuple(cameras), worker_engines, clock)
        model = worker_engines[0].gate or worker_engines[0].segmenter
        assert model is not None
        self.frame_shape, color = model.spec.shape, model.spec.color
        folder, self.spool = shared_memory_folder(config), open_spool(config, clock)
        # Two, so that what a stranger sends to replay shares no thread with the verdicts.
        self._contexts: tuple[zmq.Context[zmq.Socket[bytes]], ...] = (zmq.Context(), zmq.Context())
        self.frame_queue = FrameQueue(len(cameras))
        curve = config.publish.curve
        self.authenticator = CurveAuthenticator(Path(curve), clock) if curve else None
        self.closer = VerdictCloser(
            self.spool, clock, judges[0].provenance, lambda: self.publisher.try_send()
        )
        self.ledger = open_ledger(config, self.spool, self.closer, clock)
        self.guard = DeadlineGuard(self.frame_queue, self.closer, clock)
        self.rings = {
            name: FrameRing(
                folder / f"{config.line}.{name}.ring",
                config.capture.ring_slots,
                self.frame_shape,
                color,
                self.spool.epoch,
            )
            for name in cameras
        }
        self.capture_threads = [
            CaptureThread(
                camera=camera,
                ring=self.rings[name],
                rules=capture_rules(config, name, lane),
                frame_queue=self.frame_queue,
                guard=self.guard,
                closer=self.closer,
                clock=clock,
                on_end=self._on_camera_end,
            )
            for lane, (name, camera) in enumerate(cameras.items())
        ]
        assign_history_files(config, cameras)
        self.alarms = AlarmEvaluator(
            self.closer,
            self.capture_threads,
            config.alarms,
            clock,
            stall=lambda: self.heartbeat_liveness.problem(),
            sources=(
                lambda: self.engine_swap.alarm,
                lambda: self.ledger.alarm if self.ledger else "",
                lambda: self.closer.clock_steps.alarm,
                lambda: self.reporter.alarm,
            ),
            on_change=self._record_alarm,
        )
        orders = CommandHandler(
            self.capture_threads, model.spec.color, config.capture.challenge_folder, clock
        )
        try:
            self.publisher = self._make_publisher()
            self.replay_server = self._make_replay_server(orders)
        except EdgeInspectError:
            if self.authenticator is not None:  # its threads would outlive the failed start
                self.authenticator.close()
            if "publisher" in vars(self):
                self.publisher.close()
            for context in self._contexts:
                context.destroy(0)
            raise
        self.reporter = StatusReporter(
            closer=self.closer,
            publisher=self.publisher,
            capture_threads=self.capture_threads,
            alarms=self.alarms,
            clock=clock,
            period_s=config.publish.status_ms / 1000,
            on_tick=self._run_periodic_checks,
        )
        on_fault = make_fault_logger(clock)
        self.workers = [
            InspectionWorker(
                frame_queue=self.frame_queue,
                closer=self.closer,
                inspector=judge,
                keep_warm_ns=round(config.inspect.keep_warm_ms * NS_PER_MS),
                on_fault=on_fault,
            )
            for judge in judges
        ]
        self.engine_swap = EngineSwap(
            self.workers, self.frame_queue, self.closer, clock, self._record_event
        )
        self.heartbeat_liveness, self.watchdog_liveness = make_liveness_monitors(
            config,
            MonitoredThreads(
                self.capture_threads, self.workers, self.guard, self.replay_server, self.publisher
            ),
            clock,
        )
        self.shadow: ShadowProcess | None = None

    # -- life -----------------------------------------------------------------------

    def start(self, warm_up_rounds: int = 10) -> None:
        """Close what a dead daemon left open, warm up, and begin to capture."""
        recovery.check_clock_at_start(self.config, self.closer.clock_steps, self._record_event)
        recover_unfinished(self.spool, self.closer, self.clock)
        for inspector in self.workers:
            inspector.warm_up(warm_up_rounds)
        freeze_gc()
        self._start_thread("publish", self.publisher.run, realtime=True)
        self._start_thread("guard", self.guard.run, realtime=True)
        self._start_thread("replay", self.replay_server.run)
        if self.ledger is not None:
            self.ledger.record_event(
                "line.started", {"config_hash": self.closer.provenance.config_hash}
            )
            self._start_thread("ledger", self.ledger.run)
        for index, inspector in enumerate(self.workers):
            self._start_thread(f"inspect-{index}", inspector.run)
        for capture in self.capture_threads:
            self._start_thread(f"capture-{capture.rules.camera}", capture.run, realtime=True)
        self._start_thread("report", self.reporter.run)
        _log.info(
            log_events.LINE_STARTED,
            line=self.config.line,
            epoch=self.spool.epoch,
            first_seq=self.spool.last_seq + 1,
            verdicts=self.publisher.address,
            replay=self.replay_server.address,
        )

    def stop(self) -> VerdictCounts:
        """Stop capturing, let what is open be judged within its budget, close the rest.

        Returns:
            The final counters; `open` is 0.
        """
        for capture in self.capture_threads:
            capture.stop()
        self._join_threads("capture")
        self._wait_for_open_frames()
        for inspector in self.workers:
            inspector.stop()
        self.frame_queue.wake_workers(len(self.workers))
        self.guard.stop()
        self._join_threads("guard")
        self.guard.close_all(Reason.SHUTDOWN)
        self._join_threads("inspect", timeout_s=2.0)
        self.reporter.stop()
        self._join_threads("report")
        self.set_shadow(None)
        self.publisher.queue_status(self.reporter.status())
        self.publisher.stop()
        self.replay_server.stop()
        self._join_threads("publish")
        self._join_threads("replay")
        if self.ledger is not None:  # after the publisher: what it sent last is written too
            self.ledger.record_event("line.stopped")
            self.ledger.stop()
            self._join_threads("ledger", timeout_s=10.0)
        counts = self.closer.counters.counts()
        _log.info(log_events.LINE_STOPPED, line=self.config.line, **log_fields(counts))
        return counts

    def set_shadow(self, shadow_process: ShadowProcess | None) -> None:
        """Let candidates judge too, or no longer; ends the one before. Not from a worker."""
        old, self.shadow = self.shadow, shadow_process
        for inspector in self.workers:
            inspector.on_inspected = shadow_process.submit if shadow_process is not None else None
        if old is not None:
            old.close()

    def close(self) -> None:
        """Free sockets, memory and engines. After `stop`, or instead of `start`."""
        if self.authenticator is not None:
            self.authenticator.close()
        self.publisher.close()
        self.replay_server.close()
        for context in self._contexts:
            context.term()
        stuck = [thread for thread in self._threads if thread.is_alive()]
        if not stuck:  # a hung engine keeps its memory until the process ends
            self.frame_queue.close()
            self.engine_swap.close()
        for ring in self.rings.values():
            ring.remove_file()
        self.spool.release()

    # -- inside ---------------------------------------------------------------------

    def _make_publisher(self) -> Publisher:
        publish = self.config.publish
        return Publisher(
            context=self._contexts[0],
            address=bind_addresses(self.config, self.spool.path.parent)[0],
            high_water_mark=publish.high_water_mark,
            heartbeat_ns=round(publish.heartbeat_ms * NS_PER_MS),
            line=self.config.line,
            spool=self.spool,
            timings=self.closer.timings,
            clock=self.clock,
            health=self.alarms.check,
            part_aggregator=make_part_aggregator(self.config, tuple(self.rings)),
            cameras=tuple(self.rings),
            is_clock_stepped=lambda: self.closer.clock_steps.stepped,
            prepare=no_encryption
            if self.authenticator is None
            else self.authenticator.secure_socket,
        )

    def _make_replay_server(self, commands: CommandHandler) -> ReplayServer:
        return ReplayServer(
            context=self._contexts[1],
            address=bind_addresses(self.config, self.spool.path.parent)[1],
            spool=self.spool,
            clock=self.clock,
            trigger=commands.trigger,
            read_challenge=commands.read_challenge,
            add_trigger_count=commands.add_trigger_count,
            record_operator_action=no_ledger
            if self.ledger is None
            else self._record_operator_action,
            prepare=no_encryption
            if self.authenticator is None
            else self.authenticator.secure_socket,
        )

    def _run_periodic_checks(self) -> None:
        recovery.check_clock_step(self.closer.clock_steps, self._record_event)
        if self.authenticator is not None:
            self.authenticator.refresh()
        if self.shadow is not None:
            self.shadow.check_child()

    def _record_event(self, kind: str, detail: dict[str, Any]) -> None:
        if self.ledger is not None:
            self.ledger.record_event(kind, detail)

    def _record_alarm(self, alarm: str) -> None:
        self._record_event("alarm.raised" if alarm else "alarm.cleared", {"alarm": alarm})

    def _record_operator_action(self, actor: str, action: str, detail: str) -> None:
        assert self.ledger is not None
        self.ledger.record_event("operator.acted", {"action": action, "detail": detail}, actor)

    def _wait_for_open_frames(self) -> None:
        """Wait until every frame is closed, one budget (at most 2 s) long."""
        limit_ns = min(round(self.config.budget_ms * NS_PER_MS), 2 * NS_PER_S)
        until_ns = self.clock.now_ns() + limit_ns
        while self.closer.counters.counts().open and self.clock.now_ns() < until_ns:
            self.clock.sleep_until(self.clock.now_ns() + NS_PER_MS)

    def _start_thread(
        self, name: str, target: Callable[[], None], *, realtime: bool = False
    ) -> None:
        def body() -> None:
            try:
                if realtime:
                    set_thread_realtime(self.config.real_time.fifo_priority)
                target()
            except BaseException as error:  # a dead thread must end the daemon, not hide
                self._on_failure(error)

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _join_threads(self, prefix: str, timeout_s: float = 5.0) -> None:
        for thread in self._threads:
            if thread.name.startswith(prefix) and thread is not threading.current_thread():
                thread.join(timeout_s)

    def _on_camera_end(self, capture: CaptureThread) -> None:
        if capture.error is not None:
            self._on_failure(capture.error)
        elif all(other.state == "finished" for other in self.capture_threads):
            self._on_end()
