"""Names of log events: `noun.past_verb`, one set of fields each.

A person greps for these; renaming one is a breaking change.
"""

from __future__ import annotations

CAMERA_OPENED = "camera.opened"
"""A camera delivers. Fields: camera."""
CAMERA_LOST = "camera.lost"
"""A camera went away; the line retries. Fields: camera, problem, where, attempt, attempts."""
CAMERA_RECOVERED = "camera.recovered"
"""A lost camera delivers again. Fields: camera."""
CAMERA_FINISHED = "camera.finished"
"""A camera has no more frames, as a folder read once. Fields: camera, frames."""
PICTURE_JUDGED = "picture.judged"
"""A picture of a folder has its verdict. Fields: camera, picture, decision, reason, detail, seq."""
PICTURES_UNTOLD = "pictures.untold"
"""Verdicts went over the spool before the log could name them; the ledger has them.
Fields: pictures, seq (of the first)."""
CAMERA_SKIPPED = "camera.skipped"
"""Not all that a camera's folder holds are pictures. Fields: camera, skipped (counts by
kind, with the first names)."""

ENGINE_LOADED = "engine.loaded"
"""A model is ready. Fields: engine, model, backend."""
ENGINE_FAILED = "engine.failed"
"""An inference failed; its frame got NO_VERDICT(engine_error). Fields: problem, suppressed."""

ENGINE_CHANGED = "engine.changed"
"""A running line judges with other engines from the next frame on.
Fields: gate, segmenter, gate_before, segmenter_before, config_hash."""
ENGINE_REFUSED = "engine.refused"
"""New engines or thresholds were not taken; the line goes on with the old. Fields: problem."""

SHADOW_STARTED = "shadow.started"
"""Candidates judge in slack time what the line judged. Fields: models, record."""
SHADOW_STOPPED = "shadow.stopped"
"""They do not any more. Fields: models, problem (empty if they were told to stop)."""
PLAN_STALE = "plan.stale"
"""A TensorRT plan is missing or does not hold here; it is built now. Fields: model, problem."""
PLAN_BUILT = "plan.built"
"""A TensorRT plan was built and kept. Fields: model, typing, build_s."""
GPU_RECOVERED = "gpu.recovered"
"""A lost GPU answers again; the model's plan was loaded anew. Fields: model."""
GRAPH_REFUSED = "graph.refused"
"""CUDA cannot record a model's inference as a graph; it runs without. Fields: model, problem."""

VERDICT_LATE = "verdict.late"
"""Results came after their frames were closed; recorded, never published.
Fields: late, the count of this epoch."""

LINE_STARTED = "line.started"
"""The line captures. Fields: line, epoch, first_seq, verdicts, replay."""
LINE_STOPPED = "line.stopped"
"""The line has closed every frame. Fields: line and the counters."""
LINE_STALLED = "line.stalled"
"""A thread of the line stands still; systemd's watchdog is not fed, and restarts the line.
Fields: line, problem."""
LINE_SUMMARY = "line.summary"
"""Once a second. Fields: rate_hz and the counters."""

ALARM_RAISED = "alarm.raised"
"""A person must look. Fields: alarm."""
ALARM_CLEARED = "alarm.cleared"
"""The alarm's cause is gone. Fields: alarm."""

SPOOL_RECOVERED = "spool.recovered"
"""Frames that a dead daemon left open were closed. Fields: unfinished, set_aside."""

ADDRESS_MISSING = "address.missing"
"""This PC does not have an address yet that the line listens on. Fields: address."""
WIRE_OPEN = "wire.open"
"""Any user of this PC can publish in the line's name when it does not run: an address is
written out, without keys. Fields: line, address."""
CLIENT_CUT = "client.cut"
"""A client that asked for too much was disconnected. Fields: address, problem, cut."""
CLIENT_REFUSED = "client.refused"
"""A subscriber without a known key was turned away. Fields: problem, key, refused."""

GATEWAY_STARTED = "gateway.started"
"""A PLC gateway runs. Fields: gateway, line, cursor."""
GATEWAY_STOPPED = "gateway.stopped"
"""It has told the PLC to reject everything. Fields: gateway, cursor, waiting."""
TRIGGER_REFUSED = "trigger.refused"
"""A PLC's trigger was not carried out, and the PLC was told. Fields: trigger_id, reason (stale,
again: this id was heard before with the same part, torn, part_id, line), suppressed."""
PART_TURNED = "part.turned"
"""A pass is shown as a reject, for its part must not pass. Fields: seq, part_id, cause,
suppressed."""
PLC_CONNECTED = "plc.connected"
"""The PLC answers, or asks. Fields: gateway."""
PLC_LOST = "plc.lost"
"""The PLC is away; the link retries for ever. Fields: problem, suppressed."""
PEER_REFUSED = "peer.refused"
"""A client of our server was turned away, or a request of its. Fields: problem, refused,
address, thumbprint, name, user, suppressed."""
PEER_FAILED = "peer.failed"
"""Bytes of a PLC, client or broker raised something unforeseen; it was dropped. Fields: problem,
address, faults, suppressed."""
LINK_WARNED = "link.warned"
"""The link's configuration leaves something open, or shuts everybody out. Fields: problem."""
PLC_TOLD = "plc.told"
"""The error code at the PLC changed. Fields: error, online."""
LINE_RENUMBERED = "line.renumbered"
"""The line lost its spool; result ids begin again. Fields: epoch, last_seq."""
VERDICTS_LOST = "verdicts.lost"
"""Verdicts that nobody holds any more; each is a reject. Fields: from_seq, to_seq."""
LINE_FORGED = "line.forged"
"""Somebody who is not seen to be the line speaks in its name; nothing of it is taken.
Fields: problem, suppressed."""
WIRE_BROKEN = "wire.broken"
"""A message breaks the wire's schema: another version talks. Fields: problem, suppressed."""

LEDGER_FAILED = "ledger.failed"
"""The ledger cannot be written; its backlog waits in the spool. Fields: problem, where."""
LEDGER_PRUNED = "ledger.pruned"
"""Verdicts were removed for their age or the file's size; the ledger has an entry of it too.
Fields: from_seq, to_seq, verdicts, why."""
CLOCK_STEPPED = "clock.stepped"
"""The wall clock was set while the line ran; what is stamped meanwhile is marked. Fields:
step_ms, undone, synchronised."""
LEDGER_RECOVERED = "ledger.recovered"
"""The ledger is written again. Fields: behind."""

ARCHIVE_STARTED = "archive.started"
"""An archive of pictures runs. Fields: archive, line, folder, frames, mib, cursor."""
ARCHIVE_STOPPED = "archive.stopped"
"""It has written what it held. Fields: archive, saved, waiting, missed."""
ARCHIVE_SUMMARY = "archive.summary"
"""Once a minute. Fields: frames, mib, saved, removed, waiting, missed."""
ARCHIVE_MISSED = "archive.missed"
"""A frame worth keeping has no picture. Fields: line, kind, why, seq, suppressed."""
ARCHIVE_FAILED = "archive.failed"
"""Pictures cannot be saved; they wait in memory. A person must look. Fields: problem, where."""
ARCHIVE_RECOVERED = "archive.recovered"
"""Pictures are saved again. Fields: waiting, missed."""
ARCHIVE_PRUNED = "archive.pruned"
"""Pictures were removed for their age. Fields: frames, why."""
ARCHIVE_REBUILT = "archive.rebuilt"
"""The index was made again from the sidecars. Fields: frames, problem."""

RECORDING_STARTED = "recording.started"
"""A recorder follows a line. Fields: line, out, max_mib."""
RECORDING_WAITING = "recording.waiting"
"""The line does not run; the recorder waits for it. Fields: line, folder."""
RECORDING_MISSED = "recording.missed"
"""Something is not in the recording, and the recording says so. Fields: what, seq, suppressed."""
RECORDING_STOPPED = "recording.stopped"
"""The recording has ended. Fields: line, why, frames, without_picture, missed."""

PAGE_STARTED = "page.started"
"""A page is served. Fields: line, bind, tls, beyond_this_machine."""
PAGE_STOPPED = "page.stopped"
"""It is served no more. Fields: line."""
PAGE_FAILED = "page.failed"
"""A thread of the page died, and the page with it. Fields: thread."""
LOGIN_REFUSED = "login.refused"
"""A wrong name or password at the page. Fields: name, address, suppressed."""
CERTIFICATE_RENEWED = "certificate.renewed"
"""The page took a certificate that was renewed on the disk. Fields: certificate."""
CERTIFICATE_REFUSED = "certificate.refused"
"""A renewed certificate or key cannot be used; the one before stays. Fields: problem."""
REQUEST_FAILED = "request.failed"
"""A request to the page hit a fault of the page itself. Fields: path, address, suppressed."""
LIBRARY_WARNED = "library.warned"
"""A library under the page has something to say. Fields: library, words, cause, suppressed."""
OPERATOR_ACTED = "operator.acted"
"""Somebody who is logged in does something; the ledger has it too.
Fields: actor, action, detail."""

CONFIG_LOADED = "config.loaded"
"""A configuration is in force. Fields: where, config_hash."""
