"""Alarms as the page keeps them: what, since when, until when, seen by whom."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeinspect.domain import NS_PER_S
from edgeinspect.services.hmi.alarm_remedies import (
    DAEMON_SILENT,
    FORGED_MESSAGES,
    WIRE_VERSION_MISMATCH,
    remedy_for,
)
from edgeinspect.storage.ledger import StoredEvent
from edgeinspect.system import DecodeError, decode_json

_MAX_ALARMS = 100
_RECURRENCE_NS = 10 * NS_PER_S
"""What comes back so soon has not been away."""
_CAMERA = re.compile(r"(camera \S+?):? ")
_DIGITS = re.compile(r"\d+")
_CONSEQUENCE = "frames in a row without a verdict"
"""An effect of whatever stood before it."""


def alarm_key(text: str) -> str:
    """What an alarm is about: its words change with each number, and as a camera goes and comes."""
    camera = _CAMERA.match(text)
    return camera[1] if camera else _DIGITS.sub("#", text)


@dataclass(slots=True, eq=False)
class LoggedAlarm:
    """One alarm, from its rise to its end."""

    text: str
    """As it is said now, or was at its end."""
    raised_utc_ns: int
    first_text: str
    """As it was said first."""
    cleared_utc_ns: int | None = None
    acknowledged_by: str = ""
    acknowledged_utc_ns: int | None = None
    occurrences: int = 1
    """How often it came, each time within seconds of its end before."""
    is_superseded: bool = False
    """True if it ended because another took its place, and all has not been well since."""

    def is_current(self, utc_ns: int) -> bool:
        """Whether it stands, or may still stand, or has only just ended."""
        ended = self.cleared_utc_ns
        return ended is None or self.is_superseded or 0 <= utc_ns - ended < _RECURRENCE_NS


class AlarmLog:
    """The alarms of a line, the newest last. Not thread-safe: its owner locks."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._alarms: deque[LoggedAlarm] = deque(maxlen=_MAX_ALARMS)

    @property
    def active(self) -> LoggedAlarm | None:
        """The alarm that stands now."""
        newest = self._alarms[-1] if self._alarms else None
        return newest if newest is not None and newest.cleared_utc_ns is None else None

    def update(self, text: str, utc_ns: int) -> None:
        """What stands at an instant; empty for nothing. One cause is one alarm."""
        newest = self._alarms[-1] if self._alarms else None
        if not text:
            if newest is not None and newest.cleared_utc_ns is None:
                newest.cleared_utc_ns = utc_ns
            for each in self._alarms:
                each.is_superseded = False
            return
        alarm = self._find_same(text, utc_ns)
        if alarm is not newest and newest is not None and newest.cleared_utc_ns is None:
            newest.cleared_utc_ns, newest.is_superseded = utc_ns, True
        if alarm is None:
            self._alarms.append(LoggedAlarm(text, utc_ns, text))
            return
        if alarm is not newest:
            self._alarms.remove(alarm)
            self._alarms.append(alarm)
        again = alarm.cleared_utc_ns is not None and not alarm.is_superseded
        if again or _DIGITS.sub("#", text) != _DIGITS.sub("#", alarm.text):
            alarm.acknowledged_by, alarm.acknowledged_utc_ns = "", None  # it says another thing
        alarm.occurrences += again
        alarm.cleared_utc_ns, alarm.is_superseded, alarm.text = None, False, text

    def _find_same(self, text: str, utc_ns: int) -> LoggedAlarm | None:
        """The alarm that this is, or is again."""
        cause = alarm_key(text)
        for alarm in reversed(self._alarms):
            if alarm.is_current(utc_ns) and cause in (
                alarm_key(alarm.text),
                alarm_key(alarm.first_text),
            ):
                return alarm
        newest = self._alarms[-1] if self._alarms else None
        if newest is not None and _CONSEQUENCE in text and newest.is_current(utc_ns):
            return newest
        return None

    def acknowledge(self, actor: str, utc_ns: int) -> None:
        """Somebody has seen the one that stands."""
        if self.active is not None:
            self.active.acknowledged_by = actor
            self.active.acknowledged_utc_ns = utc_ns

    def load(self, events: Iterable[StoredEvent]) -> None:
        """Take in what a ledger knows, the newest first; only before anything was told."""
        for event in reversed(list(events)):
            detail = _parse_detail(event.detail)
            if event.kind == "alarm.raised":
                self.update(str(detail.get("alarm", "")), event.at_utc_ns)
            elif event.kind in ("alarm.cleared", "line.started"):
                self.update("", event.at_utc_ns)
            elif event.kind == "operator.acted" and detail.get("action") == "acknowledge":
                self.acknowledge(event.actor, event.at_utc_ns)

    def to_list(self) -> list[dict[str, Any]]:
        """The newest first, for the page."""
        return [
            {
                "text": alarm.text,
                "began_as": alarm.first_text if alarm.first_text != alarm.text else "",
                "times": alarm.occurrences,
                "remedy": remedy_for(alarm.text, self._line),
                "raised_ms": alarm.raised_utc_ns // 1_000_000,
                "cleared_ms": alarm.cleared_utc_ns and alarm.cleared_utc_ns // 1_000_000,
                "own": alarm.text in (DAEMON_SILENT, WIRE_VERSION_MISMATCH, FORGED_MESSAGES),
                "by": alarm.acknowledged_by,
                "seen_ms": alarm.acknowledged_utc_ns and alarm.acknowledged_utc_ns // 1_000_000,
            }
            for alarm in reversed(self._alarms)
        ]


def _parse_detail(text: str) -> dict[str, Any]:
    try:
        found = decode_json(text)
    except DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
