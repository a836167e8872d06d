from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeinspect.domain.alarm import AlarmCode, alarm_code
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.domain.verdict import Decision
from edgeinspect.services.hmi import shift_counters
from edgeinspect.services.hmi.alarm_remedies import (
    ARCHIVE_FAILED,
    ARCHIVE_SILENT,
    CERTIFICATE_REFUSED,
    DAEMON_SILENT,
    FORGED_MESSAGES,
    WIRE_VERSION_MISMATCH,
    remedy_for,
)
from edgeinspect.services.hmi.line_state import NO_CAMERA, WAITING_FOR_DAEMON
from edgeinspect.services.hmi.shift_counters import (
    CHALLENGE_LABEL,
    SEVERAL_CLASSES_LABEL,
    ShiftCounters,
)
from edgeinspect.storage.ledger.query import StoredEvent
from edgeinspect.wire.messages import encode_message
from tests.unit.services.hmi.builders import HOUR_NS, make_heartbeat, make_line_state, make_verdict


def test_silence_is_not_inspected_within_a_second() -> None:
    clock = ManualClock()
    state = make_line_state(clock)
    assert state.current_status().state == "not_inspected"
    assert state.current_status().reason == WAITING_FOR_DAEMON
    state.on_heartbeat(make_heartbeat())
    assert state.current_status().state == "inspecting"
    clock.advance(499 * NS_PER_MS)
    assert state.current_status().state == "inspecting"
    clock.advance(NS_PER_MS)
    status = state.current_status()
    assert (status.state, status.reason) == ("not_inspected", DAEMON_SILENT)
    assert state.alarms_payload()[0]["text"] == DAEMON_SILENT
    state.on_heartbeat(make_heartbeat())
    assert state.current_status().state == "inspecting"
    assert state.alarms_payload()[0]["cleared_ms"]


def test_missing_daemon_is_an_alarm_after_the_grace_period() -> None:
    clock = ManualClock()
    state = make_line_state(clock)
    state.current_status()
    assert state.alarms_payload() == []
    clock.advance(3 * NS_PER_S)
    assert state.current_status().reason == DAEMON_SILENT
    assert state.alarms_payload()[0]["text"] == DAEMON_SILENT


def test_shows_the_daemon_status() -> None:
    state = make_line_state(ManualClock())
    state.on_heartbeat(make_heartbeat(alarm="at least 20 rejects in a row"))
    assert state.current_status().state == "alarm"
    state.on_heartbeat(make_heartbeat(inspecting=False, alarm="camera top is lost"))
    status = state.current_status()
    assert (status.state, status.reason) == ("not_inspected", "camera top is lost")
    state.on_heartbeat(make_heartbeat(inspecting=False))
    assert state.current_status().reason == NO_CAMERA
    state.on_protocol_error(WIRE_VERSION_MISMATCH)
    assert state.current_status().reason == WIRE_VERSION_MISMATCH


def test_alarm_of_the_line_precedes_service_alarms() -> None:
    payload = [""]
    state = make_line_state(ManualClock(), service_alarm=lambda: payload[0])
    payload[0] = "the archive is silent"
    assert state.current_status().state == "not_inspected"
    state.on_heartbeat(make_heartbeat())
    assert (state.current_status().state, state.current_status().reason) == (
        "alarm",
        "the archive is silent",
    )
    state.on_heartbeat(make_heartbeat(alarm="camera top is lost"))
    assert state.current_status().reason == "camera top is lost"
    state.on_heartbeat(make_heartbeat())
    payload[0] = ""
    assert state.current_status().state == "inspecting"
    assert [alarm["text"] for alarm in state.alarms_payload()] == [
        "camera top is lost",
        "the archive is silent",
    ]


def test_alarm_keeps_its_acknowledgement_until_another_is_active() -> None:
    clock = ManualClock()
    state = make_line_state(clock)
    state.on_heartbeat(make_heartbeat(alarm="camera top is lost"))
    assert not state.current_status().is_acknowledged
    state.acknowledge("anna")
    assert state.current_status().is_acknowledged
    state.on_heartbeat(make_heartbeat(alarm="at least 20 rejects in a row"))
    assert not state.current_status().is_acknowledged
    assert [alarm["by"] for alarm in state.alarms_payload()] == ["", "anna"]


def test_loads_alarms_from_the_ledger() -> None:
    state = make_line_state(ManualClock())
    state.load_alarms(
        [
            StoredEvent(
                4, 1, "operator.acted", "anna", '{"action":"acknowledge","detail":"camera"}'
            ),
            StoredEvent(3, 1, "alarm.raised", "daemon", '{"alarm":"camera top is lost"}'),
            StoredEvent(2, 1, "alarm.cleared", "daemon", '{"alarm":"x"}'),
            StoredEvent(1, 1, "alarm.raised", "daemon", '{"alarm":"x"}'),
            StoredEvent(0, 1, "operator.acted", "anna", "damaged"),
        ]
    )
    state.on_heartbeat(make_heartbeat(alarm="camera top is lost"))
    assert state.current_status().is_acknowledged
    assert [(a["text"], a["by"]) for a in state.alarms_payload()] == [
        ("camera top is lost", "anna"),
        ("x", ""),
    ]


@given(st.lists(st.sampled_from(list(Decision)), max_size=60), st.integers(0, 60))
@settings(deadline=None)
def test_shift_balances_for_any_split_between_ledger_and_wire(
    decisions: list[Decision], known: int
) -> None:
    """The ledger lags and the wire overlaps it: each frame counts once."""
    clock = ManualClock()
    state = make_line_state(clock)
    start = state.shift_payload()["start_ms"] * NS_PER_MS
    known = min(known, len(decisions))
    behind = min(known, 7)
    bodies = ShiftCounters(start, start + 8 * HOUR_NS)
    for seq, decision in enumerate(decisions, 1):
        one = make_verdict(seq, decision, at_utc_ns=start + seq)
        if seq <= known:
            bodies.count_verdict(seq, start + seq, decision.value, one.reason.value, ())
        if seq > known - behind:
            state.on_verdict(one, encode_message(one), replayed=False)
    state.set_shift(bodies, known)
    payload = state.shift_payload()
    assert payload["holds"]
    assert payload["captured"] == len(decisions)
    for name, decision in (("pass", Decision.PASS), ("reject", Decision.REJECT)):
        assert payload[name] == decisions.count(decision)


def test_lost_verdict_unbalances_the_shift_until_read_from_the_ledger() -> None:
    state = make_line_state(ManualClock())
    start = state.shift_payload()["start_ms"] * NS_PER_MS
    state.on_verdict(make_verdict(1, at_utc_ns=start), b"", replayed=False)
    state.on_lost(2, 4)
    state.on_verdict(make_verdict(5, at_utc_ns=start), b"", replayed=False)
    payload = state.shift_payload()
    assert (payload["captured"], payload["pass"], payload["unknown"], payload["holds"]) == (
        5,
        2,
        3,
        False,
    )
    assert state.should_read_ledger()
    whole = ShiftCounters(start, start + 8 * HOUR_NS)
    for seq in range(1, 5):
        whole.count_verdict(seq, start, "PASS", "clean", ())
    state.set_shift(whole, 4)
    assert state.shift_payload()["holds"]
    assert state.shift_payload()["captured"] == 5


def test_new_shift_starts_with_its_first_frame() -> None:
    clock = ManualClock()
    state = make_line_state(clock, hours=1)
    start = state.shift_payload()["start_ms"] * NS_PER_MS
    state.on_verdict(make_verdict(7, at_utc_ns=start + 1), b"", replayed=False)
    state.on_verdict(make_verdict(8, at_utc_ns=start + HOUR_NS + 1), b"", replayed=False)
    state.on_verdict(
        make_verdict(9, at_utc_ns=start + HOUR_NS - 1), b"", replayed=False
    )  # a slower camera
    payload = state.shift_payload()
    assert (payload["captured"], payload["holds"]) == (2, True)
    assert payload["start_ms"] * NS_PER_MS == start + HOUR_NS


def test_forgets_old_verdicts() -> None:
    state = make_line_state(ManualClock())
    for seq in range(1, 2_502):
        state.on_verdict(make_verdict(seq), b"x", replayed=False)
    assert state.verdict_json(1) is None
    assert state.verdict_json(2_501) == b"x"
    assert len(state._verdicts_json) == 2_000


@given(st.integers(0, 4 * 10**18), st.lists(st.times(), min_size=1, max_size=5))
@settings(deadline=None)
def test_shift_bounds_contain_the_instant(utc_ns: int, times: list[object]) -> None:
    starts = [f"{each:%H:%M}" for each in times]  # type: ignore[str-format]
    start, end = shift_counters.shift_bounds(utc_ns, starts)
    assert start <= utc_ns < end
    assert end - start <= 26 * HOUR_NS  # a day, and what summer time adds


def test_each_reject_has_one_label() -> None:
    shift = ShiftCounters(0, 8 * HOUR_NS)
    shift.count_verdict(1, 0, "REJECT", "defect", ["pit", "scratch"])
    shift.count_verdict(2, 0, "REJECT", "gate", [])
    shift.count_verdict(3, 0, "REJECT", "defect", ["pit"], simulated=True)
    shift.count_verdict(4, HOUR_NS, "PASS", "clean", [], times=3)
    buckets = shift.trend_payload()["buckets"]
    assert buckets[0]["classes"] == {SEVERAL_CLASSES_LABEL: 1, CHALLENGE_LABEL: 1, "gate": 1}
    assert buckets[1] == {"index": 4, "PASS": 3, "classes": {}}


@pytest.mark.parametrize(
    ("code", "text", "word"),
    [
        (AlarmCode.DAEMON_SILENT, DAEMON_SILENT, "systemctl status edgeinspect@strip"),
        (AlarmCode.WIRE_VERSION_MISMATCH, WIRE_VERSION_MISMATCH, "versions"),
        (AlarmCode.FORGED_MESSAGES, FORGED_MESSAGES, "edgeinspect-hmi@strip"),
        (AlarmCode.ARCHIVE_SILENT, ARCHIVE_SILENT, "edgeinspect-archive@strip"),
        (AlarmCode.ARCHIVE_FAILED, f"{ARCHIVE_FAILED}: no space", "Free space"),
        (AlarmCode.CERTIFICATE_REFUSED, f"{CERTIFICATE_REFUSED}: x", "certificate"),
        (AlarmCode.CAMERA_LOST, "camera top is lost", "cable"),
        (
            AlarmCode.CHALLENGE_MISSED,
            "challenge part camera.png was not rejected",
            "known defect",
        ),
        (
            AlarmCode.NO_VERDICT_RUN,
            "at least 20 frames in a row without a verdict",
            "reasons",
        ),
        (
            AlarmCode.DEGRADED_RUN,
            "at least 50 frames in a row judged by the gate alone",
            "too slow",
        ),
        (AlarmCode.REJECT_RUN, "at least 50 rejects in a row", "lens"),
        (
            AlarmCode.RELOAD_REFUSED,
            "new engines were refused: no space on the disk",
            "old ones inspect on",
        ),
        (AlarmCode.LEDGER_FAILED, "ledger cannot be written: disk I/O error", "Free space"),
        (
            AlarmCode.LEDGER_SLOW,
            "ledger is 3000 verdicts behind; the spool holds 4096",
            "too slow",
        ),
        (AlarmCode.LEDGER_LOST, "ledger has lost 3 verdicts", "not on record"),
    ],
)
def test_alarm_texts_have_codes_and_remedies(code: AlarmCode, text: str, word: str) -> None:
    assert alarm_code(text) is code
    assert word in remedy_for(code, "strip")


@pytest.mark.parametrize("code", AlarmCode)
def test_every_alarm_code_has_a_remedy(code: AlarmCode) -> None:
    assert remedy_for(code, "strip").endswith(".")
