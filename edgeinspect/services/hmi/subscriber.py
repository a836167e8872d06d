"""The follower: the page's one ear on the line, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from edgeinspect.client import Beat, Delivered, Event, Feed, Lost, Renumbered
from edgeinspect.domain.clock import NS_PER_S, Clock
from edgeinspect.errors import DataError, ForgedError
from edgeinspect.services.hmi.alarm_remedies import FORGED, WIRE
from edgeinspect.services.hmi.drift import Drift
from edgeinspect.services.hmi.frame_cache import Pictures
from edgeinspect.services.hmi.ledger_history import History
from edgeinspect.services.hmi.line_state import Board
from edgeinspect.services.hmi.metrics import Measures
from edgeinspect.services.hmi.shift_counters import Shift
from edgeinspect.system import log_events
from edgeinspect.system.log import RateLimited
from edgeinspect.wire.messages import decode_verdict

_log = structlog.get_logger()
_AGAIN_NS = 10 * NS_PER_S
_KNOWN_REJECTS = 12


class Follower:
    """Hears the line and tells board, pictures, drift and measures. `run` is its thread."""

    def __init__(
        self,
        *,
        subscribe: Callable[[int | None], Feed],
        history: History,
        board: Board,
        pictures: Pictures,
        drift: Drift,
        measures: Measures,
        bounds: Callable[[int], tuple[int, int]],
        reference_frames: int,
        clock: Clock,
    ) -> None:
        """Nothing is heard yet.

        Args:
            subscribe: Makes the feed, from a cursor.
            history: The ledger, for what was before.
            board: Told everything.
            pictures: Shown every verdict.
            drift: Told every score.
            measures: Told every verdict.
            bounds: UTC ns to its shift.
            reference_frames: Scores asked of the ledger for the drift's reference.
            clock: For the pauses between looks into the ledger.
        """
        self._subscribe = subscribe
        self._history = history
        self._board = board
        self._pictures = pictures
        self._drift = drift
        self._measures = measures
        self._bounds = bounds
        self._reference_frames = reference_frames
        self._clock = clock
        self._look_at_ns = 0
        self._limited = RateLimited(_log, clock, NS_PER_S)
        self._stop = threading.Event()

    def run(self) -> None:
        """The thread, until `stop`."""
        feed = self._subscribe(self._learn())
        try:
            while not self._stop.is_set():
                try:
                    event = feed.receive(50)
                except DataError as error:
                    forged = isinstance(error, ForgedError)
                    self._board.break_wire(FORGED if forged else WIRE)
                    name = log_events.LINE_FORGED if forged else log_events.WIRE_BROKEN
                    self._limited.error(name, problem=str(error))
                    continue
                if event is not None:
                    self._hear(event)
                if self._board.needs_ledger():
                    self._look_again()
        finally:
            feed.close()

    def stop(self) -> None:
        """End the thread within some 50 ms."""
        self._stop.set()

    def _learn(self) -> int | None:
        """Take from the ledger what was before; returns the last seq it knows."""
        if not self._history.kept:
            return None
        try:
            shift = self._shift()
            last = self._history.load(shift)
            self._board.learn(self._history.events(500))
            for body in reversed(self._history.bodies("REJECT", _KNOWN_REJECTS)):
                self._board.recall(decode_verdict(body), body)
            self._board.begin(shift, last or 0)
        except DataError as error:
            _log.warning(
                log_events.LEDGER_FAILED, problem=str(error), where=str(self._history.path)
            )
            return None
        return last

    def _look_again(self) -> None:
        """Verdicts that the wire has lost may stand in the ledger."""
        now_ns = self._clock.now_ns()
        if now_ns < self._look_at_ns or not self._history.kept:
            return
        self._look_at_ns = now_ns + _AGAIN_NS
        shift = self._shift()
        try:
            last = self._history.load(shift)
        except DataError:
            return
        self._board.begin(shift, last or 0)

    def _shift(self) -> Shift:
        return Shift(*self._bounds(self._clock.utc_ns()))

    def _hear(self, event: Event) -> None:
        if isinstance(event, Delivered):
            verdict = event.verdict
            self._board.take(verdict, event.body, replayed=event.replayed)
            self._measures.take(verdict)
            if not event.replayed:
                self._pictures.see(verdict, event.mask)
            gate, score = verdict.gate, verdict.defect_prob
            if gate is None or score is None or verdict.simulated:
                return
            if not self._drift.take(gate.sha256, score):
                self._drift.begin(gate.sha256, self._earlier(gate.sha256))
                self._drift.take(gate.sha256, score)
        elif isinstance(event, Beat):
            self._board.hear(event.message)
        elif isinstance(event, Lost):
            self._board.lose(event.from_seq, event.to_seq)
        elif isinstance(event, Renumbered):
            self._board.renumber()
            self._pictures.forget()

    def _earlier(self, sha256: str) -> list[float]:
        """The gate's first scores on this line; what is short of them comes from here on."""
        if not self._history.kept:
            return []
        try:
            return list(self._history.gate_scores(sha256, self._reference_frames))
        except DataError:
            return []
