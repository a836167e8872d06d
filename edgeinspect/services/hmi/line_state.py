"""The board: what is known of the line at this moment. Filled by the follower, read by all."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S, Clock
from edgeinspect.domain.verdict import Decision, StageTimes, Verdict
from edgeinspect.services.hmi.alarm_log import Alarms
from edgeinspect.services.hmi.alarm_remedies import SILENT, remedy
from edgeinspect.services.hmi.shift_counters import Shift
from edgeinspect.storage.ledger.query import Event
from edgeinspect.wire.messages import Heartbeat, Status

_KEPT_BODIES = 2_000
_WINDOW = 600
_KEPT_REJECTS = 24
_PATIENCE_NS = 3 * NS_PER_S
WAITING = "this page has just begun to listen"


@dataclass(frozen=True, slots=True)
class Standing:
    """Is the line inspected now?"""

    state: str
    """`inspecting`, `alarm` (inspecting, and a person must look) or `not_inspected`."""
    why: str
    """In words; empty while all is well."""
    silent_ms: int | None
    """Since the last sign of life; None if there never was one."""
    seen: bool
    """True if the alarm that stands has been acknowledged."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the shift counts of a verdict."""

    seq: int
    at_utc_ns: int
    decision: str
    reason: str
    classes: tuple[str, ...]
    simulated: bool


class Board:
    """Thread-safe; nothing in it waits."""

    def __init__(
        self,
        line: str,
        *,
        clock: Clock,
        silent_ns: int,
        bounds: Callable[[int], tuple[int, int]],
        beside: Callable[[], str] = lambda: "",
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
        self.status: Status | None = None
        """The newest status."""
        self.lost = 0
        """Verdicts that nobody holds any more."""
        self.verdicts: Counter[tuple[str, str]] = Counter()
        """Verdicts heard, by camera and reason."""
        self._clock = clock
        self._silent_ns = silent_ns
        self._begun_at_ns = clock.now_ns()
        self._bounds = bounds
        self._beside = beside
        self._lock = threading.Lock()
        self._shift = Shift(*bounds(clock.utc_ns()))
        self._alarms = Alarms(line)
        self._heard_at_ns: int | None = None
        self._beat: Heartbeat | None = None
        self._broken = ""
        self._last: Verdict | None = None
        self._judged: deque[_Judged] = deque(maxlen=_KEPT_BODIES)
        self._bodies: dict[int, bytes] = {}
        self._times: deque[StageTimes] = deque(maxlen=_WINDOW)
        self._rejects: deque[Verdict] = deque(maxlen=_KEPT_REJECTS)
        self._state_since_ms = clock.utc_ns() // NS_PER_MS
        self._state = ""

    # -- filled by the follower -----------------------------------------------------------

    def learn(self, events: Iterable[Event]) -> None:
        """Alarms that a ledger knows of."""
        with self._lock:
            self._alarms.learn(events)

    def recall(self, verdict: Verdict, body: bytes) -> None:
        """A reject of earlier, for the strip; it is not counted."""
        with self._lock:
            self._rejects.append(verdict)
            self._bodies[verdict.seq] = body

    def begin(self, shift: Shift, last_seq: int) -> None:
        """Count on from what a ledger has of the shift, up to a seq."""
        with self._lock:
            if shift.start_utc_ns != self._shift.start_utc_ns:
                return
            for judged in self._judged:
                if judged.seq > last_seq and judged.seq >= self._shift.first_seq:
                    _count(shift, judged)
            self._shift = shift

    def hear(self, beat: Heartbeat | Status) -> None:
        """One heartbeat or status of the newest epoch."""
        now_ns = self._clock.now_ns()
        with self._lock:
            self._broken = ""
            if isinstance(beat, Status):
                self.status = beat
                return
            self._heard_at_ns = now_ns
            self._beat = beat

    def take(self, verdict: Verdict, body: bytes, *, replayed: bool) -> None:
        """One verdict, in order."""
        judged = _Judged(
            verdict.seq,
            verdict.captured_at_utc_ns,
            verdict.decision.value,
            verdict.reason.value,
            tuple(sorted({region.class_name for region in verdict.regions if region.fatal})),
            verdict.simulated,
        )
        with self._lock:
            self.verdicts[verdict.camera, judged.reason] += 1
            if judged.at_utc_ns >= self._shift.end_utc_ns:
                self._shift = Shift(*self._bounds(judged.at_utc_ns))
            # Captured before the shift: it belongs to the one that was, unless this has begun.
            if judged.at_utc_ns >= self._shift.start_utc_ns or self._shift.first_seq:
                _count(self._shift, judged)
            if len(self._judged) == self._judged.maxlen:
                self._bodies.pop(self._judged[0].seq, None)
            self._judged.append(judged)
            self._bodies[verdict.seq] = body
            self._last = verdict
            decided = verdict.decision is not Decision.NO_VERDICT
            if decided and verdict.stages.total_us and not replayed:
                self._times.append(verdict.stages)
            if verdict.decision is Decision.REJECT:
                self._rejects.append(verdict)

    def lose(self, from_seq: int, to_seq: int) -> None:
        """Verdicts that nobody holds any more."""
        with self._lock:
            self.lost += to_seq - from_seq + 1
            self._shift.unknown += to_seq - from_seq + 1
            self._shift.last_seq = max(self._shift.last_seq, to_seq)
            self._shift.first_seq = self._shift.first_seq or from_seq

    def renumber(self) -> None:
        """The line counts anew: what was heard under the same numbers is another's."""
        with self._lock:
            self._shift = Shift(*self._bounds(self._clock.utc_ns()))
            self._judged.clear()
            self._bodies.clear()
            self._rejects.clear()

    def break_wire(self, alarm: str) -> None:
        """What came cannot be read (`WIRE`), or is not the line's (`FORGED`)."""
        with self._lock:
            self._broken = alarm

    def acknowledge(self, actor: str) -> None:
        """Somebody has seen the alarm that stands."""
        with self._lock:
            self._alarms.acknowledge(actor, self._clock.utc_ns())

    # -- read by all ------------------------------------------------------------------------

    @property
    def first_seq(self) -> int:
        """First seq of the shift; 0 before there is one."""
        return self._shift.first_seq

    def needs_ledger(self) -> bool:
        """True if the ledger may know better than the wire what the shift had."""
        return self._shift.unknown > 0

    def standing(self) -> Standing:
        """What is true now; also keeps the alarms."""
        with self._lock:
            now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
            heard_ns = self._heard_at_ns
            silent_ms = None if heard_ns is None else (now_ns - heard_ns) // NS_PER_MS
            silent = heard_ns is None or now_ns - heard_ns >= self._silent_ns
            beat = self._beat
            if self._broken:
                state, alarm = "not_inspected", self._broken
            elif heard_ns is None and now_ns < self._begun_at_ns + _PATIENCE_NS:
                state, alarm = "not_inspected", ""  # the page itself has just been started
            elif silent or beat is None:
                state, alarm = "not_inspected", SILENT
            elif not beat.inspecting:
                state, alarm = "not_inspected", beat.alarm
            else:
                alarm = beat.alarm or self._beside()
                state = "alarm" if alarm else "inspecting"
            self._alarms.tell(alarm, utc_ns)
            if state != self._state:
                self._state, self._state_since_ms = state, utc_ns // NS_PER_MS
            raised = self._alarms.standing
            why = alarm
            if state == "not_inspected" and not alarm:
                why = WAITING if heard_ns is None else "the daemon says so: no camera delivers"
            return Standing(state, why, silent_ms, bool(raised and raised.acknowledged_by))

    def beat_dict(self) -> dict[str, Any]:
        """What is told several times a second."""
        standing = self.standing()
        last = self._last
        return {
            "state": standing.state,
            "why": standing.why,
            "remedy": remedy(standing.why, self.line) if standing.why else "",
            "silent_ms": standing.silent_ms,
            "silent_after_ms": self._silent_ns // NS_PER_MS,
            "seen": standing.seen,
            "since_ms": self._state_since_ms,
            "now_ms": self._clock.utc_ns() // NS_PER_MS,
            "last": None if last is None else _brief(last),
        }

    def shift_dict(self) -> dict[str, Any]:
        """The counters of the shift."""
        with self._lock:
            return self._shift.to_dict()

    def trend(self) -> dict[str, Any]:
        """The shift in pieces."""
        with self._lock:
            return self._shift.trend()

    def alarms(self) -> list[dict[str, Any]]:
        """The newest first."""
        with self._lock:
            return self._alarms.to_list()

    def rejects(self) -> list[dict[str, Any]]:
        """The newest first."""
        with self._lock:
            return [_brief(verdict) for verdict in reversed(self._rejects)]

    def body(self, seq: int) -> bytes | None:
        """The JSON of a verdict heard lately."""
        return self._bodies.get(seq)

    def times(self) -> list[StageTimes]:
        """Stage times of the newest frames that an engine judged."""
        with self._lock:
            return list(self._times)


def _count(shift: Shift, judged: _Judged) -> None:
    shift.count(
        judged.seq,
        judged.at_utc_ns,
        judged.decision,
        judged.reason,
        judged.classes,
        simulated=judged.simulated,
    )


def _brief(verdict: Verdict) -> dict[str, Any]:
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
