"""The HMI's own alarms, and what the operator does about each alarm."""

from __future__ import annotations

from edgeinspect.domain import AlarmCode

DAEMON_SILENT = "the daemon is silent"
WIRE_VERSION_MISMATCH = "the daemon has another version"
FORGED_MESSAGES = "another program sends messages in the line's name"
ARCHIVE_SILENT = "the archive is silent"
ARCHIVE_FAILED = "the archive cannot save frames"
CERTIFICATE_REFUSED = "the HMI's renewed certificate cannot be used"
# `domain.alarm` finds the code of each of these texts.

_RELOAD_REMEDY = (
    "The new engines or thresholds are not in use; the old ones inspect on. Call the vision "
    "engineer, and show this text."
)
_CAMERA_REMEDY = (
    "Check the camera's cable and power. The line reconnects by itself; no restart is needed."
)
_REMEDIES: dict[AlarmCode, str] = {
    AlarmCode.CAMERA_LOST: _CAMERA_REMEDY,
    AlarmCode.CAMERA_DELAYED: _CAMERA_REMEDY,
    AlarmCode.CAMERA_ATTENTION: _CAMERA_REMEDY,
    AlarmCode.TRIGGER_COUNT: (
        "Triggers and frames differ. Check the trigger's cable and sensor, and the camera's cable. "
        "No restart is needed."
    ),
    AlarmCode.LINE_STALLED: (
        "Part of the line does not respond. systemd restarts the line if it stays so; if the alarm "
        "comes back, call the vision engineer."
    ),
    AlarmCode.CHALLENGE_MISSED: (
        "The line did not reject a known defect. Stop the line, clean lens and lamp, "
        "send the challenge part again. Call the vision engineer."
    ),
    AlarmCode.NO_VERDICT_RUN: (
        "Parts get no verdict. Check the reasons under the counts: deadline and overrun mean a "
        "busy PC, capture_health means lamp or lens."
    ),
    AlarmCode.DEGRADED_RUN: (
        "The PC is too slow for the segmenter. Check for other programs "
        "and for heat; parts are rejected more strictly meanwhile."
    ),
    AlarmCode.REJECT_RUN: (
        "Rejecting everything is never normal. Check the images: dirt on the "
        "lens, another product, lamp, or a real fault upstream."
    ),
    AlarmCode.RELOAD_STALLED: _RELOAD_REMEDY,
    AlarmCode.RELOAD_REFUSED: _RELOAD_REMEDY,
    AlarmCode.LEDGER_LOCKED: (
        "Another program holds the ledger, such as a backup or a database shell. End it; verdicts "
        "are kept in memory meanwhile, for a limited time."
    ),
    AlarmCode.LEDGER_FAILED: (
        "The disk of the ledger is full or broken. Free space; verdicts "
        "are kept in memory meanwhile, for a limited time."
    ),
    AlarmCode.LEDGER_SLOW: "The disk is too slow. Check for other programs that write to it.",
    AlarmCode.LEDGER_LOST: (
        "Verdicts were sent and are not on record. Note the time; call the vision engineer."
    ),
    AlarmCode.CLOCK_STEPPED: "The PC's time is wrong. Check its time server.",
    AlarmCode.REPORT_STALLED: (
        "The line is inspected as before; its status and keys are not updated. Restart the line at "
        "the next break: systemctl restart edgeinspect@LINE."
    ),
    AlarmCode.DAEMON_SILENT: (
        "Stop feeding parts, or sort them by hand. Check whether the daemon runs: "
        "systemctl status edgeinspect@LINE. Start it: systemctl restart edgeinspect@LINE."
    ),
    AlarmCode.WIRE_VERSION_MISMATCH: (
        "Daemon and HMI are of different versions. Restart both after the update."
    ),
    AlarmCode.FORGED_MESSAGES: (
        "Stop feeding parts, or sort them by hand. The messages are ignored, since they are not "
        "in the line's spool. Show this to the PC's administrator; details: journalctl -u "
        "edgeinspect-hmi@LINE."
    ),
    AlarmCode.ARCHIVE_SILENT: (
        "The line is inspected as before; its images are not saved. Start the "
        "archive: systemctl restart edgeinspect-archive@LINE."
    ),
    AlarmCode.ARCHIVE_FAILED: (
        "The line is inspected as before; its images wait in memory, for a limited time. "
        "Free space on the archive's disk, or check whether it is mounted."
    ),
    AlarmCode.CERTIFICATE_REFUSED: (
        "The line is inspected as before, and the HMI uses the previous certificate until it "
        "expires. Show this text to the person who renews certificates."
    ),
    AlarmCode.OTHER: "Show this text to the vision engineer.",
}


def remedy_for(code: AlarmCode, line: str) -> str:
    """Return what the operator does about an alarm; `line` names the units in it."""
    return _REMEDIES[code].replace("@LINE", f"@{line}")
