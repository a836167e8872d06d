"""The thread that receives the line's messages and updates state, metrics, drift and frames."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from edgeinspect.client import (
    FeedEvent,
    SequenceReset,
    StatusReceived,
    VerdictFeed,
    VerdictReceived,
    VerdictsLost,
)
from edgeinspect.domain import NS_PER_S, Clock
from edgeinspect.errors import DataError, ImpersonationError
from edgeinspect.services.hmi.alarm_remedies import FORGED_MESSAGES, WIRE_VERSION_MISMATCH
from edgeinspect.services.hmi.drift import DriftMonitor
from edgeinspect.services.hmi.frame_cache import FrameCache
from edgeinspect.services.hmi.ledger_history import LedgerHistory
from edgeinspect.services.hmi.line_state import LineState
from edgeinspect.services.hmi.metrics import Metrics
from edgeinspect.system import RateLimitedLogger, log_events
from edgeinspect.wire import decode_verdict

_log = structlog.get_logger()
_RELOAD_PERIOD_NS = 10 * NS_PER_S
_MAX_PAST_REJECTS = 12


class LineSubscriber:
    """Receives the line's messages in the thread of `run`."""

    def __init__(
        self,
        *,
        make_feed: Callable[[int | None], VerdictFeed],
        history: LedgerHistory,
        line_state: LineState,
        frame_cache: FrameCache,
        drift: DriftMonitor,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """Connect in `run`, not here.

        Args:
            make_feed: Connects a feed that starts at a cursor.
            history: The ledger, for verdicts before the start.
            line_state: Receives every event.
            frame_cache: Receives every live verdict.
            drift: Receives every gate score.
            metrics: Receives every verdict.
            clock: Limits how often the ledger is read.
        """
        self._make_feed = make_feed
        self._history = history
        self._line_state = line_state
        self._frame_cache = frame_cache
        self._drift = drift
        self._metrics = metrics
        self._clock = clock
        self._reload_at_ns = 0
        self._throttled_log = RateLimitedLogger(_log, clock, NS_PER_S)
        self._stop = threading.Event()

    def run(self) -> None:
        """The thread, until `stop`."""
        feed = self._make_feed(self._load_history())
        try:
            while not self._stop.is_set():
                try:
                    event = feed.receive(50)
                except DataError as error:
                    is_forged = isinstance(error, ImpersonationError)
                    self._line_state.on_protocol_error(
                        FORGED_MESSAGES if is_forged else WIRE_VERSION_MISMATCH
                    )
                    name = log_events.LINE_FORGED if is_forged else log_events.WIRE_BROKEN
                    self._throttled_log.error(name, problem=str(error))
                    continue
                if event is not None:
                    self._on_event(event)
                if self._line_state.should_read_ledger():
                    self._reload_shift()
        finally:
            feed.close()

    def stop(self) -> None:
        """End the thread within about 50 ms."""
        self._stop.set()

    def _load_history(self) -> int | None:
        """Load shift, alarms and rejects from the ledger; return its last seq."""
        if not self._history.has_ledger:
            return None
        try:
            shift = self._line_state.new_shift()
            last = self._history.count_shift(shift)
            self._line_state.load_alarms(self._history.events(500))
            for body in reversed(self._history.newest_verdicts_json("REJECT", _MAX_PAST_REJECTS)):
                self._line_state.add_past_reject(decode_verdict(body), body)
            self._line_state.set_shift(shift, last or 0)
        except DataError as error:
            _log.warning(
                log_events.LEDGER_FAILED, problem=str(error), where=str(self._history.path)
            )
            return None
        return last

    def _reload_shift(self) -> None:
        """Count the shift from the ledger again: it may have verdicts that were not received."""
        now_ns = self._clock.now_ns()
        if now_ns < self._reload_at_ns or not self._history.has_ledger:
            return
        self._reload_at_ns = now_ns + _RELOAD_PERIOD_NS
        shift = self._line_state.new_shift()
        try:
            last = self._history.count_shift(shift)
        except DataError:
            return
        self._line_state.set_shift(shift, last or 0)

    def _on_event(self, event: FeedEvent) -> None:
        if isinstance(event, VerdictReceived):
            verdict = event.verdict
            self._line_state.on_verdict(verdict, event.body, replayed=event.replayed)
            self._metrics.on_verdict(verdict)
            if not event.replayed:
                self._frame_cache.on_verdict(verdict, event.mask)
            gate, score = verdict.gate, verdict.defect_prob
            if gate is None or score is None or verdict.simulated:
                return
            if not self._drift.add_score(gate.sha256, score):
                self._drift.start_model(gate.sha256, self._first_scores(gate.sha256))
                self._drift.add_score(gate.sha256, score)
        elif isinstance(event, StatusReceived):
            self._line_state.on_heartbeat(event.message)
        elif isinstance(event, VerdictsLost):
            self._line_state.on_lost(event.from_seq, event.to_seq)
        elif isinstance(event, SequenceReset):
            self._line_state.on_sequence_reset()
            self._frame_cache.clear()

    def _first_scores(self, sha256: str) -> list[float]:
        """Return the first scores of a gate on this line from the ledger, as far as it has them."""
        if not self._history.has_ledger:
            return []
        try:
            return list(self._history.first_gate_scores(sha256, self._drift.reference_frames))
        except DataError:
            return []
