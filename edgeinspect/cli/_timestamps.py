"""Instants as a person gives them on a command line."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from edgeinspect.errors import UsageError

MAX_NS = (1 << 63) - 1
"""The last instant that a column of SQLite can hold."""
_AGO = re.compile(r"-(\d{1,9}(?:\.\d{1,9})?)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def parse_timestamp(text: str | None) -> int | None:
    """UTC ns of `-2h` or of an ISO time; without an offset it is UTC."""
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text):
            at = datetime.now(timezone.utc) - timedelta(seconds=float(ago[1]) * _UNIT_S[ago[2]])
        else:
            at = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))  # no Z before 3.11
            at = at if at.tzinfo else at.replace(tzinfo=timezone.utc)
        since = at - _EPOCH
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no time", remedy="Give 2026-01-31T06:00 or -2h (s, m, h, d)"
        ) from None
    utc_ns = since // timedelta(microseconds=1) * 1000
    return max(-MAX_NS, min(MAX_NS, utc_ns))  # what a column can hold
