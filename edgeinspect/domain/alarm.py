"""The alarms of a line: a code for programs, a text for the operator.

The wire and the ledger carry the text alone. `alarm_code` finds the code of such a text: each
text that the project raises begins in the way listed here, whichever process raises it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum


class AlarmCode(str, Enum):
    """What an alarm is about; remedies belong to codes. A value keeps its meaning."""

    # Raised by the daemon.
    CAMERA_LOST = "camera_lost"
    CAMERA_DELAYED = "camera_delayed"
    """A camera waits too long for one and the same thing, such as a file on a slow disk."""
    TRIGGER_COUNT = "trigger_count"
    """The PLC's count of triggers and a camera's frames differ."""
    CAMERA_ATTENTION = "camera_attention"
    """A camera delivers, and reports something that a person must look at."""
    LINE_STALLED = "line_stalled"
    """A thread makes no progress, or a frame has no verdict long after its deadline."""
    CHALLENGE_MISSED = "challenge_missed"
    """A challenge part was not rejected."""
    NO_VERDICT_RUN = "no_verdict_run"
    DEGRADED_RUN = "degraded_run"
    REJECT_RUN = "reject_run"
    RELOAD_STALLED = "reload_stalled"
    """New engines are still being loaded after a minute."""
    RELOAD_REFUSED = "reload_refused"
    LEDGER_LOCKED = "ledger_locked"
    """Another program holds the ledger."""
    LEDGER_FAILED = "ledger_failed"
    LEDGER_SLOW = "ledger_slow"
    """The ledger is far behind, or its disk does not answer."""
    LEDGER_LOST = "ledger_lost"
    """Verdicts were sent and are not on record."""
    CLOCK_STEPPED = "clock_stepped"
    """The wall clock was set, or was wrong at the start."""
    REPORT_STALLED = "report_stalled"
    """Status and client keys are not kept up to date."""
    # Raised by the HMI.
    DAEMON_SILENT = "daemon_silent"
    WIRE_VERSION_MISMATCH = "wire_version_mismatch"
    FORGED_MESSAGES = "forged_messages"
    ARCHIVE_SILENT = "archive_silent"
    ARCHIVE_FAILED = "archive_failed"
    CERTIFICATE_REFUSED = "certificate_refused"
    OTHER = "other"
    """An alarm of another version of the project."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that is active now."""

    code: AlarmCode
    text: str
    """What is wrong and where, for the operator."""


_BEGINNINGS: tuple[tuple[AlarmCode, str], ...] = (
    (AlarmCode.CAMERA_LOST, r"camera \S+ is lost$"),
    (AlarmCode.CAMERA_DELAYED, r"camera \S+: no picture for \d+ ms"),
    (AlarmCode.TRIGGER_COUNT, r"camera \S+: (the PLC counted|there are) -?\d+ more "),
    (AlarmCode.CAMERA_ATTENTION, r"camera \S+: "),
    (AlarmCode.REPORT_STALLED, r"report stands still: "),
    (AlarmCode.LEDGER_SLOW, r"ledger stands still: |ledger is \d+ verdicts behind"),
    (AlarmCode.LEDGER_LOCKED, r"ledger cannot be written: .*(is locked|another daemon writes it)"),
    (AlarmCode.LEDGER_FAILED, r"ledger cannot be written"),
    (AlarmCode.LEDGER_LOST, r"ledger has lost "),
    (AlarmCode.LINE_STALLED, r"\S+ stands still$|a frame is without a verdict"),
    (AlarmCode.CHALLENGE_MISSED, r"challenge part "),
    (AlarmCode.NO_VERDICT_RUN, r"at least \d+ frames in a row without a verdict"),
    (AlarmCode.DEGRADED_RUN, r"at least \d+ frames in a row judged by the gate alone"),
    (AlarmCode.REJECT_RUN, r"at least \d+ rejects in a row"),
    (AlarmCode.RELOAD_STALLED, r"new engines are not loaded"),
    (AlarmCode.RELOAD_REFUSED, r"new engines were refused"),
    (AlarmCode.CLOCK_STEPPED, r"the clock (was set|is|stands) "),
    (AlarmCode.DAEMON_SILENT, r"the daemon is silent"),
    (AlarmCode.WIRE_VERSION_MISMATCH, r"the daemon has another version"),
    (AlarmCode.FORGED_MESSAGES, r"another program sends messages in the line's name"),
    (AlarmCode.ARCHIVE_SILENT, r"the archive is silent"),
    (AlarmCode.ARCHIVE_FAILED, r"the archive cannot save "),
    (AlarmCode.CERTIFICATE_REFUSED, r"the \S+ renewed certificate cannot be used"),
)
_CODES = tuple((code, re.compile(beginning, re.DOTALL)) for code, beginning in _BEGINNINGS)


def alarm_code(text: str) -> AlarmCode:
    """Return the code of an alarm's text."""
    found = (code for code, beginning in _CODES if beginning.match(text))
    return next(found, AlarmCode.OTHER)
