"""Names of log events: `noun.past_verb`, one set of fields each.

Operators search for these names; renaming one is a breaking change.
"""

from __future__ import annotations

CAMERA_OPENED = "camera.opened"
"""A camera delivers frames. Fields: camera."""
CAMERA_LOST = "camera.lost"
"""A camera went away; the line retries. Fields: camera, problem, where, attempt, attempts."""
CAMERA_RECOVERED = "camera.recovered"
"""A lost camera delivers frames again. Fields: camera."""
CAMERA_FINISHED = "camera.finished"
"""A camera has no more frames, such as a folder that is read once. Fields: camera, frames."""
IMAGE_INSPECTED = "image.inspected"
"""An image file of a folder has its verdict. Fields: camera, picture, decision, reason, detail,
seq."""
IMAGES_UNLOGGED = "images.unlogged"
"""Verdicts left the spool before they could be logged per image; the ledger has them.
Fields: pictures, seq (of the first)."""
CAMERA_SKIPPED = "camera.skipped"
"""A camera's folder also has files that are not images. Fields: camera, skipped (counts by
kind, with the first names)."""

ENGINE_LOADED = "engine.loaded"
"""A model is ready. Fields: engine, model, backend."""
ENGINE_FAILED = "engine.failed"
"""An inference failed; its frame got NO_VERDICT(engine_error). Fields: problem, suppressed."""

ENGINE_CHANGED = "engine.changed"
"""A running line uses other engines from the next frame on.
Fields: gate, segmenter, gate_before, segmenter_before, config_hash; with a good-parts model also
unknown, unknown_before."""
ENGINE_REFUSED = "engine.refused"
"""New engines or thresholds were refused; the line keeps the old ones. Fields: problem."""

SHADOW_STARTED = "shadow.started"
"""Candidate models inspect frames in idle time. Fields: models, record."""
SHADOW_STOPPED = "shadow.stopped"
"""Candidate models no longer inspect frames. Fields: models, problem (empty after a stop)."""
PLAN_STALE = "plan.stale"
"""A TensorRT plan is missing or does not fit this machine; it is built. Fields: model, problem."""
PLAN_BUILT = "plan.built"
"""A TensorRT plan was built and stored. Fields: model, typing, build_s."""
GPU_RECOVERED = "gpu.recovered"
"""A lost GPU responds again; the model's plan was reloaded. Fields: model."""
GRAPH_REFUSED = "graph.refused"
"""CUDA cannot capture a model's inference as a graph; it runs without. Fields: model, problem."""

VERDICT_LATE = "verdict.late"
"""Results came after their frames were closed; recorded, never published.
Fields: late, the count of this epoch."""

LINE_STARTED = "line.started"
"""The line captures. Fields: line, epoch, first_seq, verdicts, replay."""
LINE_STOPPED = "line.stopped"
"""The line has stopped and every frame is closed. Fields: line and the counters."""
LINE_STALLED = "line.stalled"
"""A thread of the line is stalled; systemd's watchdog is not notified and restarts the line.
Fields: line, problem."""
LINE_SUMMARY = "line.summary"
"""Once a second. Fields: rate_hz and the counters."""

ALARM_RAISED = "alarm.raised"
"""An operator must act. Fields: alarm."""
ALARM_CLEARED = "alarm.cleared"
"""The alarm's cause is gone. Fields: alarm."""

SPOOL_RECOVERED = "spool.recovered"
"""Frames that a crashed daemon left open were closed. Fields: unfinished, set_aside."""

ADDRESS_MISSING = "address.missing"
"""An address that the line listens on does not exist on this PC yet. Fields: address."""
WIRE_OPEN = "wire.open"
"""Any user of this PC can publish in the line's name while it is stopped: an explicit address
without keys. Fields: line, address."""
CLIENT_CUT = "client.cut"
"""A client that exceeded a limit was disconnected. Fields: address, problem, cut."""
CLIENT_REFUSED = "client.refused"
"""A subscriber without a known key was refused. Fields: problem, key, refused."""

GATEWAY_STARTED = "gateway.started"
"""A PLC gateway runs. Fields: gateway, line, cursor."""
GATEWAY_FORGOT = "gateway.forgot"
"""A file of an earlier run is missing or damaged. Fields: problem, path."""
GATEWAY_STOPPED = "gateway.stopped"
"""The gateway has stopped; the PLC is set to reject everything. Fields: gateway, cursor,
waiting."""
TRIGGER_REFUSED = "trigger.refused"
"""A PLC's trigger was refused, and the PLC was notified. Fields: trigger_id, reason (stale, again:
this id was received before with the same part, torn, part_id, line), suppressed."""
PART_REJECTED = "part.rejected"
"""A pass is shown as a reject because its part must not pass. Fields: seq, part_id, cause,
suppressed."""
PLC_CONNECTED = "plc.connected"
"""The PLC responds, or polls. Fields: gateway."""
PLC_LOST = "plc.lost"
"""The PLC is away; the link retries indefinitely. Fields: problem, suppressed."""
PEER_REFUSED = "peer.refused"
"""A client of our server, or one of its requests, was refused. Fields: problem, refused,
address, thumbprint, name, user, suppressed."""
PEER_FAILED = "peer.failed"
"""A message of a PLC, client or broker raised an unexpected error and was dropped. Fields:
problem, address, faults, suppressed."""
LINK_WARNED = "link.warned"
"""The link's configuration permits everyone or no one, or a file in `pki` is not valid.
Fields: problem."""
PLC_NOTIFIED = "plc.notified"
"""The error code at the PLC changed. Fields: error, online."""
LINE_RENUMBERED = "line.renumbered"
"""The line lost its spool; result ids restart. Fields: epoch, last_seq."""
VERDICTS_LOST = "verdicts.lost"
"""Verdicts are no longer held anywhere; each is a reject. Fields: from_seq, to_seq."""
LINE_FORGED = "line.forged"
"""A sender that cannot be verified to be the line uses its name; its messages are ignored.
Fields: problem, suppressed."""
WIRE_BROKEN = "wire.broken"
"""A message does not match the wire's schema: another version sends. Fields: problem,
suppressed."""

LEDGER_FAILED = "ledger.failed"
"""The ledger cannot be written; its backlog waits in the spool. Fields: problem, where."""
LEDGER_PRUNED = "ledger.pruned"
"""Verdicts were removed because of age or file size; the ledger has an entry about it too.
Fields: from_seq, to_seq, verdicts, why."""
CLOCK_STEPPED = "clock.stepped"
"""The wall clock was set while the line ran; timestamps meanwhile are marked. Fields:
step_ms, undone, synchronised."""
LEDGER_RECOVERED = "ledger.recovered"
"""The ledger is written again. Fields: behind."""

ARCHIVE_STARTED = "archive.started"
"""An image archiver runs. Fields: archive, line, folder, frames, mib, cursor."""
ARCHIVE_STOPPED = "archive.stopped"
"""The archiver has stopped and written its queue. Fields: archive, saved, waiting, missed."""
ARCHIVE_SUMMARY = "archive.summary"
"""Once a minute. Fields: frames, mib, saved, removed, waiting, missed."""
ARCHIVE_MISSED = "archive.missed"
"""A frame to be archived has no image. Fields: line, kind, why, seq, suppressed."""
ARCHIVE_FAILED = "archive.failed"
"""Images cannot be saved; they wait in memory. An operator must act. Fields: problem, where."""
ARCHIVE_RECOVERED = "archive.recovered"
"""Images are saved again. Fields: waiting, missed."""
ARCHIVE_PRUNED = "archive.pruned"
"""Images were removed because of their age. Fields: frames, why."""
ARCHIVE_REBUILT = "archive.rebuilt"
"""The index was rebuilt from the sidecars. Fields: frames, problem."""

RECORDING_STARTED = "recording.started"
"""A recorder follows a line. Fields: line, out, max_mib."""
RECORDING_WAITING = "recording.waiting"
"""The line does not run; the recorder waits for it. Fields: line, folder."""
RECORDING_MISSED = "recording.missed"
"""A gap in the recording, which the recording also states. Fields: what, seq, suppressed."""
RECORDING_STOPPED = "recording.stopped"
"""The recording has ended. Fields: line, why, frames, without_picture, missed."""

HMI_STARTED = "hmi.started"
"""The HMI is served. Fields: line, bind, tls, beyond_this_machine."""
HMI_STOPPED = "hmi.stopped"
"""The HMI has stopped. Fields: line."""
HMI_FAILED = "hmi.failed"
"""A thread of the HMI died, so the HMI stopped. Fields: thread."""
LOGIN_REFUSED = "login.refused"
"""A login with a wrong name or password. Fields: name, address, suppressed."""
CERTIFICATE_RENEWED = "certificate.renewed"
"""The HMI loaded a certificate that was renewed on disk. Fields: certificate."""
CERTIFICATE_REFUSED = "certificate.refused"
"""A renewed certificate or key is unusable; the previous one stays. Fields: problem."""
REQUEST_FAILED = "request.failed"
"""A request to the HMI failed because of an internal error. Fields: path, address, suppressed."""
LIBRARY_WARNED = "library.warned"
"""A library of the HMI logged a warning. Fields: library, words, cause, suppressed."""
OPERATOR_ACTED = "operator.acted"
"""A logged-in user performed an action; the ledger has it too.
Fields: actor, action, detail."""

CONFIG_LOADED = "config.loaded"
"""A configuration is in effect. Fields: where, config_hash."""
