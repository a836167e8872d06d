"""Opens spool and ledger, and continues where the previous daemon ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from edgeinspect.config import LineConfig
from edgeinspect.domain import NS_PER_MS, Clock, model_name
from edgeinspect.errors import StorageError, TransientError
from edgeinspect.pipeline.verdicts import VerdictCloser, restart_verdict
from edgeinspect.ports import Camera, ImageFileCamera
from edgeinspect.storage.ledger import LedgerTail, LedgerWriter, read_tail
from edgeinspect.storage.paths import shared_memory_folder
from edgeinspect.storage.spool import Spool
from edgeinspect.system import ClockStep, ClockStepDetector, is_synchronised, log_events
from edgeinspect.wire import encode_message

_log = structlog.get_logger()
RecordEvent = Callable[[str, dict[str, Any]], None]
"""Records an event (kind, detail) in the ledger."""


def state_folder(config: LineConfig) -> Path:
    """Return the folder of what must outlive a restart: the ledger's, if the line has one."""
    return Path(config.ledger.folder) if config.ledger else shared_memory_folder(config)


def assign_history_files(config: LineConfig, cameras: Mapping[str, Camera]) -> None:
    """Set the file in which each camera of image files saves what was inspected."""
    folder = state_folder(config)
    for name, camera in cameras.items():
        if isinstance(camera, ImageFileCamera):
            camera.set_history_file(folder / f"{config.line}.{name}.judged")


def open_spool(config: LineConfig, clock: Clock) -> Spool:
    """Return the line's spool, continuing the ledger's numbers if the spool itself was lost.

    Raises:
        StorageError: The spool was lost, and another program holds the ledger.
        TransientError: The ledger changed before the spool was locked, as by a restore.
        SpoolError: It cannot be created, or another daemon holds it.
    """
    ledger = _ledger_path(config)
    path = shared_memory_folder(config) / f"{config.line}.spool"
    try:
        before = read_tail(ledger) if ledger else LedgerTail()
    except StorageError:
        if not path.exists():  # ids would begin again, and their verdicts never be recorded
            raise
        before, ledger = LedgerTail(), None
    spool = Spool(
        path,
        line=config.line,
        slots=config.spool.slots,
        utc_ns=clock.utc_ns(),
        at_least_seq=before.last_seq,
        at_least_epoch=before.last_epoch,
        clean_shutdown=before.clean_shutdown,
    )
    # A restore may have ended, and the previous daemon, before this one locked the spool.
    with suppress(StorageError):
        if ledger and read_tail(ledger) != before:
            spool.release()
            changed = "the ledger changed while the line was started"
            raise TransientError(changed, where=str(ledger), remedy="Start the line again")
    return spool


def open_ledger(
    config: LineConfig, spool: Spool, closer: VerdictCloser, clock: Clock
) -> LedgerWriter | None:
    """Return the line's ledger with the epoch that begins; None if the line has none."""
    path = _ledger_path(config)
    if path is None or config.ledger is None:
        return None
    writer = LedgerWriter(
        path,
        spool=spool,
        late=closer.late_verdicts,
        clock=clock,
        keep_days=config.ledger.keep_days,
        max_mib=config.ledger.max_mib,
    )
    provenance = closer.provenance
    writer.begin_epoch(
        provenance.config_hash, model_name(provenance.gate), model_name(provenance.segmenter)
    )
    return writer


def recover_unfinished(spool: Spool, closer: VerdictCloser, clock: Clock) -> None:
    """Close the frames that a crashed daemon left open, as NO_VERDICT(restart)."""
    for left in spool.unfinished:
        verdict = restart_verdict(
            closer.provenance, left.seq, left.epoch, left.record, clock.utc_ns()
        )
        spool.close(left.seq, encode_message(verdict))
    if spool.unfinished or spool.quarantined:
        _log.warning(
            log_events.SPOOL_RECOVERED,
            unfinished=len(spool.unfinished),
            set_aside=str(spool.quarantined or ""),
        )


def check_clock_step(steps: ClockStepDetector, record_event: RecordEvent) -> None:
    """Check whether the wall clock was set; log a step and record it in the ledger."""
    _record_step(steps.check(), record_event)


def check_clock_at_start(
    config: LineConfig, steps: ClockStepDetector, record_event: RecordEvent
) -> None:
    """Check whether the wall clock was set since the previous daemon's last verdict."""
    ledger = _ledger_path(config)
    try:
        last_utc_ns = read_tail(ledger).last_utc_ns if ledger else None
    except StorageError:
        last_utc_ns = None
    _record_step(steps.begin(last_utc_ns), record_event)


def _record_step(step: ClockStep | None, record_event: RecordEvent) -> None:
    if step is None:
        return
    fields = {
        "step_ms": step.by_ns // NS_PER_MS,
        "undone": step.undone,
        "synchronised": is_synchronised(),
    }
    _log.error(log_events.CLOCK_STEPPED, **fields)
    record_event(log_events.CLOCK_STEPPED, fields)


def _ledger_path(config: LineConfig) -> Path | None:
    if config.ledger is None:
        return None
    return Path(config.ledger.folder) / f"{config.line}.ledger.sqlite"
