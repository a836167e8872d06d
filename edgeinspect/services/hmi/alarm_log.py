"""Alarms as the page keeps them: what, since when, until when, seen by whom."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.services.hmi.alarm_remedies import FORGED, SILENT, WIRE, remedy
from edgeinspect.storage.ledger.query import Event
from edgeinspect.system.decoding import DecodeError, decode_json

_KEPT = 100
_AGAIN_NS = 10 * NS_PER_S
"""What comes back so soon has not been away."""
_CAMERA = re.compile(r"(camera \S+?):? ")
_DIGITS = re.compile(r"\d+")
_AFTERWARDS = "frames in a row without a verdict"
"""An effect of whatever stood before it."""


def cause_of(text: str) -> str:
    """What an alarm is about: its words change with each number, and as a camera goes and comes."""
    camera = _CAMERA.match(text)
    return camera[1] if camera else _DIGITS.sub("#", text)


@dataclass(slots=True, eq=False)
class Alarm:
    """One alarm, from its rise to its end."""

    text: str
    """As it is said now, or was at its end."""
    raised_utc_ns: int
    began_as: str
    """As it was said first."""
    cleared_utc_ns: int | None = None
    acknowledged_by: str = ""
    acknowledged_utc_ns: int | None = None
    times: int = 1
    """How often it came, each time within seconds of its end before."""
    covered: bool = False
    """True if it ended because another took its place, and all has not been well since."""

    def is_here(self, utc_ns: int) -> bool:
        """Whether it stands, or may still stand, or has only just ended."""
        ended = self.cleared_utc_ns
        return ended is None or self.covered or 0 <= utc_ns - ended < _AGAIN_NS


class Alarms:
    """The alarms of a line, the newest last. Not thread-safe: its owner locks."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._kept: deque[Alarm] = deque(maxlen=_KEPT)

    @property
    def standing(self) -> Alarm | None:
        """The alarm that stands now."""
        newest = self._kept[-1] if self._kept else None
        return newest if newest is not None and newest.cleared_utc_ns is None else None

    def tell(self, text: str, utc_ns: int) -> None:
        """What stands at an instant; empty for nothing. One cause is one alarm."""
        newest = self._kept[-1] if self._kept else None
        if not text:
            if newest is not None and newest.cleared_utc_ns is None:
                newest.cleared_utc_ns = utc_ns
            for each in self._kept:
                each.covered = False
            return
        alarm = self._find(text, utc_ns)
        if alarm is not newest and newest is not None and newest.cleared_utc_ns is None:
            newest.cleared_utc_ns, newest.covered = utc_ns, True
        if alarm is None:
            self._kept.append(Alarm(text, utc_ns, text))
            return
        if alarm is not newest:
            self._kept.remove(alarm)
            self._kept.append(alarm)
        again = alarm.cleared_utc_ns is not None and not alarm.covered
        if again or _DIGITS.sub("#", text) != _DIGITS.sub("#", alarm.text):
            alarm.acknowledged_by, alarm.acknowledged_utc_ns = "", None  # it says another thing
        alarm.times += again
        alarm.cleared_utc_ns, alarm.covered, alarm.text = None, False, text

    def _find(self, text: str, utc_ns: int) -> Alarm | None:
        """The alarm that this is, or is again."""
        cause = cause_of(text)
        for alarm in reversed(self._kept):
            if alarm.is_here(utc_ns) and cause in (cause_of(alarm.text), cause_of(alarm.began_as)):
                return alarm
        newest = self._kept[-1] if self._kept else None
        if newest is not None and _AFTERWARDS in text and newest.is_here(utc_ns):
            return newest
        return None

    def acknowledge(self, actor: str, utc_ns: int) -> None:
        """Somebody has seen the one that stands."""
        if self.standing is not None:
            self.standing.acknowledged_by = actor
            self.standing.acknowledged_utc_ns = utc_ns

    def learn(self, events: Iterable[Event]) -> None:
        """Take in what a ledger knows, the newest first; only before anything was told."""
        for event in reversed(list(events)):
            detail = _detail(event.detail)
            if event.kind == "alarm.raised":
                self.tell(str(detail.get("alarm", "")), event.at_utc_ns)
            elif event.kind in ("alarm.cleared", "line.started"):
                self.tell("", event.at_utc_ns)
            elif event.kind == "operator.acted" and detail.get("action") == "acknowledge":
                self.acknowledge(event.actor, event.at_utc_ns)

    def to_list(self) -> list[dict[str, Any]]:
        """The newest first, for the page."""
        return [
            {
                "text": alarm.text,
                "began_as": alarm.began_as if alarm.began_as != alarm.text else "",
                "times": alarm.times,
                "remedy": remedy(alarm.text, self._line),
                "raised_ms": alarm.raised_utc_ns // 1_000_000,
                "cleared_ms": alarm.cleared_utc_ns and alarm.cleared_utc_ns // 1_000_000,
                "own": alarm.text in (SILENT, WIRE, FORGED),
                "by": alarm.acknowledged_by,
                "seen_ms": alarm.acknowledged_utc_ns and alarm.acknowledged_utc_ns // 1_000_000,
            }
            for alarm in reversed(self._kept)
        ]


def _detail(text: str) -> dict[str, Any]:
    try:
        found = decode_json(text)
    except DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
