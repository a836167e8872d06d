"""The alarm log: text, start, end and acknowledgement of each alarm."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeinspect.domain import NS_PER_S, AlarmCode, alarm_code
from edgeinspect.services.hmi.alarm_remedies import remedy_for
from edgeinspect.storage.ledger import StoredEvent
from edgeinspect.system import DecodeError, decode_json

_MAX_ALARMS = 100
_RECURRENCE_NS = 10 * NS_PER_S
"""An alarm that returns within this time counts as the same alarm."""
_CAMERA = re.compile(r"(camera \S+?):? ")
_DIGITS = re.compile(r"\d+")
_HMI_CODES = (
    AlarmCode.DAEMON_SILENT,
    AlarmCode.WIRE_VERSION_MISMATCH,
    AlarmCode.FORGED_MESSAGES,
)
"""Alarms without a trusted daemon: no ledger could record an acknowledgement."""


def alarm_key(text: str) -> str:
    """Return what stays the same while a text changes: its camera, or all but digits."""
    camera = _CAMERA.match(text)
    return camera[1] if camera else _DIGITS.sub("#", text)


@dataclass(slots=True, eq=False)
class LoggedAlarm:
    """One alarm, from start to end."""

    text: str
    """The newest text."""
    raised_utc_ns: int
    first_text: str
    """The text at the start."""
    cleared_utc_ns: int | None = None
    acknowledged_by: str = ""
    acknowledged_utc_ns: int | None = None
    occurrences: int = 1
    """How often it was raised, each time within seconds of its previous end."""
    is_superseded: bool = False
    """True if another alarm replaced it, and there has been an alarm ever since."""

    def is_current(self, utc_ns: int) -> bool:
        """Return True if it is active, may still be active, or has just ended."""
        cleared = self.cleared_utc_ns
        if cleared is None or self.is_superseded:
            return True
        return 0 <= utc_ns - cleared < _RECURRENCE_NS


class AlarmLog:
    """The alarms of a line, the newest last. Not thread-safe."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._alarms: deque[LoggedAlarm] = deque(maxlen=_MAX_ALARMS)

    @property
    def active(self) -> LoggedAlarm | None:
        """The active alarm, if any."""
        newest = self._alarms[-1] if self._alarms else None
        return newest if newest is not None and newest.cleared_utc_ns is None else None

    def update(self, text: str, utc_ns: int) -> None:
        """Set the active alarm; an empty text clears it. One cause is one alarm."""
        newest = self._alarms[-1] if self._alarms else None
        if not text:
            if newest is not None and newest.cleared_utc_ns is None:
                newest.cleared_utc_ns = utc_ns
            for alarm in self._alarms:
                alarm.is_superseded = False
            return
        same = self._find_same(text, utc_ns)
        if same is not newest and newest is not None and newest.cleared_utc_ns is None:
            newest.cleared_utc_ns, newest.is_superseded = utc_ns, True
        if same is None:
            self._alarms.append(LoggedAlarm(text, utc_ns, text))
            return
        if same is not newest:
            self._alarms.remove(same)
            self._alarms.append(same)
        is_again = same.cleared_utc_ns is not None and not same.is_superseded
        if is_again or _DIGITS.sub("#", text) != _DIGITS.sub("#", same.text):
            same.acknowledged_by, same.acknowledged_utc_ns = "", None
        same.occurrences += is_again
        same.cleared_utc_ns, same.is_superseded, same.text = None, False, text

    def _find_same(self, text: str, utc_ns: int) -> LoggedAlarm | None:
        """Return the logged alarm that a text continues, if any."""
        key = alarm_key(text)
        for alarm in reversed(self._alarms):
            if alarm.is_current(utc_ns) and key in (
                alarm_key(alarm.text),
                alarm_key(alarm.first_text),
            ):
                return alarm
        newest = self._alarms[-1] if self._alarms else None
        if newest is not None and newest.is_current(utc_ns):
            return newest if alarm_code(text) is AlarmCode.NO_VERDICT_RUN else None
        return None

    def acknowledge(self, actor: str, utc_ns: int) -> None:
        """Mark the active alarm as acknowledged."""
        if self.active is not None:
            self.active.acknowledged_by = actor
            self.active.acknowledged_utc_ns = utc_ns

    def load(self, events: Iterable[StoredEvent]) -> None:
        """Load alarms from ledger events, the newest first; only before the first `update`."""
        for event in reversed(list(events)):
            detail = _parse_detail(event.detail)
            if event.kind == "alarm.raised":
                self.update(str(detail.get("alarm", "")), event.at_utc_ns)
            elif event.kind in ("alarm.cleared", "line.started"):
                self.update("", event.at_utc_ns)
            elif event.kind == "operator.acted" and detail.get("action") == "acknowledge":
                self.acknowledge(event.actor, event.at_utc_ns)

    def to_list(self) -> list[dict[str, Any]]:
        """Return the alarms as JSON values, the newest first."""
        return [
            {
                "text": alarm.text,
                "began_as": alarm.first_text if alarm.first_text != alarm.text else "",
                "times": alarm.occurrences,
                "remedy": remedy_for(alarm_code(alarm.text), self._line),
                "raised_ms": alarm.raised_utc_ns // 1_000_000,
                "cleared_ms": alarm.cleared_utc_ns and alarm.cleared_utc_ns // 1_000_000,
                "own": alarm_code(alarm.text) in _HMI_CODES,
                "by": alarm.acknowledged_by,
                "seen_ms": alarm.acknowledged_utc_ns and alarm.acknowledged_utc_ns // 1_000_000,
            }
            for alarm in reversed(self._alarms)
        ]


def _parse_detail(text: str) -> dict[str, Any]:
    try:
        detail = decode_json(text)
    except DecodeError:
        return {}
    return detail if isinstance(detail, dict) else {}
