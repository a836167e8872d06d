"""The alarm log: one cause is one alarm while its text changes."""

from __future__ import annotations

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.services.hmi.alarm_log import AlarmLog, alarm_key

LOST, LATE = "camera top is lost", "camera top: waits for a3.png"
RUN = "at least 5 frames in a row without a verdict"


def logged_alarms(*updates: tuple[float, str]) -> list[dict[str, object]]:
    alarms = AlarmLog("strip")
    for at_s, text in updates:
        alarms.update(text, round(at_s * NS_PER_S))
    return alarms.to_list()


def test_alarm_key() -> None:
    assert alarm_key(LOST) == alarm_key(LATE) == "camera top"
    assert alarm_key(LOST) != alarm_key("camera side is lost")
    one = "the PLC counted 3 more triggers than there are frames"
    assert alarm_key(one) == alarm_key(one.replace("3", "41"))
    assert alarm_key("new engines: a") != alarm_key("new engines: b")


def test_camera_that_disconnects_and_returns_is_one_alarm() -> None:
    """Delayed, lost, back without a verdict yet: one alarm until all alarms are cleared."""
    (alarm,) = logged_alarms((1, LATE), (2, LOST), (5, RUN), (6, ""))
    assert (alarm["raised_ms"], alarm["cleared_ms"]) == (1_000, 6_000)
    assert alarm["text"] == RUN
    assert alarm["began_as"] == LATE


def test_flickering_alarm_is_counted_once() -> None:
    updates = [(i, LOST if i % 2 == 0 else "") for i in range(20)]
    (alarm,) = logged_alarms(*updates)
    assert alarm["times"] == 10
    assert len(logged_alarms((0, LOST), (1, ""), (60, LOST))) == 2


def test_changing_numbers_keep_the_alarm_and_its_acknowledgement() -> None:
    alarms = AlarmLog("strip")
    for count in range(1, 50):
        alarms.update(f"the PLC counted {count} more triggers than there are frames", count)
        if count == 1:
            alarms.acknowledge("anna", 1)
    (alarm,) = alarms.to_list()
    assert alarm["by"] == "anna"
    alarms.update("camera top: it is too hot", 60)
    alarms.acknowledge("anna", 61)
    alarms.update(LOST, 62)
    assert alarms.to_list()[0]["by"] == "", "it is worse now: somebody must see it again"
    assert len(alarms.to_list()) == 2


def test_different_causes_are_different_alarms() -> None:
    assert (
        len(
            logged_alarms(
                (1, LOST), (2, "camera side is lost"), (3, "the ledger cannot be written")
            )
        )
        == 3
    )
    assert len(logged_alarms((1, ""), (2, ""))) == 0


ARCHIVE = "the archive is silent"


def test_superseded_alarm_stays_the_same() -> None:
    """It was active all the time: the HMI shows one alarm at a time, the most urgent."""
    updates = [(1, ARCHIVE), (2, LOST), (40, ARCHIVE), (50, "the daemon is silent"), (90, ARCHIVE)]
    found = logged_alarms(*updates)
    assert [each["text"] for each in found] == [ARCHIVE, "the daemon is silent", LOST]
    assert (found[0]["raised_ms"], found[0]["cleared_ms"], found[0]["times"]) == (1_000, None, 1)
    assert len(logged_alarms(*updates, (91, ""), (120, ARCHIVE))) == 4, "it was away: another"
    assert len(logged_alarms((1, ARCHIVE), (2, LOST), (3, ""), (30, ARCHIVE))) == 3


def test_acknowledgement_survives_a_worse_alarm() -> None:
    alarms = AlarmLog("strip")
    alarms.update(ARCHIVE, 1)
    alarms.acknowledge("anna", 2)
    alarms.update(LOST, 3)
    alarms.update(ARCHIVE, 4)
    assert alarms.active is not None
    assert alarms.active.acknowledged_by == "anna"
