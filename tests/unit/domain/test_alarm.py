from __future__ import annotations

import pytest

from edgeinspect.domain import AlarmCode, alarm_code

TEXTS = {
    "camera top is lost": AlarmCode.CAMERA_LOST,
    "camera top: no picture for 2003 ms, reading a3.png": AlarmCode.CAMERA_DELAYED,
    "camera top: the PLC counted 3 more triggers than there are frames": AlarmCode.TRIGGER_COUNT,
    "camera top: there are 1 more frames than the PLC counted triggers": AlarmCode.TRIGGER_COUNT,
    "camera top: a.png not complete for 10 s": AlarmCode.CAMERA_ATTENTION,
    "inspect-0 stands still": AlarmCode.LINE_STALLED,
    "capture-top stands still": AlarmCode.LINE_STALLED,
    "a frame is without a verdict long after its deadline": AlarmCode.LINE_STALLED,
    "challenge part pit.png was not rejected": AlarmCode.CHALLENGE_MISSED,
    "challenge part camera top is lost was not rejected": AlarmCode.CHALLENGE_MISSED,
    "at least 20 frames in a row without a verdict": AlarmCode.NO_VERDICT_RUN,
    "at least 50 frames in a row judged by the gate alone": AlarmCode.DEGRADED_RUN,
    "at least 50 rejects in a row": AlarmCode.REJECT_RUN,
    "new engines were refused: no space on the disk": AlarmCode.RELOAD_REFUSED,
    "new engines are not loaded after 60 s: the line goes on": AlarmCode.RELOAD_STALLED,
    "ledger cannot be written: database is locked": AlarmCode.LEDGER_LOCKED,
    "ledger cannot be written: disk I/O error": AlarmCode.LEDGER_FAILED,
    "ledger is 3000 verdicts behind; the spool holds 4096": AlarmCode.LEDGER_SLOW,
    "ledger stands still: verdicts wait in the spool": AlarmCode.LEDGER_SLOW,
    "ledger has lost 3 verdicts of 1 to 3": AlarmCode.LEDGER_LOST,
    "the clock was set back by 2.0 hours": AlarmCode.CLOCK_STEPPED,
    "the clock is 3.0 days before 2020: it was never set": AlarmCode.CLOCK_STEPPED,
    "report stands still: status and keys are not up to date": AlarmCode.REPORT_STALLED,
}


@pytest.mark.parametrize("text", TEXTS)
def test_the_code_of_each_text_is_found(text: str) -> None:
    assert alarm_code(text) is TEXTS[text]


def test_a_text_of_another_version_is_still_an_alarm() -> None:
    assert alarm_code("the conveyor is on fire") is AlarmCode.OTHER
