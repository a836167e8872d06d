"""What to do about each reason, PLC error and log event; an example of each alarm's text.

`make_reference.py` puts them into tables of docs/troubleshooting.md, beside what the code says of
each, and fails if one is missing or belongs to nothing. The remedies of alarms are the HMI's.
"""

from __future__ import annotations

from edgeinspect.domain import AlarmCode, PlcError, Reason
from edgeinspect.system import log_events

ALARM_TEXTS: dict[AlarmCode, str] = {
    AlarmCode.CAMERA_LOST: "camera top is lost",
    AlarmCode.CAMERA_DELAYED: "camera top: no picture for 2003 ms, reading a3.png",
    AlarmCode.TRIGGER_COUNT: "camera top: the PLC counted 3 more triggers than there are frames",
    AlarmCode.CAMERA_ATTENTION: "camera top: a.png not complete for 10 s",
    AlarmCode.LINE_STALLED: "inspect-0 stands still",
    AlarmCode.CHALLENGE_MISSED: "challenge part pit.png was not rejected",
    AlarmCode.NO_VERDICT_RUN: "at least 20 frames in a row without a verdict",
    AlarmCode.DEGRADED_RUN: "at least 50 frames in a row judged by the gate alone",
    AlarmCode.REJECT_RUN: "at least 50 rejects in a row",
    AlarmCode.RELOAD_STALLED: "new engines are not loaded after 60 s",
    AlarmCode.RELOAD_REFUSED: "new engines were refused: strip-gate/2 violates the model contract",
    AlarmCode.LEDGER_LOCKED: "ledger cannot be written: database is locked",
    AlarmCode.LEDGER_FAILED: "ledger cannot be written: database or disk is full",
    AlarmCode.LEDGER_SLOW: "ledger is 3000 verdicts behind; the spool holds 4096",
    AlarmCode.LEDGER_LOST: "ledger has lost 3 verdicts of 1 to 3",
    AlarmCode.CLOCK_STEPPED: "the clock was set back by 2.0 hours",
    AlarmCode.REPORT_STALLED: "report stands still: status and keys are not up to date",
    AlarmCode.DAEMON_SILENT: "the daemon is silent",
    AlarmCode.WIRE_VERSION_MISMATCH: "the daemon has another version",
    AlarmCode.FORGED_MESSAGES: "another program sends messages in the line's name",
    AlarmCode.ARCHIVE_SILENT: "the archive is silent",
    AlarmCode.ARCHIVE_FAILED: "the archive cannot save frames",
    AlarmCode.CERTIFICATE_REFUSED: "the HMI's renewed certificate cannot be used",
    AlarmCode.OTHER: "any other text",
}
REASONS: dict[Reason, str] = {
    Reason.DEADLINE: (
        "`detail` empty: the engines were too slow or the PC busy; `not started`: frames before it "
        "took the time. `edgeinspect bench FILE`, other programs, heat, `real_time`; else a "
        "longer `budget_ms` or INT8"
    ),
    Reason.OVERRUN: (
        "Frames come faster than they are inspected: lower the rate, use more `inspect.workers`, "
        "faster models, more `capture.ring_slots` for bursts"
    ),
    Reason.SHAPE: (
        "`detail` names both sizes. Set the camera's region, or `capture.wrong_shape: letterbox`"
    ),
    Reason.CAPTURE_ERROR: (
        "`detail` says what: a cut or damaged image, or another bit depth than declared. Repair "
        "what writes it"
    ),
    Reason.CAPTURE_HEALTH: (
        "`detail` says black, saturated or frozen: lamp, lens cap, exposure, a camera that hangs. "
        "The limits are in `capture.health`"
    ),
    Reason.CAPTURE_LOST: (
        "The network or the USB bus lost it: cable, packet size, receive buffers (`doctor FILE`), "
        "several cameras on one port"
    ),
    Reason.ENGINE_ERROR: (
        "`detail` says what the library reported. Once: watch it. Often: `edgeinspect models "
        "verify`, then the previous version"
    ),
    Reason.RESTART: "The daemon died: `journalctl -u edgeinspect@NAME` before the last start",
    Reason.SHUTDOWN: "Somebody stopped or restarted the line",
}
PLC_ERRORS: dict[PlcError, str] = {
    PlcError.STARTING: "Wait for the line's first heartbeat; if it stays: is the line running?",
    PlcError.HEARTBEAT_LOST: "Restart the line; between two PCs check the network",
    PlcError.WIRE: (
        "Another version, or another sender: `wire.broken` or `line.forged` in the gateway's log. "
        "Update both; `feed.spool`, `feed.owner`"
    ),
    PlcError.STOPPING: "Start the gateway: `systemctl start edgeinspect-gateway@NAME`",
    PlcError.NOT_INSPECTING: "The HMI shows which alarm: camera, engine, a stalled thread",
    PlcError.NOT_ENABLED: "The PLC must set `Enable`",
    PlcError.RENUMBERED: "The line lost spool and ledger. Discard the last id; write `FaultReset`",
    PlcError.RESULTS_LOST: (
        "Reject the frames that `Covers` counts; write `FaultReset`. The PLC or the gateway was "
        "away longer than the spool holds, or a backup was restored"
    ),
    PlcError.ACK_TIMEOUT: (
        "The PLC does not write `ResultsAck`: does its program run, is its word order that of the "
        "map? Write it in every cycle"
    ),
    PlcError.OVERRUN: "The PLC takes results too slowly: a shorter cycle, a larger `buffer`",
    PlcError.NEW_JOURNAL: (
        "Expected at the first start of a gateway, and on a spare PC: the program discards its "
        "last id; write `FaultReset`"
    ),
    PlcError.ACK_AHEAD: "An old journal was restored: stop the gateway, remove the journal, start",
}
EVENTS: dict[str, str] = {
    log_events.ADDRESS_MISSING: (
        "The network is not up yet, or the address is wrong. The line binds it when it appears"
    ),
    log_events.ALARM_RAISED: "The [alarm's remedy](#alarms)",
    log_events.ARCHIVE_FAILED: "Free space on the archive's disk, or mount it",
    log_events.ARCHIVE_MISSED: (
        "`why`: the slot was used again (disk too slow, `memory_mib` too small), or the archive "
        "was away"
    ),
    log_events.ARCHIVE_REBUILT: "Nothing; if it repeats, examine the disk",
    log_events.CAMERA_LOST: "`problem` and `where`; cable, power, address",
    log_events.CAMERA_SKIPPED: "Nothing, if those files are no images of parts",
    log_events.CERTIFICATE_REFUSED: (
        "`problem` says what: expired, not the key's, readable by others. Renew it again"
    ),
    log_events.CLIENT_CUT: (
        "That client reads too slowly or requests too much; it reconnects. An unknown address: "
        "look for who it is"
    ),
    log_events.CLIENT_REFUSED: (
        "A client without a key, or with one that is not in `keys/clients`: copy its public key "
        "there"
    ),
    log_events.CLOCK_STEPPED: "Check the time server; verdicts meanwhile say `clock_stepped`",
    log_events.ENGINE_FAILED: "As the reason `engine_error`",
    log_events.ENGINE_REFUSED: "`problem` says why; the old engines inspect on. Mend it, reload",
    log_events.GATEWAY_FORGOT: (
        "Expected on a new PC. Otherwise: which parts must not pass again is not known any more"
    ),
    log_events.GPU_RECOVERED: "Nothing; if it repeats: power, temperature, driver",
    log_events.GRAPH_REFUSED: "Nothing: the model runs without a CUDA graph, a little slower",
    log_events.HMI_FAILED: "systemd restarts it; report the traceback",
    log_events.IMAGES_UNLOGGED: "Nothing: the ledger has them",
    log_events.LEDGER_FAILED: (
        "`problem`: the disk is full or failing, or another program holds the file. A "
        "`quarantined` file stays for examination"
    ),
    log_events.LIBRARY_WARNED: "Report it if it repeats",
    log_events.LINE_FORGED: (
        "Another program publishes in the line's name, or the gateway cannot read the line's "
        "spool: `feed.spool`, `feed.owner`, its group"
    ),
    log_events.LINE_RENUMBERED: "As PLC error 7",
    log_events.LINE_STALLED: (
        "systemd restarts the line; the stack of each thread is in the journal. Report it"
    ),
    log_events.LINK_WARNED: "`problem` says which setting; restrict `allow`, `write` or `pki`",
    log_events.LOGIN_REFUSED: "Many from one address: somebody guesses passwords",
    log_events.PART_REJECTED: (
        "`cause` says why, see [part ids](reference/plc.md#one-part-one-outcome)"
    ),
    log_events.PEER_FAILED: "The message was dropped. Report it with `problem`",
    log_events.PEER_REFUSED: "`problem` and `address`: an unknown client, or a limit",
    log_events.PLC_LOST: (
        "Cable, the PLC's mode, `host`, `port`; Modbus server: `no request` means that the PLC "
        "does not poll"
    ),
    log_events.PLC_NOTIFIED: "As the [PLC error](#plc-error-codes) it names",
    log_events.RECORDING_MISSED: "The recorder's disk is too slow; the gap is in the recording too",
    log_events.REQUEST_FAILED: "Report it with the traceback",
    log_events.SHADOW_STOPPED: "`problem`; the line is not affected. A reload starts it again",
    log_events.SPOOL_RECOVERED: (
        "Nothing: open frames were closed. `set_aside` names a damaged file"
    ),
    log_events.TRIGGER_REFUSED: "`reason`, see [triggers](reference/plc.md#triggers)",
    log_events.VERDICTS_LOST: "As PLC error 8",
    log_events.VERDICT_LATE: "As the reason `deadline`",
    log_events.WIRE_BROKEN: "Another version sends: update both sides",
    log_events.WIRE_OPEN: "Leave `publish` out for a line that only this PC uses, or use `curve`",
}
