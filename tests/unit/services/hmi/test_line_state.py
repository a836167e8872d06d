from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision
from edgeinspect.services.hmi import shift_counters
from edgeinspect.services.hmi.alarm_remedies import SILENT, WIRE, remedy
from edgeinspect.services.hmi.line_state import WAITING
from edgeinspect.services.hmi.shift_counters import CHALLENGE, SEVERAL, Shift
from edgeinspect.storage.ledger.query import Event
from edgeinspect.wire.messages import encode
from tests.unit.services.hmi.builders import HOUR_NS, board, heartbeat, verdict


def test_silence_is_not_inspected_within_the_second() -> None:
    clock = ManualClock()
    seen = board(clock)
    assert seen.standing().state == "not_inspected"
    assert seen.standing().why == WAITING
    seen.hear(heartbeat())
    assert seen.standing().state == "inspecting"
    clock.advance(499 * NS_PER_MS)
    assert seen.standing().state == "inspecting"
    clock.advance(NS_PER_MS)
    standing = seen.standing()
    assert (standing.state, standing.why) == ("not_inspected", SILENT)
    assert seen.alarms()[0]["text"] == SILENT
    seen.hear(heartbeat())
    assert seen.standing().state == "inspecting"
    assert seen.alarms()[0]["cleared_ms"]


def test_a_daemon_that_was_never_there_is_an_alarm_after_a_while() -> None:
    clock = ManualClock()
    seen = board(clock)
    seen.standing()
    assert seen.alarms() == []
    clock.advance(3 * NS_PER_S)
    assert seen.standing().why == SILENT
    assert seen.alarms()[0]["text"] == SILENT


def test_what_the_daemon_says_is_what_is_shown() -> None:
    seen = board(ManualClock())
    seen.hear(heartbeat(alarm="at least 20 rejects in a row"))
    assert seen.standing().state == "alarm"
    seen.hear(heartbeat(inspecting=False, alarm="camera top is lost"))
    standing = seen.standing()
    assert (standing.state, standing.why) == ("not_inspected", "camera top is lost")
    seen.hear(heartbeat(inspecting=False))
    assert seen.standing().why.startswith("the daemon says so")
    seen.break_wire(WIRE)
    assert seen.standing().why == WIRE


def test_what_works_beside_the_line_waits_for_the_line_s_own_alarm() -> None:
    told = [""]
    seen = board(ManualClock(), beside=lambda: told[0])
    told[0] = "the archive is silent"
    assert seen.standing().state == "not_inspected"
    seen.hear(heartbeat())
    assert (seen.standing().state, seen.standing().why) == ("alarm", "the archive is silent")
    seen.hear(heartbeat(alarm="camera top is lost"))
    assert seen.standing().why == "camera top is lost"
    seen.hear(heartbeat())
    told[0] = ""
    assert seen.standing().state == "inspecting"
    assert [alarm["text"] for alarm in seen.alarms()] == [
        "camera top is lost",
        "the archive is silent",
    ]


def test_an_alarm_keeps_who_has_seen_it_until_another_stands() -> None:
    clock = ManualClock()
    seen = board(clock)
    seen.hear(heartbeat(alarm="camera top is lost"))
    assert not seen.standing().seen
    seen.acknowledge("anna")
    assert seen.standing().seen
    seen.hear(heartbeat(alarm="at least 20 rejects in a row"))
    assert not seen.standing().seen
    assert [alarm["by"] for alarm in seen.alarms()] == ["", "anna"]


def test_the_ledger_remembers_alarms_over_a_restart_of_the_page() -> None:
    seen = board(ManualClock())
    seen.learn(
        [
            Event(4, 1, "operator.acted", "anna", '{"action":"acknowledge","detail":"camera"}'),
            Event(3, 1, "alarm.raised", "daemon", '{"alarm":"camera top is lost"}'),
            Event(2, 1, "alarm.cleared", "daemon", '{"alarm":"x"}'),
            Event(1, 1, "alarm.raised", "daemon", '{"alarm":"x"}'),
            Event(0, 1, "operator.acted", "anna", "damaged"),
        ]
    )
    seen.hear(heartbeat(alarm="camera top is lost"))
    assert seen.standing().seen
    assert [(a["text"], a["by"]) for a in seen.alarms()] == [
        ("camera top is lost", "anna"),
        ("x", ""),
    ]


@given(st.lists(st.sampled_from(list(Decision)), max_size=60), st.integers(0, 60))
@settings(deadline=None)
def test_the_law_holds_for_what_came_by_ledger_and_wire_in_any_split(
    decisions: list[Decision], known: int
) -> None:
    """A ledger that lags, and a wire that overlaps it: each frame counts once."""
    clock = ManualClock()
    seen = board(clock)
    start = seen.shift_dict()["start_ms"] * NS_PER_MS
    known = min(known, len(decisions))
    behind = min(known, 7)
    kept = Shift(start, start + 8 * HOUR_NS)
    for seq, decision in enumerate(decisions, 1):
        one = verdict(seq, decision, at_utc_ns=start + seq)
        if seq <= known:
            kept.count(seq, start + seq, decision.value, one.reason.value, ())
        if seq > known - behind:
            seen.take(one, encode(one), replayed=False)
    seen.begin(kept, known)
    told = seen.shift_dict()
    assert told["holds"]
    assert told["captured"] == len(decisions)
    for name, decision in (("pass", Decision.PASS), ("reject", Decision.REJECT)):
        assert told[name] == decisions.count(decision)


def test_a_lost_verdict_shows_in_the_equation_until_the_ledger_knows_better() -> None:
    seen = board(ManualClock())
    start = seen.shift_dict()["start_ms"] * NS_PER_MS
    seen.take(verdict(1, at_utc_ns=start), b"", replayed=False)
    seen.lose(2, 4)
    seen.take(verdict(5, at_utc_ns=start), b"", replayed=False)
    told = seen.shift_dict()
    assert (told["captured"], told["pass"], told["unknown"], told["holds"]) == (5, 2, 3, False)
    assert seen.needs_ledger()
    whole = Shift(start, start + 8 * HOUR_NS)
    for seq in range(1, 5):
        whole.count(seq, start, "PASS", "clean", ())
    seen.begin(whole, 4)
    assert seen.shift_dict()["holds"]
    assert seen.shift_dict()["captured"] == 5


def test_a_new_shift_begins_with_the_first_frame_captured_in_it() -> None:
    clock = ManualClock()
    seen = board(clock, hours=1)
    start = seen.shift_dict()["start_ms"] * NS_PER_MS
    seen.take(verdict(7, at_utc_ns=start + 1), b"", replayed=False)
    seen.take(verdict(8, at_utc_ns=start + HOUR_NS + 1), b"", replayed=False)
    seen.take(verdict(9, at_utc_ns=start + HOUR_NS - 1), b"", replayed=False)  # a slower camera
    told = seen.shift_dict()
    assert (told["captured"], told["holds"]) == (2, True)
    assert told["start_ms"] * NS_PER_MS == start + HOUR_NS


def test_bodies_of_old_verdicts_are_let_go() -> None:
    seen = board(ManualClock())
    for seq in range(1, 2_502):
        seen.take(verdict(seq), b"x", replayed=False)
    assert seen.body(1) is None
    assert seen.body(2_501) == b"x"
    assert len(seen._bodies) == 2_000


@given(st.integers(0, 4 * 10**18), st.lists(st.times(), min_size=1, max_size=5))
@settings(deadline=None)
def test_every_instant_is_in_its_shift(utc_ns: int, times: list[object]) -> None:
    starts = [f"{each:%H:%M}" for each in times]  # type: ignore[str-format]
    start, end = shift_counters.bounds(utc_ns, starts)
    assert start <= utc_ns < end
    assert end - start <= 26 * HOUR_NS  # a day, and what summer time adds


def test_each_reject_is_counted_once_under_what_rejected_it() -> None:
    made = Shift(0, 8 * HOUR_NS)
    made.count(1, 0, "REJECT", "defect", ["pit", "scratch"])
    made.count(2, 0, "REJECT", "gate", [])
    made.count(3, 0, "REJECT", "defect", ["pit"], simulated=True)
    made.count(4, HOUR_NS, "PASS", "clean", [], times=3)
    buckets = made.trend()["buckets"]
    assert buckets[0]["classes"] == {SEVERAL: 1, CHALLENGE: 1, "gate": 1}
    assert buckets[1] == {"index": 4, "PASS": 3, "classes": {}}


@pytest.mark.parametrize(
    ("alarm", "word"),
    [
        (SILENT, "systemctl status edgeinspect@strip"),
        (WIRE, "versions"),
        ("camera top is lost", "cable"),
        ("challenge part camera.png was not rejected", "known defect"),
        ("at least 20 frames in a row without a verdict", "reasons"),
        ("at least 50 frames in a row judged by the gate alone", "too slow"),
        ("at least 50 rejects in a row", "lens"),
        ("new engines were refused: no space on the disk", "old ones judge on"),
        ("ledger cannot be written: disk I/O error", "Free space"),
        ("ledger is 3000 verdicts behind; the spool holds 4096", "too slow"),
        ("ledger has lost 3 verdicts", "not on record"),
    ],
)
def test_every_alarm_of_the_daemon_has_its_own_remedy(alarm: str, word: str) -> None:
    assert word in remedy(alarm, "strip")
