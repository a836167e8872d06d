"""The current state of the line, written by the subscriber thread and read by all."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeinspect.domain import (
    NS_PER_MS,
    NS_PER_S,
    AlarmCode,
    Clock,
    Decision,
    StageTimes,
    Verdict,
    alarm_code,
)
from edgeinspect.services.hmi.alarm_log import AlarmLog
from edgeinspect.services.hmi.alarm_remedies import DAEMON_SILENT, remedy_for
from edgeinspect.services.hmi.shift_counters import ShiftCounters
from edgeinspect.storage.ledger import StoredEvent
from edgeinspect.wire import Heartbeat, Status

_MAX_VERDICTS = 2_000
_LATENCY_WINDOW_FRAMES = 600
_MAX_REJECTS = 24
_STARTUP_GRACE_NS = 3 * NS_PER_S
WAITING_FOR_DAEMON = "the HMI has just started"
NO_CAMERA = "no camera delivers frames"


@dataclass(frozen=True, slots=True)
class InspectionStatus:
    """Whether the line is inspected now, and why not."""

    state: str
    """`inspecting`, `alarm` (inspecting, with an active alarm) or `not_inspected`."""
    reason: str
    """The alarm or another reason; empty while there is none."""
    remedy: str
    """What the operator does about it; empty without a reason."""
    silence_ms: int | None
    """Time since the last heartbeat; None before the first."""
    is_acknowledged: bool
    """True if the active alarm has been acknowledged."""


@dataclass(frozen=True, slots=True)
class _CountedVerdict:
    """The fields of a verdict that the shift counters use."""

    seq: int
    at_utc_ns: int
    decision: str
    reason: str
    classes: tuple[str, ...]
    simulated: bool


class LineState:
    """State, shift counters, alarms and newest verdicts of one line. Thread-safe; never waits."""

    def __init__(
        self,
        line: str,
        *,
        clock: Clock,
        silence_timeout_ns: int,
        shift_bounds: Callable[[int], tuple[int, int]],
        service_alarm: Callable[[], str] = lambda: "",
    ) -> None:
        """Start without any message.

        Args:
            line: The line's name.
            clock: Measures silence.
            silence_timeout_ns: Silence after which the line counts as not inspected.
            shift_bounds: UTC ns to the (start, end) of its shift.
            service_alarm: Alarm of archive or certificate; shown while the line has none.
        """
        self.line = line
        self.latest_status: Status | None = None
        """The newest status message."""
        self.lost_verdicts = 0
        """Verdicts that could not be received."""
        self.verdict_counts: Counter[tuple[str, str]] = Counter()
        """Received verdicts by (camera, reason)."""
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

    # -- written by the subscriber --------------------------------------------------------

    def load_alarms(self, events: Iterable[StoredEvent]) -> None:
        """Load alarms from ledger events."""
        with self._lock:
            self._alarms.load(events)

    def add_past_reject(self, verdict: Verdict, body: bytes) -> None:
        """Add an earlier reject to the list of rejects, without counting it."""
        with self._lock:
            self._rejects.append(verdict)
            self._verdicts_json[verdict.seq] = body

    def set_shift(self, shift: ShiftCounters, last_seq: int) -> None:
        """Replace the shift counters by those of the ledger, which reach to `last_seq`."""
        with self._lock:
            if shift.start_utc_ns != self._shift.start_utc_ns:
                return
            for counted in self._recent_verdicts:
                if counted.seq > last_seq and counted.seq >= self._shift.first_seq:
                    _count_in_shift(shift, counted)
            self._shift = shift

    def on_heartbeat(self, message: Heartbeat | Status) -> None:
        """Handle a heartbeat or status."""
        now_ns = self._clock.now_ns()
        with self._lock:
            self._protocol_alarm = ""
            if isinstance(message, Status):
                self.latest_status = message
                return
            self._last_heartbeat_at_ns = now_ns
            self._last_heartbeat = message

    def on_verdict(self, verdict: Verdict, body: bytes, *, replayed: bool) -> None:
        """Handle one verdict, in order of seq."""
        counted = _CountedVerdict(
            verdict.seq,
            verdict.captured_at_utc_ns,
            verdict.decision.value,
            verdict.reason.value,
            verdict.reject_classes,
            verdict.simulated,
        )
        with self._lock:
            self.verdict_counts[verdict.camera, counted.reason] += 1
            if counted.at_utc_ns >= self._shift.end_utc_ns:
                self._shift = ShiftCounters(*self._shift_bounds(counted.at_utc_ns))
            # A frame captured before the shift counts only once the shift has its first frame.
            if counted.at_utc_ns >= self._shift.start_utc_ns or self._shift.first_seq:
                _count_in_shift(self._shift, counted)
            if len(self._recent_verdicts) == self._recent_verdicts.maxlen:
                self._verdicts_json.pop(self._recent_verdicts[0].seq, None)
            self._recent_verdicts.append(counted)
            self._verdicts_json[verdict.seq] = body
            self._last_verdict = verdict
            decided = verdict.decision is not Decision.NO_VERDICT
            if decided and verdict.stages.total_us and not replayed:
                self._stage_times.append(verdict.stages)
            if verdict.decision is Decision.REJECT:
                self._rejects.append(verdict)

    def on_lost(self, from_seq: int, to_seq: int) -> None:
        """Handle a gap: verdicts that can no longer be received."""
        with self._lock:
            self.lost_verdicts += to_seq - from_seq + 1
            self._shift.unknown_verdicts += to_seq - from_seq + 1
            self._shift.last_seq = max(self._shift.last_seq, to_seq)
            self._shift.first_seq = self._shift.first_seq or from_seq

    def on_sequence_reset(self) -> None:
        """Forget all verdicts: the line numbers its frames from 1 again."""
        with self._lock:
            self._shift = self.new_shift()
            self._recent_verdicts.clear()
            self._verdicts_json.clear()
            self._rejects.clear()

    def on_protocol_error(self, alarm: str) -> None:
        """Set the alarm for messages that are unreadable or forged, until the next valid one."""
        with self._lock:
            self._protocol_alarm = alarm

    def acknowledge(self, actor: str) -> None:
        """Mark the active alarm as acknowledged."""
        with self._lock:
            self._alarms.acknowledge(actor, self._clock.utc_ns())

    # -- read by any thread -----------------------------------------------------------------

    @property
    def first_seq(self) -> int:
        """First seq of the shift; 0 before the first frame."""
        return self._shift.first_seq

    def new_shift(self) -> ShiftCounters:
        """Return empty counters of the current shift."""
        return ShiftCounters(*self._shift_bounds(self._clock.utc_ns()))

    def should_read_ledger(self) -> bool:
        """True if the shift lacks verdicts that the ledger may have."""
        return self._shift.unknown_verdicts > 0

    def current_status(self) -> InspectionStatus:
        """Return the status now; also updates the alarm log."""
        with self._lock:
            now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
            last_ns, heartbeat = self._last_heartbeat_at_ns, self._last_heartbeat
            silence_ms = None if last_ns is None else (now_ns - last_ns) // NS_PER_MS
            is_silent = last_ns is None or now_ns - last_ns >= self._silence_timeout_ns
            if self._protocol_alarm:
                state, alarm = "not_inspected", self._protocol_alarm
            elif last_ns is None and now_ns < self._started_at_ns + _STARTUP_GRACE_NS:
                state, alarm = "not_inspected", ""  # the HMI has just started
            elif is_silent or heartbeat is None:
                state, alarm = "not_inspected", DAEMON_SILENT
            elif not heartbeat.inspecting:
                state, alarm = "not_inspected", heartbeat.alarm
            else:
                alarm = heartbeat.alarm or self._service_alarm()
                state = "alarm" if alarm else "inspecting"
            self._alarms.update(alarm, utc_ns)
            if state != self._state:
                self._state, self._state_since_ms = state, utc_ns // NS_PER_MS
            active, reason, code = self._alarms.active, alarm, alarm_code(alarm)
            if state == "not_inspected" and not alarm:
                reason = WAITING_FOR_DAEMON if last_ns is None else NO_CAMERA
                code = AlarmCode.OTHER if last_ns is None else AlarmCode.CAMERA_LOST
            remedy = remedy_for(code, self.line) if reason else ""
            is_acknowledged = active is not None and bool(active.acknowledged_by)
            return InspectionStatus(state, reason, remedy, silence_ms, is_acknowledged)

    def heartbeat_payload(self) -> dict[str, Any]:
        """Return the payload that browsers get several times a second."""
        status, last = self.current_status(), self._last_verdict
        return {
            "state": status.state,
            "why": status.reason,
            "remedy": status.remedy,
            "silent_ms": status.silence_ms,
            "silent_after_ms": self._silence_timeout_ns // NS_PER_MS,
            "seen": status.is_acknowledged,
            "since_ms": self._state_since_ms,
            "now_ms": self._clock.utc_ns() // NS_PER_MS,
            "last": None if last is None else _verdict_summary(last),
        }

    def shift_payload(self) -> dict[str, Any]:
        """Return the counters of the shift."""
        with self._lock:
            return self._shift.payload()

    def trend_payload(self) -> dict[str, Any]:
        """Return the shift in quarters of an hour."""
        with self._lock:
            return self._shift.trend_payload()

    def alarms_payload(self) -> list[dict[str, Any]]:
        """Return the alarms, the newest first."""
        with self._lock:
            return self._alarms.to_list()

    def rejects_payload(self) -> list[dict[str, Any]]:
        """Return summaries of the newest rejects, the newest first."""
        with self._lock:
            return [_verdict_summary(verdict) for verdict in reversed(self._rejects)]

    def verdict_json(self, seq: int) -> bytes | None:
        """Return the JSON of a recent verdict."""
        return self._verdicts_json.get(seq)

    def stage_times(self) -> list[StageTimes]:
        """Return the stage times of the newest frames that an engine inspected."""
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
    """Return the fields of a verdict for lists."""
    names = dict.fromkeys(region.class_name for region in verdict.regions if region.fatal)
    if verdict.kind_name:
        names[verdict.kind_name] = None
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
        **({"review": True} if verdict.needs_review else {}),
    }


def latency_payload(stage_times: Sequence[StageTimes], budget_us: int) -> dict[str, Any]:
    """Return median, p99 and maximum latency, and the mean time of each stage."""
    if not stage_times:
        return {"frames": 0, "budget_us": budget_us}
    names = ["queue", "gate", "segmenter", "regions"]
    if any(isinstance(each.unknown_us, int) for each in stage_times):
        names.append("unknown")
    totals = sorted(each.total_us for each in stage_times)
    count = len(totals)
    return {
        "frames": count,
        "budget_us": budget_us,
        "p50_us": totals[count // 2],
        "p99_us": totals[min(count - 1, count * 99 // 100)],
        "max_us": totals[-1],
        "stages_us": {
            name: sum(getattr(each, f"{name}_us") or 0 for each in stage_times) // count
            for name in names
        },
    }
