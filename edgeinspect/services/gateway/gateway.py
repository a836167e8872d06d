"""The gateway's loop: reads the line and the PLC, and shows what the handshake decides.

One thread. It never waits for the PLC (the link has its own thread) or for the disk (the
journal has a thread that syncs). The heartbeat bit is set here only, so it toggles as long
as this loop runs and stops when it does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import structlog

from edgeinspect.client import (
    FeedEvent,
    SequenceReset,
    StatusReceived,
    VerdictReceived,
    VerdictsLost,
)
from edgeinspect.domain import (
    NS_PER_MS,
    Clock,
    PlcInputs,
    PlcOutcome,
    PlcResult,
    ProcessImage,
    read_utc_offset_ns,
)
from edgeinspect.errors import DataError, ImpersonationError
from edgeinspect.ports import PlcLink
from edgeinspect.services.gateway.config import GatewayConfig
from edgeinspect.services.gateway.handshake import Handshake, HandshakeSettings
from edgeinspect.services.gateway.journal import GatewayJournal
from edgeinspect.services.gateway.line_monitor import LineMonitor
from edgeinspect.services.gateway.part_memory import PartMemory
from edgeinspect.services.gateway.part_outcome import PartOutcomePolicy
from edgeinspect.services.gateway.plc_results import result_for_lost, result_for_verdict
from edgeinspect.services.gateway.triggers import TriggerCountReporter, TriggerForwarder
from edgeinspect.services.gateway.verdict_age import VerdictAgeTracker
from edgeinspect.system import ClockStepDetector, RateLimitedLogger, log_events
from edgeinspect.wire import Heartbeat

_IDLE_POLL_MS = 10
_BUSY_POLL_MS = 1
"""Longest wait for the line: with no result at the PLC, and while waiting for an ack."""
_EVENTS_PER_ITERATION = 64
_SILENCE_RATIO = 0.9
"""Share of `fail_safe_ms` after which the line counts as silent: an iteration of this loop and
the link's write follow, and the PLC must see fail-safe within `fail_safe_ms`."""
_IMAGE_AGE_MAX_NS = 5 * NS_PER_MS
_IMAGE_ATTEMPTS = 20
BACKLOG_MAX = 4_096
"""Results held here while the PLC is disconnected; the rest stays in the line's spool."""

_log = structlog.get_logger()


class VerdictSource(Protocol):
    """The part of `client.Feed` that the loop uses."""

    cursor: int | None

    def receive(self, timeout_ms: int = ...) -> FeedEvent | None: ...
    def ack(self, seq: int) -> None: ...
    def close(self) -> None: ...


class Gateway:
    """One line, one PLC. `step` and `run` are for one thread; `stop` for any."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        subscribe: Callable[[int | None], VerdictSource],
        link: PlcLink,
        journal: GatewayJournal,
        clock: Clock,
        triggers: TriggerForwarder | None = None,
        counter: TriggerCountReporter | None = None,
        memory: PartMemory | None = None,
        backlog: int = BACKLOG_MAX,
    ) -> None:
        """Create a gateway; the link is not opened yet.

        Args:
            config: A validated configuration.
            subscribe: Opens the feed of the verdicts after a cursor.
            link: To the PLC.
            journal: Open; the gateway continues after its last record.
            clock: For all timeouts.
            triggers: Forwards the PLC's triggers to the line; None refuses them.
            counter: Reports the PLC's trigger count to the line.
            memory: The parts that did not pass; None starts with an empty one.
            backlog: Results held in memory.
        """
        self.config = config
        self._subscribe = subscribe
        self._link = link
        self._journal = journal
        self._clock = clock
        self._triggers = triggers
        self._counter = counter
        self._backlog = backlog
        self._no_verdict_as = (
            PlcOutcome.REJECT if config.no_verdict_as == "reject" else PlcOutcome.NEITHER
        )
        last = journal.last_record
        silence_ns = round(config.fail_safe_ms * NS_PER_MS * _SILENCE_RATIO)
        self.line_monitor = LineMonitor(silence_ns, last.epoch if last else 0)
        self._part_policy = _make_part_policy(config, link, memory or PartMemory(None), clock)
        self.handshake = Handshake(
            _make_handshake_settings(config, link),
            journal.totals,
            is_new_journal=journal.is_new,
            result_filter=self._apply_part_policy,
        )
        self._feed = subscribe(journal.cursor)
        self._last_enqueued_seq = journal.cursor
        self._is_backlogged = False
        self._step_detector = ClockStepDetector(clock)
        self._verdict_age = VerdictAgeTracker(clock.now_ns(), silence_ns)
        self._stopping = threading.Event()
        self._throttled_log = RateLimitedLogger(_log, clock)
        self._image: ProcessImage | None = None
        self._last_logged = ("", "", False)

    def run(self, on_iteration: Callable[[], None] = lambda: None) -> None:
        """Run until `stop`, then show the PLC fail-safe.

        Args:
            on_iteration: Called after each iteration, about every 10 ms or more often.

        Raises:
            ConfigError: The link can never work.
            DeviceLostError: The journal cannot be written.
        """
        try:
            # Before a PLC can read: the 0 of an empty image would be another sequence
            # generation, and results that the PLC has taken would be new to it.
            self._write_image()
            self._link.open()
            try:
                self._log_started()
                while not self._stopping.is_set():
                    self.step()
                    on_iteration()
            finally:
                self._show_fail_safe()
                self._link.close()
        finally:
            self._feed.close()

    def stop(self) -> None:
        """End `run` within a few ms. Thread-safe, and safe in a signal handler."""
        self._stopping.set()

    def step(self, timeout_ms: int | None = None) -> None:
        """Run one iteration: poll the line, poll the PLC, record, show."""
        if timeout_ms is None:
            timeout_ms = _BUSY_POLL_MS if len(self.handshake) else _IDLE_POLL_MS
        self._step_detector.check()
        self.handshake.extend_ack_deadline(self._verdict_age.record_iteration(self._clock.now_ns()))
        self._poll_line(timeout_ms)
        now_ns = self._clock.now_ns()
        self.handshake.extend_ack_deadline(self._verdict_age.record_iteration(now_ns))
        inputs = self._link.poll()
        for completed in self.handshake.process_inputs(inputs, now_ns):
            # Recorded before anything else is shown; see journal.py for the order. The part
            # comes first: a result that is shown again after a crash is a reject again.
            if completed.result is not None:
                self._part_policy.record_shown(completed.part_id, completed.result)
            self._journal.append(completed, self._clock.utc_ns())
            if completed.result is not None:
                self._feed.ack(completed.result.seq)
        if self._triggers is not None and inputs.commands is not None:
            self._triggers.process_commands(inputs.commands)
        if self._counter is not None:
            self._counter.report(inputs)
        self._write_image()
        self._log_changes(inputs)
        if self._is_backlogged and len(self.handshake) <= self._backlog // 2:
            self._resubscribe()

    # -- the line -------------------------------------------------------------------

    def _poll_line(self, timeout_ms: int) -> None:
        for _ in range(_EVENTS_PER_ITERATION):
            polled_at_ns = self._clock.now_ns()  # before the poll: a pause may follow it
            try:
                event = self._feed.receive(timeout_ms)
            except DataError as error:
                self.line_monitor.on_invalid_message(error.where)
                forged = isinstance(error, ImpersonationError)
                name = log_events.LINE_FORGED if forged else log_events.WIRE_BROKEN
                self._throttled_log.error(name, problem=str(error))
                return
            if event is None:
                self._verdict_age.record_empty_poll(polled_at_ns)
                return
            self._on_event(event)
            timeout_ms = 0

    def _on_event(self, event: FeedEvent) -> None:
        now_ns = self._clock.now_ns()
        self._verdict_age.record_message(now_ns)
        if isinstance(event, StatusReceived):
            if event.message.line == self.config.feed.line:
                self.line_monitor.on_heartbeat(event.message, now_ns)
                if self._journal.last_record is None and isinstance(event.message, Heartbeat):
                    self._set_first_cursor(event.message.last_seq, event.message.epoch)
        elif isinstance(event, SequenceReset):
            self.line_monitor.on_sequence_reset(event.epoch, now_ns)
            self.handshake.reset_sequence(event.epoch)
            self._last_enqueued_seq = 0
            _log.error(log_events.LINE_RENUMBERED, epoch=event.epoch, last_seq=event.last_seq)
        elif not self._is_backlogged:
            self._enqueue(event, now_ns)

    def _enqueue(self, event: VerdictReceived | VerdictsLost, now_ns: int) -> None:
        """Enqueue one result; if the backlog is full, leave it in the line's spool."""
        if len(self.handshake) >= self._backlog:
            self._is_backlogged = True
            return
        if isinstance(event, VerdictsLost):
            if self._journal.last_record is None:
                self._set_first_cursor(event.from_seq - 1, self.line_monitor.epoch)
            self.handshake.enqueue(result_for_lost(event, self.line_monitor.epoch))
            self._last_enqueued_seq = event.to_seq
            _log.error(log_events.VERDICTS_LOST, from_seq=event.from_seq, to_seq=event.to_seq)
            return
        verdict = event.verdict
        if self._journal.last_record is None:
            self._set_first_cursor(verdict.seq - 1, verdict.epoch)
        self.line_monitor.on_verdict(verdict.epoch, verdict.config_hash)
        utc_ns = now_ns + read_utc_offset_ns(self._clock)
        stepped = self.line_monitor.clock_stepped or self._step_detector.spans_step(now_ns, utc_ns)
        self.handshake.enqueue(
            result_for_verdict(
                verdict,
                now_ns=now_ns,
                utc_ns=utc_ns,
                sent_at_ns=None if event.replayed else self._verdict_age.sent_after_ns(now_ns),
                clock_stepped=stepped,
                newest_epoch=self.line_monitor.epoch,
                no_verdict_as=self._no_verdict_as,
            )
        )
        self._last_enqueued_seq = verdict.seq

    def _set_first_cursor(self, seq: int, epoch: int) -> None:
        """Record the first cursor, so that a restart before the first result skips nothing."""
        self._journal.set_cursor(seq, epoch, self._clock.utc_ns())
        if self._last_enqueued_seq is None:
            self._last_enqueued_seq = seq

    def _resubscribe(self) -> None:
        """Subscribe again, so that the line replays what was not enqueued."""
        self._feed.close()
        self._feed = self._subscribe(self._last_enqueued_seq)
        self._is_backlogged = False

    # -- the PLC --------------------------------------------------------------------

    def _apply_part_policy(self, result: PlcResult) -> PlcResult:
        """Return the result as it may be shown."""
        shown = self._part_policy.apply(result)
        if shown.outcome is not result.outcome:
            self._throttled_log.warning(
                log_events.PART_REJECTED, seq=result.seq, part_id=result.part_id, cause=shown.cause
            )
        return shown

    def _write_image(self) -> None:
        if self._triggers is not None:
            answer = self._triggers.answer
            self.handshake.trigger_ack = answer.trigger_id
            self.handshake.trigger_refused = answer.refused
            self.handshake.trigger_refusal = answer.refusal
        # The part memory may wait for its disk: an image that took too long is made again.
        for _ in range(_IMAGE_ATTEMPTS):
            now_ns = self._clock.now_ns()
            image = self.handshake.update_image(self.line_monitor.status(now_ns), now_ns)
            if self._clock.now_ns() - now_ns <= _IMAGE_AGE_MAX_NS:
                break
        if image is not self._image:
            self._image = image
            self._link.write(image)

    def _show_fail_safe(self) -> None:
        """Show fail-safe and wait up to 300 ms for its delivery."""
        self.line_monitor.set_stopping()
        self._write_image()
        until_ns = self._clock.now_ns() + 300 * NS_PER_MS
        assert self._image is not None
        while self._link.poll().is_connected and self._clock.now_ns() < until_ns:
            if self._link.poll().delivered_revision >= self._image.revision:
                break
            self._clock.sleep_until(self._clock.now_ns() + 5 * NS_PER_MS)
        _log.info(
            log_events.GATEWAY_STOPPED,
            gateway=self.config.gateway,
            cursor=self._journal.cursor,
            waiting=len(self.handshake),
        )

    def _log_started(self) -> None:
        _log.info(
            log_events.GATEWAY_STARTED,
            gateway=self.config.gateway,
            line=self.config.feed.line,
            cursor=self._journal.cursor,
        )

    def _log_changes(self, inputs: PlcInputs) -> None:
        """Log changes of the error code and of the PLC's connection."""
        assert self._image is not None
        was_error, was_problem, was_connected = self._last_logged
        error = self._image.error.name.lower()
        if error != was_error:
            log = _log.info if error == "none" else _log.warning
            log(log_events.PLC_NOTIFIED, error=error, online=self._image.online)
        if inputs.is_connected and not was_connected:
            _log.info(log_events.PLC_CONNECTED, gateway=self.config.gateway)
        elif not inputs.is_connected and (was_connected or inputs.problem != was_problem):
            self._throttled_log.error(log_events.PLC_LOST, problem=inputs.problem)
        self._last_logged = (error, inputs.problem, inputs.is_connected)


def _make_handshake_settings(config: GatewayConfig, link: PlcLink) -> HandshakeSettings:
    return HandshakeSettings(
        acknowledges=link.acknowledges,
        ack_timeout_ns=round(config.ack_timeout_ms * NS_PER_MS),
        buffer_size=config.buffer,
        heartbeat_interval_ns=round(config.heartbeat_ms * NS_PER_MS),
        enable_required=config.enable_required,
    )


def _make_part_policy(
    config: GatewayConfig, link: PlcLink, memory: PartMemory, clock: Clock
) -> PartOutcomePolicy:
    return PartOutcomePolicy(
        memory,
        clock,
        part_id_bytes=link.part_id_bytes,
        inspect_again=config.inspect_again,
        repeats_after_ns=config.part_id_repeats_after_ns,
    )
