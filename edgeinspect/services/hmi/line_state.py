"""The board: what is known of the line at this moment. Filled by the follower, read by all."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from edgeinspect.domain import NS_PER_MS, NS_PER_S, Clock, Decision, StageTimes, Verdict
from edgeinspect.services.hmi.alarm_log import AlarmLog
from edgeinspect.services.hmi.alarm_remedies import DAEMON_SILENT, remedy_for
from edgeinspect.services.hmi.shift_counters import ShiftCounters
from edgeinspect.storage.ledger import StoredEvent
from edgeinspect.wire import Heartbeat, Status

_MAX_VERDICTS = 2_000
_LATENCY_WINDOW_FRAMES = 600
_MAX_REJECTS = 24
_STARTUP_GRACE_NS = 3 * NS_PER_S
WAITING_FOR_DAEMON = "this page has just begun to listen"


@dataclass(frozen=True, slots=True)
class LineStatus:
    """Is the line inspected now?"""

    state: str
    """`inspecting`, `alarm` (inspecting, and a person must look) or `not_inspected`."""
    reason: str
    """In words; empty while all is well."""
    silence_ms: int | None
    """Since the last sign of life; None if there never was one."""
    is_acknowledged: bool
    """True if the alarm that stands has been acknowledged."""


@dataclass(frozen=True, slots=True)
class _CountedVerdict:
    """What the shift counts of a verdict."""

    seq: int
    at_utc_ns: int
    decision: str
    reason: str
    classes: tuple[str, ...]
    simulated: bool


class LineState:
    """Thread-safe; nothing in it waits."""

    def __init__(
        self,
        line: str,
        *,
        clock: Clock,
        silence_timeout_ns: int,
        shift_bounds: Callable[[int], tuple[int, int]],
        service_alarm: Callable[[], str] = lambda: "",
    ) -> None:
        """Nothing heard yet.

        Args:
            line: The line's name.
            clock: Silence is measured on it.
            silent_ns: Silence after which nobody inspects.
            bounds: UTC ns to the (start, end) of its shift.
            beside: An alarm of what works beside the line; it waits for the line's own.
        """
        self.line = line
        self.latest_status: Status | None = None
        """The newest status."""
        self.lost_verdicts = 0
        """Verdicts that nobody holds any more."""
        self.verdict_counts: Counter[tuple[str, str]] = Counter()
        """Verdicts heard, by camera and reason."""
        self._clock = clock
        self._silence_timeout_ns = silence_timeout_ns
        self._started_at_ns = clock.now_ns()
        self._shift_bounds = shift_bounds
        self._service_alarm = service_alarm
        self._lock = threading.Lock()
        self._shift = ShiftCounters(*shift_bounds(clock.utc_ns()))
        self._alarms = AlarmLog(line)
        self._last_heartbeat_at_ns: int | None = None
        self._last_heartbeat: Heartbeat | None = None
        self._protocol_alarm = ""
        self._last_verdict: Verdict | None = None
        self._recent_verdicts: deque[_CountedVerdict] = deque(maxlen=_MAX_VERDICTS)
        self._verdicts_json: dict[int, bytes] = {}
        self._stage_times: deque[StageTimes] = deque(maxlen=_LATENCY_WINDOW_FRAMES)
        self._rejects: deque[Verdict] = deque(maxlen=_MAX_REJECTS)
        self._state_since_ms = clock.utc_ns() // NS_PER_MS
        self._state = ""

    # -- filled by the follower -----------------------------------------------------------

    def load_alarms(self, events: Iterable[StoredEvent]) -> None:
        """Alarms that a ledger knows of."""
        with self._lock:
            self._alarms.load(events)

    def add_past_reject(self, verdict: Verdict, body: bytes) -> None:
        """A reject of earlier, for the strip; it is not counted."""
        with self._lock:
            self._rejects.append(verdict)
            self._verdicts_json[verdict.seq] = body

    def set_shift(self, shift: ShiftCounters, last_seq: int) -> None:
        """Count on from what a ledger has of the shift, up to a seq."""
        with self._lock:
            if shift.start_utc_ns != self._shift.start_utc_ns:
                return
            for judged in self._recent_verdicts:
                if judged.seq > last_seq and judged.seq >= self._shift.first_seq:
                    _count_in_shift(shift, judged)
            self._shift = shift

    def on_heartbeat(self, message: Heartbeat | Status) -> None:
        """One heartbeat or status of the newest epoch."""
        now_ns = self._clock.now_ns()
        with self._lock:
            self._protocol_alarm = ""
            if isinstance(message, Status):
                self.latest_status = message
                return
            self._last_heartbeat_at_ns = now_ns
            self._last_heartbeat = message

    def on_verdict(self, verdict: Verdict, body: bytes, *, replayed: bool) -> None:
        """One verdict, in order."""
        judged = _CountedVerdict(
            verdict.seq,
            verdict.captured_at_utc_ns,
            verdict.decision.value,
            verdict.reason.value,
            tuple(sorted({region.class_name for region in verdict.regions if region.fatal})),
            verdict.simulated,
        )
        with self._lock:
            self.verdict_counts[verdict.camera, judged.reason] += 1
            if judged.at_utc_ns >= self._shift.end_utc_ns:
                self._shift = ShiftCounters(*self._shift_bounds(judged.at_utc_ns))
            # Captured before the shift: it belongs to the one that was, unless this has begun.
            if judged.at_utc_ns >= self._shift.start_utc_ns or self._shift.first_seq:
                _count_in_shift(self._shift, judged)
            if len(self._recent_verdicts) == self._recent_verdicts.maxlen:
                self._verdicts_json.pop(self._recent_verdicts[0].seq, None)
            self._recent_verdicts.append(judged)
            self._verdicts_json[verdict.seq] = body
            self._last_verdict = verdict
            decided = verdict.decision is not Decision.NO_VERDICT
            if decided and verdict.stages.total_us and not replayed:
                self._stage_times.append(verdict.stages)
            if verdict.decision is Decision.REJECT:
                self._rejects.append(verdict)

    def on_lost(self, from_seq: int, to_seq: int) -> None:
        """Verdicts that nobody holds any more."""
        with self._lock:
            self.lost_verdicts += to_seq - from_seq + 1
            self._shift.unknown_verdicts += to_seq - from_seq + 1
            self._shift.last_seq = max(self._shift.last_seq, to_seq)
            self._shift.first_seq = self._shift.first_seq or from_seq

    def on_sequence_reset(self) -> None:
        """The line counts anew: what was heard under the same numbers is another's."""
        with self._lock:
            self._shift = ShiftCounters(*self._shift_bounds(self._clock.utc_ns()))
            self._recent_verdicts.clear()
            self._verdicts_json.clear()
            self._rejects.clear()

    def on_protocol_error(self, alarm: str) -> None:
        """What came cannot be read (`WIRE`), or is not the line's (`FORGED`)."""
        with self._lock:
            self._protocol_alarm = alarm

    def acknowledge(self, actor: str) -> None:
        """Somebody has seen the alarm that stands."""
        with self._lock:
            self._alarms.acknowledge(actor, self._clock.utc_ns())

    # -- read by all ------------------------------------------------------------------------

    @property
    def first_seq(self) -> int:
        """First seq of the shift; 0 before there is one."""
        return self._shift.first_seq

    def should_read_ledger(self) -> bool:
        """True if the ledger may know better than the wire what the shift had."""
        return self._shift.unknown_verdicts > 0

    def current_status(self) -> LineStatus:
        """What is true now; also keeps the alarms."""
        with self._lock:
            now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
            heard_ns = self._last_heartbeat_at_ns
            silent_ms = None if heard_ns is None else (now_ns - heard_ns) // NS_PER_MS
            silent = heard_ns is None or now_ns - heard_ns >= self._silence_timeout_ns
            beat = self._last_heartbeat
            if self._protocol_alarm:
                state, alarm = "not_inspected", self._protocol_alarm
            elif heard_ns is None and now_ns < self._started_at_ns + _STARTUP_GRACE_NS:
                state, alarm = "not_inspected", ""  # the page itself has just been started
            elif silent or beat is None:
                state, alarm = "not_inspected", DAEMON_SILENT
            elif not beat.inspecting:
                state, alarm = "not_inspected", beat.alarm
            else:
                alarm = beat.alarm or self._service_alarm()
                state = "alarm" if alarm else "inspecting"
            self._alarms.update(alarm, utc_ns)
            if state != self._state:
                self._state, self._state_since_ms = state, utc_ns // NS_PER_MS
            raised = self._alarms.active
            why = alarm
            if state == "not_inspected" and not alarm:
                why = (
                    WAITING_FOR_DAEMON
                    if heard_ns is None
                    else "the daemon says so: no camera delivers"
                )
            return LineStatus(state, why, silent_ms, bool(raised and raised.acknowledged_by))

    def heartbeat_payload(self) -> dict[str, Any]:
        """What is told several times a second."""
        standing = self.current_status()
        last = self._last_verdict
        return {
            "state": standing.state,
            "why": standing.reason,
            "remedy": remedy_for(standing.reason, self.line) if standing.reason else "",
            "silent_ms": standing.silence_ms,
            "silent_after_ms": self._silence_timeout_ns // NS_PER_MS,
            "seen": standing.is_acknowledged,
            "since_ms": self._state_since_ms,
            "now_ms": self._clock.utc_ns() // NS_PER_MS,
            "last": None if last is None else _verdict_summary(last),
        }

    def shift_payload(self) -> dict[str, Any]:
        """The counters of the shift."""
        with self._lock:
            return self._shift.payload()

    def trend_payload(self) -> dict[str, Any]:
        """The shift in pieces."""
        with self._lock:
            return self._shift.trend_payload()

    def alarms_payload(self) -> list[dict[str, Any]]:
        """The newest first."""
        with self._lock:
            return self._alarms.to_list()

    def rejects_payload(self) -> list[dict[str, Any]]:
        """The newest first."""
        with self._lock:
            return [_verdict_summary(verdict) for verdict in reversed(self._rejects)]

    def verdict_json(self, seq: int) -> bytes | None:
        """The JSON of a verdict heard lately."""
        return self._verdicts_json.get(seq)

    def stage_times(self) -> list[StageTimes]:
        """Stage times of the newest frames that an engine judged."""
        with self._lock:
            return list(self._stage_times)


def _count_in_shift(shift: ShiftCounters, verdict: _CountedVerdict) -> None:
    shift.count_verdict(
        verdict.seq,
        verdict.at_utc_ns,
        verdict.decision,
        verdict.reason,
        verdict.classes,
        simulated=verdict.simulated,
    )


def _verdict_summary(verdict: Verdict) -> dict[str, Any]:
    """A verdict in a few words."""
    names = dict.fromkeys(region.class_name for region in verdict.regions if region.fatal)
    return {
        "seq": verdict.seq,
        "camera": verdict.camera,
        "at_ms": verdict.captured_at_utc_ns // NS_PER_MS,
        "decision": verdict.decision.value,
        "reason": verdict.reason.value,
        "classes": list(names),
        "part_id": verdict.part_id,
        "label": verdict.label,
        "simulated": verdict.simulated,
        "prob": verdict.defect_prob,
    }
