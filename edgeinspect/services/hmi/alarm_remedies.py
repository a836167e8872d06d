"""What to do about an alarm, in words for the person on shift."""

from __future__ import annotations

DAEMON_SILENT = "the daemon is silent"
WIRE_VERSION_MISMATCH = "the daemon speaks another version"
FORGED_MESSAGES = "somebody else speaks in the line's name"
ARCHIVE_SILENT = "the archive is silent"
ARCHIVE_FAILED = "the archive cannot save pictures"
CERTIFICATE_REFUSED = "the page's renewed certificate cannot be used"

_RELOAD_REFUSED = (
    "The new engines or thresholds were not taken; the old ones judge on. Call the vision "
    "engineer, and show this text."
)
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        DAEMON_SILENT,
        "Stop feeding parts, or sort them by hand. Look whether the daemon runs: "
        "systemctl status edgeinspect@LINE. Start it: systemctl restart edgeinspect@LINE.",
    ),
    (
        WIRE_VERSION_MISMATCH,
        "Daemon and page are of different versions. Restart both after the update.",
    ),
    (
        FORGED_MESSAGES,
        "Stop feeding parts, or sort them by hand. What is heard is not believed, for it does "
        "not stand in the line's spool. Show this to the PC's administrator: journalctl -u "
        "edgeinspect-hmi@LINE says more.",
    ),
    (
        ARCHIVE_SILENT,
        "The line is inspected as before; its pictures are not kept. Start the "
        "archive: systemctl restart edgeinspect-archive@LINE.",
    ),
    (
        ARCHIVE_FAILED,
        "The line is inspected as before; its pictures wait in memory, not for long. "
        "Free space on the archive's disk, or look whether it is still there.",
    ),
    (
        CERTIFICATE_REFUSED,
        "The line is inspected as before, and the page goes on with the certificate "
        "before, until that ends. Show this text to whoever renews certificates.",
    ),
    ("new engines", _RELOAD_REFUSED),
    (
        "challenge part",
        "The line did not see a known defect. Stop the line, clean lens and lamp, "
        "send the challenge part again. Call the vision engineer.",
    ),
    (
        "frames in a row without a verdict",
        "Parts are not being judged. Look at the reasons under "
        "the counts: deadline and overrun mean a busy PC, "
        "capture_health means lamp or lens.",
    ),
    (
        "judged by the gate alone",
        "The PC is too slow for the segmenter. Look for other programs "
        "and for heat; parts are judged more strictly meanwhile.",
    ),
    (
        "rejects in a row",
        "Rejecting everything is never normal. Look at the pictures: dirt on the "
        "lens, another product, lamp, or a real fault upstream.",
    ),
    (
        "is locked",
        "Another program holds the ledger, as a backup or a database shell. End it; what "
        "the line decides is kept in memory meanwhile, not for long.",
    ),
    (
        "ledger cannot be written",
        "The disk of the ledger is full or broken. Free space; what the "
        "line decides is kept in memory meanwhile, not for long.",
    ),
    ("ledger is", "The disk is too slow. Look for other programs that write to it."),
    (
        "ledger has lost",
        "Verdicts were sent and are not on record. Note the time; call the vision engineer.",
    ),
    (
        "camera",
        "Check the camera's cable and power. It is tried again by itself; nothing needs a restart.",
    ),
    ("disk", "Free space on the disk. The line goes on meanwhile."),
    ("throttl", "The PC is too hot and slows down. Clean its fan and filters."),
    ("clock", "The PC's time is wrong. Check its time server."),
)
_DEFAULT_REMEDY = "Show this text to the vision engineer."


def remedy_for(alarm: str, line: str) -> str:
    """What to do about an alarm; the most exact that fits."""
    words = alarm.lower()
    for begin, text in _REMEDIES:
        if begin in words:
            return text.replace("@LINE", f"@{line}")
    return _DEFAULT_REMEDY
