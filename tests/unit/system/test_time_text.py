"""Times as text: zones, and the days on which clocks are set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest

from edgeinspect.errors import UsageError
from edgeinspect.system import format_local, format_utc, parse_time

NOW = datetime(2026, 10, 25, 12, 0, tzinfo=timezone.utc)
SetZone = Callable[[str], None]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[SetZone]:
    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def utc_ns(text: str) -> int:
    return round(datetime.fromisoformat(text + "+00:00").timestamp()) * 1_000_000_000


@pytest.mark.parametrize(
    ("name", "text", "is_end", "expected"),
    [
        ("Europe/Berlin", "2026-01-31T06:00", False, "2026-01-31T05:00:00"),
        ("Europe/Berlin", "2026-07-31 06:00", False, "2026-07-31T04:00:00"),
        ("Asia/Kolkata", "2026-01-31T06:00", False, "2026-01-31T00:30:00"),
        ("Asia/Kolkata", "2026-01-31T06:00Z", False, "2026-01-31T06:00:00"),
        ("Asia/Kolkata", "2026-01-31T06:00:00+01:00", False, "2026-01-31T05:00:00"),
        # The hour that happens twice: the widest period.
        ("Europe/Berlin", "2026-10-25T02:30", False, "2026-10-25T00:30:00"),
        ("Europe/Berlin", "2026-10-25T02:30", True, "2026-10-25T01:30:00"),
        ("Europe/Berlin", "2026-10-25", False, "2026-10-24T22:00:00"),
        ("Europe/Berlin", "today", False, "2026-10-24T22:00:00"),
        ("Europe/Berlin", "yesterday", False, "2026-10-23T22:00:00"),
        ("Europe/Berlin", "06:00", False, "2026-10-25T05:00:00"),
        ("Europe/Berlin", "22:00", False, "2026-10-24T20:00:00"),
        ("Asia/Kolkata", "22:00", False, "2026-10-24T16:30:00"),
        # A period is a period, whatever the clocks show.
        ("Europe/Berlin", "24h", False, "2026-10-24T12:00:00"),
        ("Europe/Berlin", "-1d", False, "2026-10-24T12:00:00"),
        ("Europe/Berlin", "1w", False, "2026-10-18T12:00:00"),
        ("Europe/Berlin", "now", False, "2026-10-25T12:00:00"),
    ],
)
def test_a_time_is_understood(
    zone: SetZone, name: str, text: str, is_end: bool, expected: str
) -> None:
    zone(name)
    assert parse_time(text, is_end=is_end, now=NOW).utc_ns == utc_ns(expected)


def test_only_a_time_with_offset_has_a_zone() -> None:
    assert parse_time("2026-01-31T06:00Z").has_zone
    assert parse_time("2026-01-31T06:00+05:30").has_zone
    assert not parse_time("2026-01-31T06:00").has_zone
    assert not parse_time("2h").has_zone


@pytest.mark.parametrize("is_end", [False, True])
def test_a_local_time_that_does_not_exist_is_refused(zone: SetZone, is_end: bool) -> None:
    zone("Europe/Berlin")
    with pytest.raises(UsageError, match="set forward"):
        parse_time("2026-03-29T02:30", is_end=is_end)
    assert parse_time("2026-03-29T03:30").utc_ns == utc_ns("2026-03-29T01:30:00")
    zone("Asia/Kolkata")
    assert parse_time("2026-03-29T02:30").utc_ns == utc_ns("2026-03-28T21:00:00")


@pytest.mark.parametrize("text", ["", "x", "25:00", "2026-13-01", "2h30", "h", "1e3s", "６:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        parse_time(text)


def test_times_are_printed_with_their_offset(zone: SetZone) -> None:
    at = utc_ns("2026-10-25T00:30:00")
    zone("Europe/Berlin")
    assert format_local(at) == "2026-10-25T02:30:00+02:00"
    assert format_local(at + 3600 * 10**9) == "2026-10-25T02:30:00+01:00"
    zone("Asia/Kolkata")
    assert format_local(at + 123_456_789, "milliseconds") == "2026-10-25T06:00:00.123+05:30"
    assert format_utc(at + 123_456_789) == "2026-10-25T00:30:00.123456Z"
    assert format_utc(1 << 62) == "2116-02-20T23:53:38.427387Z"
    assert format_local(1 << 80) == str(1 << 80)


def test_what_is_printed_can_be_given_again(zone: SetZone) -> None:
    zone("Europe/Berlin")
    for text in ("2026-10-25T00:30:00", "2026-10-25T01:30:00", "2026-03-29T01:00:00"):
        at = utc_ns(text)
        assert parse_time(format_local(at)).utc_ns == at
        assert parse_time(format_utc(at)).utc_ns == at
