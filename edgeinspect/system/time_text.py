"""Times as text: ISO 8601 with an offset, in the local zone or in UTC.

Everything that people read or write as a time goes through here: tables, options, progress
lines. Whatever is stored stays an integer of UTC nanoseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone

from edgeinspect.domain import NS_PER_S
from edgeinspect.errors import UsageError

MAX_UTC_NS = (1 << 63) - 1
"""Latest time that a SQLite column can hold."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_RELATIVE = re.compile(r"-?(\d{1,9}(?:\.\d{1,9})?)([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_REMEDY = (
    "Give 2026-01-31T06:00+01:00, 2026-01-31T06:00 (local time), 2026-01-31, 06:00 (its last "
    "occurrence), today, yesterday, now, or how long ago: 90s, 30m, 8h, 7d, 2w"
)


@dataclass(frozen=True, slots=True)
class ParsedTime:
    """A time that a person gave."""

    utc_ns: int
    has_zone: bool
    """False if the local zone, or the present time, had to be added to what was given."""


def format_local(utc_ns: int, timespec: str = "seconds") -> str:
    """Return a time in the local zone, as `2026-01-31T06:00:00+01:00`.

    The number itself if it is out of the calendar's range.
    """
    try:
        return _as_datetime(utc_ns).astimezone().isoformat(timespec=timespec)
    except (OverflowError, ValueError):
        return str(utc_ns)


def format_utc(utc_ns: int, timespec: str = "microseconds") -> str:
    """Return a time in UTC, as `2026-01-31T05:00:00.000000Z`; for documents and files."""
    try:
        return _as_datetime(utc_ns).isoformat(timespec=timespec).replace("+00:00", "Z")
    except (OverflowError, ValueError):
        return str(utc_ns)


def parse_time(text: str, *, is_end: bool = False, now: datetime | None = None) -> ParsedTime:
    """Return the time that a text names.

    A time without zone is local. An hour that happens twice (clocks are set back) means its
    first occurrence, or with `is_end` its second, so that a period never becomes too short.

    Args:
        text: ISO 8601, a time of day, a period before now such as `2h`, `now`, `today`,
            `yesterday`.
        is_end: The text is the end of a period.
        now: The present time, with a zone; the system's when absent.

    Raises:
        UsageError: It is not a time, or a local time that does not exist (clocks are set
            forward).
    """
    text = text.strip()
    now = (now or datetime.now(timezone.utc)).astimezone()
    try:
        if relative := _RELATIVE.fullmatch(text):
            at = now.astimezone(timezone.utc) - timedelta(
                seconds=float(relative[1]) * _UNIT_S[relative[2]]
            )
            return ParsedTime(_to_utc_ns(at), has_zone=False)
        if text == "now":
            return ParsedTime(_to_utc_ns(now), has_zone=False)
        if (local := _parse_local(text, now, is_end=is_end)) is not None:
            return ParsedTime(_to_utc_ns(local), has_zone=False)
        # fromisoformat accepts a Z only from Python 3.11 on.
        at = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
        if at.tzinfo is not None:
            return ParsedTime(_to_utc_ns(at), has_zone=True)
        return ParsedTime(_to_utc_ns(_add_local_zone(at, is_end=is_end)), has_zone=False)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a time", remedy=_REMEDY) from None


def _parse_local(text: str, now: datetime, *, is_end: bool) -> datetime | None:
    """Return the time of a day's name, a date or a time of day; None for any other text."""
    today = now.date()
    if text in ("today", "yesterday"):
        return _start_of_day(today - timedelta(days=text == "yesterday"))
    if _DATE.fullmatch(text):
        return _start_of_day(date.fromisoformat(text))
    if _TIME_OF_DAY.fullmatch(text):
        at_time = time.fromisoformat(text.zfill(5) if text[1] == ":" else text)
        at = _add_local_zone(datetime.combine(today, at_time), is_end=is_end)
        if at <= now:
            return at
        before = datetime.combine(today - timedelta(days=1), at_time)
        return _add_local_zone(before, is_end=is_end)
    return None


def _start_of_day(day: date) -> datetime:
    """Return the first instant of a local day; in some zones clocks skip midnight."""
    at = datetime.combine(day, time())
    return at.replace(fold=0).astimezone()


def _add_local_zone(at: datetime, *, is_end: bool) -> datetime:
    """Return a local time with its offset.

    Raises:
        UsageError: Clocks are set forward over it.
    """
    try:
        local = at.replace(fold=int(is_end)).astimezone()
    except (OverflowError, ValueError):  # in the year 1 or 9999
        return at.replace(tzinfo=timezone.utc)
    back = local.astimezone(timezone.utc).astimezone().replace(tzinfo=None)
    if back != at.replace(fold=0):
        raise UsageError(
            f"{at.isoformat()} does not exist: clocks are set forward over it",
            remedy="Give an earlier or later time, or add the offset that is meant",
        )
    return local


def _as_datetime(utc_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=utc_ns // 1000)


def _to_utc_ns(at: datetime) -> int:
    utc_ns = (at - _EPOCH) // timedelta(microseconds=1) * (NS_PER_S // 1_000_000)
    return max(-MAX_UTC_NS, min(MAX_UTC_NS, utc_ns))
