"""Alarms as the page keeps them: what, since when, until when, seen by whom."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edgeinspect.decoding import DecodeError, decode_json
from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.ledger_query import Event
from edgeinspect.page.remedies import FORGED, SILENT, WIRE, remedy

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


@dataclass(slots=True)
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
        if newest is None or not text:
            if newest is None and text:
                self._kept.append(Alarm(text, utc_ns, text))
            elif newest is not None and newest.cleared_utc_ns is None:
                newest.cleared_utc_ns = utc_ns
            return
        cleared = newest.cleared_utc_ns
        soon = cleared is None or 0 <= utc_ns - cleared < _AGAIN_NS
        same = cause_of(text) in (cause_of(newest.text), cause_of(newest.began_as))
        if not soon or not (same or _AFTERWARDS in text):
            if cleared is None:
                newest.cleared_utc_ns = utc_ns
            self._kept.append(Alarm(text, utc_ns, text))
            return
        if cleared is not None:
            newest.cleared_utc_ns = None
            newest.times += 1
        if cleared is not None or _DIGITS.sub("#", text) != _DIGITS.sub("#", newest.text):
            newest.acknowledged_by, newest.acknowledged_utc_ns = "", None  # it says another thing
        newest.text = text

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
