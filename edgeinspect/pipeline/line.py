"""The line: builds the flow, starts its threads, and stops them with every frame closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
import zmq

from edgeinspect.config.schema import LineConfig
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.domain.verdict import Reason
from edgeinspect.errors import EdgeInspectError
from edgeinspect.pipeline import recovery
from edgeinspect.pipeline.capture.camera_thread import Capture
from edgeinspect.pipeline.capture.commands import Orders
from edgeinspect.pipeline.capture.rules import capture_rules
from edgeinspect.pipeline.inspection.engine_swap import Swap
from edgeinspect.pipeline.inspection.frame_inspector import Engines
from edgeinspect.pipeline.inspection.setup import line_judges
from edgeinspect.pipeline.inspection.worker import Inspector, fault_log
from edgeinspect.pipeline.publishing.part_verdicts import part_book
from edgeinspect.pipeline.publishing.publisher import Publisher
from edgeinspect.pipeline.publishing.replay_server import Replay, no_ledger
from edgeinspect.pipeline.recovery import (
    close_unfinished,
    open_ledger,
    open_spool,
    remember_judged,
)
from edgeinspect.pipeline.shadow.shadow import Shadow
from edgeinspect.pipeline.supervision.alarms import Health
from edgeinspect.pipeline.supervision.liveness import line_progress
from edgeinspect.pipeline.supervision.status_reporter import Reporter, log_fields
from edgeinspect.pipeline.verdicts.closer import Closer
from edgeinspect.pipeline.verdicts.deadline_guard import Guard
from edgeinspect.pipeline.verdicts.open_frames import Inbox
from edgeinspect.ports import Camera
from edgeinspect.storage.paths import line_addresses, memory_folder
from edgeinspect.storage.shared_memory.frame_ring import Ring
from edgeinspect.system import log_events
from edgeinspect.system.realtime import claim_thread, settle_collector
from edgeinspect.wire.curve_authenticator import Doorkeeper, open_to_all
from edgeinspect.wire.messages import Counts

__all__ = ["Engines", "Line"]
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
        workers: Sequence[Engines],
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
        judges = line_judges(config, config_hash, tuple(cameras), workers, clock)
        model = workers[0].gate or workers[0].segmenter
        assert model is not None
        self.shape, color = model.spec.shape, model.spec.color
        folder, self.spool = memory_folder(config), open_spool(config, clock)
        # Two, so that what a stranger sends to replay shares no thread with the verdicts.
        self._contexts: tuple[zmq.Context[zmq.Socket[bytes]], ...] = (zmq.Context(), zmq.Context())
        self.inbox = Inbox(len(cameras))
        curve = config.publish.curve
        self.doorkeeper = Doorkeeper(Path(curve), clock) if curve else None
        self.closer = Closer(self.spool, clock, judges[0].causes, lambda: self.publisher.try_send())
        self.ledger = open_ledger(config, self.spool, self.closer, clock)
        self.guard = Guard(self.spool, self.inbox, self.closer, clock)
        self.rings = {
            name: Ring(
                folder / f"{config.line}.{name}.ring",
                config.capture.ring_slots,
                self.shape,
                color,
                self.spool.epoch,
            )
            for name in cameras
        }
        self.captures = [
            Capture(
                camera=camera,
                ring=self.rings[name],
                rules=capture_rules(config, name, lane),
                spool=self.spool,
                inbox=self.inbox,
                guard=self.guard,
                closer=self.closer,
                clock=clock,
                on_end=self._camera_ended,
            )
            for lane, (name, camera) in enumerate(cameras.items())
        ]
        remember_judged(config, cameras)
        self.health = Health(
            self.closer.tally,
            self.captures,
            no_verdict_in_row=config.alarms.no_verdict_in_row,
            degraded_in_row=config.alarms.degraded_in_row,
            reject_in_row=config.alarms.reject_in_row,
            standing_still=lambda: self.standing.problem(),
            missed_challenge=lambda: self.closer.missed_challenge,
            engine_alarm=lambda: self.swap.alarm,
            ledger_alarm=lambda: self.ledger.alarm if self.ledger else "",
            clock_alarm=lambda: self.closer.steps.alarm,
            report_alarm=lambda: self.reporter.alarm,
            clock=clock,
            on_alarm=self._note_alarm,
        )
        orders = Orders(self.captures, model.spec.color, config.capture.challenge_folder, clock)
        try:
            self.publisher = self._publisher()
            self.replay = self._replay(orders)
        except EdgeInspectError:
            if self.doorkeeper is not None:  # its threads would outlive the failed start
                self.doorkeeper.close()
            if "publisher" in vars(self):
                self.publisher.dispose()
            for context in self._contexts:
                context.destroy(0)
            raise
        self.reporter = Reporter(
            closer=self.closer,
            publisher=self.publisher,
            captures=self.captures,
            health=self.health,
            clock=clock,
            epoch=self.spool.epoch,
            period_s=config.publish.status_ms / 1000,
            each_turn=self._each_second,
        )
        on_fault = fault_log(clock)
        self.inspectors = [
            Inspector(
                inbox=self.inbox,
                closer=self.closer,
                spool=self.spool,
                judge=judge,
                keep_warm_ns=round(config.inspect.keep_warm_ms * NS_PER_MS),
                on_fault=on_fault,
            )
            for judge in judges
        ]
        self.swap = Swap(self.inspectors, self.inbox, self.closer, clock, self._note)
        self.standing, self.progress = line_progress(
            config, self.captures, self.inspectors, self.publisher, self.guard, self.replay, clock
        )
        self.shadow: Shadow | None = None

    # -- life -----------------------------------------------------------------------

    def start(self, warm_up_rounds: int = 10) -> None:
        """Close what a dead daemon left open, warm up, and begin to capture."""
        recovery.note_start(self.config, self.closer.steps, self._note)
        close_unfinished(self.spool, self.closer, self.clock)
        for inspector in self.inspectors:
            inspector.warm_up(warm_up_rounds)
        settle_collector()
        self._run("publish", self.publisher.run, keeps_time=True)
        self._run("guard", self.guard.run, keeps_time=True)
        self._run("replay", self.replay.run)
        if self.ledger is not None:
            self.ledger.note("line.started", {"config_hash": self.closer.causes.config_hash})
            self._run("ledger", self.ledger.run)
        for index, inspector in enumerate(self.inspectors):
            self._run(f"inspect-{index}", inspector.run)
        for capture in self.captures:
            self._run(f"capture-{capture.rules.camera}", capture.run, keeps_time=True)
        self._run("report", self.reporter.run)
        _log.info(
            log_events.LINE_STARTED,
            line=self.config.line,
            epoch=self.spool.epoch,
            first_seq=self.spool.last_seq + 1,
            verdicts=self.publisher.address,
            replay=self.replay.address,
        )

    def stop(self) -> Counts:
        """Stop capturing, let what is open be judged within its budget, close the rest.

        Returns:
            The final counters; `open` is 0.
        """
        for capture in self.captures:
            capture.stop()
        self._join("capture")
        self._drain()
        for inspector in self.inspectors:
            inspector.stop()
        self.inbox.wake(len(self.inspectors))
        self.guard.stop()
        self._join("guard")
        self.guard.close_all(Reason.SHUTDOWN)
        self._join("inspect", timeout_s=2.0)
        self.reporter.stop()
        self._join("report")
        self.set_shadow(None)
        self.publisher.post(self.reporter.status())
        self.publisher.stop()
        self.replay.stop()
        self._join("publish")
        self._join("replay")
        if self.ledger is not None:  # after the publisher: what it sent last is written too
            self.ledger.note("line.stopped")
            self.ledger.stop()
            self._join("ledger", timeout_s=10.0)
        counts = self.closer.tally.counts()
        _log.info(log_events.LINE_STOPPED, line=self.config.line, **log_fields(counts))
        return counts

    def set_shadow(self, shadow: Shadow | None) -> None:
        """Let candidates judge too, or no longer; ends the one before. Not from a worker."""
        old, self.shadow = self.shadow, shadow
        for inspector in self.inspectors:
            inspector.show = shadow.show if shadow is not None else None
        if old is not None:
            old.close()

    def dispose(self) -> None:
        """Free sockets, memory and engines. After `stop`, or instead of `start`."""
        if self.doorkeeper is not None:
            self.doorkeeper.close()
        self.publisher.dispose()
        self.replay.dispose()
        for context in self._contexts:
            context.term()
        stuck = [thread for thread in self._threads if thread.is_alive()]
        if not stuck:  # a hung engine keeps its memory until the process ends
            self.inbox.dispose()
            self.swap.dispose()
        for ring in self.rings.values():
            ring.dispose()
        self.spool.dispose()

    # -- inside ---------------------------------------------------------------------

    def _publisher(self) -> Publisher:
        publish = self.config.publish
        return Publisher(
            context=self._contexts[0],
            address=line_addresses(self.config, self.spool.path.parent)[0],
            high_water_mark=publish.high_water_mark,
            heartbeat_ns=round(publish.heartbeat_ms * NS_PER_MS),
            line=self.config.line,
            spool=self.spool,
            traces=self.closer.traces,
            clock=self.clock,
            health=self.health.check,
            parts=part_book(self.config, tuple(self.rings)),
            cameras=tuple(self.rings),
            stepped=lambda: self.closer.steps.stepped,
            prepare=open_to_all if self.doorkeeper is None else self.doorkeeper.prepare,
        )

    def _replay(self, orders: Orders) -> Replay:
        return Replay(
            context=self._contexts[1],
            address=line_addresses(self.config, self.spool.path.parent)[1],
            spool=self.spool,
            clock=self.clock,
            trigger=orders.trigger,
            challenge=orders.challenge,
            count_triggers=orders.count_triggers,
            operate=no_ledger if self.ledger is None else self._note_operator,
            prepare=open_to_all if self.doorkeeper is None else self.doorkeeper.prepare,
        )

    def _each_second(self) -> None:
        recovery.note_step(self.closer.steps, self._note)
        if self.doorkeeper is not None:
            self.doorkeeper.refresh()
        if self.shadow is not None:
            self.shadow.check()

    def _note(self, kind: str, detail: dict[str, Any]) -> None:
        if self.ledger is not None:
            self.ledger.note(kind, detail)

    def _note_alarm(self, alarm: str) -> None:
        self._note("alarm.raised" if alarm else "alarm.cleared", {"alarm": alarm})

    def _note_operator(self, actor: str, action: str, detail: str) -> None:
        assert self.ledger is not None
        self.ledger.note("operator.acted", {"action": action, "detail": detail}, actor)

    def _drain(self) -> None:
        """Wait until every frame is closed, one budget (at most 2 s) long."""
        limit_ns = min(round(self.config.budget_ms * NS_PER_MS), 2 * NS_PER_S)
        until_ns = self.clock.now_ns() + limit_ns
        while self.closer.tally.counts().open and self.clock.now_ns() < until_ns:
            self.clock.sleep_until(self.clock.now_ns() + NS_PER_MS)

    def _run(self, name: str, target: Callable[[], None], *, keeps_time: bool = False) -> None:
        def body() -> None:
            try:
                if keeps_time:
                    claim_thread(self.config.real_time.fifo_priority)
                target()
            except BaseException as error:  # a dead thread must end the daemon, not hide
                self._on_failure(error)

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _join(self, prefix: str, timeout_s: float = 5.0) -> None:
        for thread in self._threads:
            if thread.name.startswith(prefix) and thread is not threading.current_thread():
                thread.join(timeout_s)

    def _camera_ended(self, capture: Capture) -> None:
        if capture.error is not None:
            self._on_failure(capture.error)
        elif all(other.state == "finished" for other in self.captures):
            self._on_end()
