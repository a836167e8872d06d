"""Checks of storage: space for spool, ring and ledger, and a persistent journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgeinspect.config import LineConfig
from edgeinspect.storage.shared_memory import default_folder
from edgeinspect.storage.spool import HEADER_BYTES, SLOT_BYTES
from edgeinspect.tools.doctor.diagnostic import Diagnostic, failure, ok, skipped, warning
from edgeinspect.tools.doctor.host import Host

STATE_FOLDER = "/var/lib/edgeinspect"
RUNTIME_FOLDER = "/run/edgeinspect"
"""Folder in which systemd creates one for each line that runs as a service."""
MIN_FREE_BYTES = 1 << 30
"""Free space below which a disk counts as full: logs and updates need some too."""
RING_RESERVE_BYTES = 64 << 20
"""Space reserved for the rings, whose size depends on the models."""


def check_storage(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    """Check memory for the line's files, disk for the ledger, and the journal."""
    yield _check_memory(host, config)
    yield _check_disk(host, config)
    yield _check_journal(host)


def _check_memory(host: Host, config: LineConfig | None) -> Diagnostic:
    check = "storage.memory"
    folder = "/dev/shm"
    required_bytes = RING_RESERVE_BYTES
    if config is not None:
        folder = _line_folder(host, config)
        exists = host.path(Path(folder, f"{config.line}.spool")).exists()
        required_bytes += 0 if exists else HEADER_BYTES + config.spool.slots * SLOT_BYTES
    free_bytes = host.free_bytes(folder)
    if free_bytes is None:
        return skipped(check, f"{folder} does not exist")
    if config is not None and host.is_read_only(folder):
        return failure(
            check,
            f"{folder} is on a read-only file system",
            "mount -o remount,rw its file system, or set another spool.folder",
        )
    summary = f"{free_bytes >> 20} MiB free at {folder}, {required_bytes >> 20} required"
    if free_bytes >= required_bytes:
        return ok(check, summary)
    return failure(
        check,
        summary,
        "fewer spool.slots or capture.ring_slots, another spool.folder, or more space: "
        "mount -o remount,size=2G /run (or /dev/shm; permanently: /etc/fstab)",
    )


def _line_folder(host: Host, config: LineConfig) -> str:
    """Return the line's folder: a service's where services are installed, else the user's."""
    if config.spool.folder:
        return config.spool.folder
    service = f"{RUNTIME_FOLDER}/{config.line}"
    installed = host.is_root() and host.path(RUNTIME_FOLDER).is_dir()
    return service if installed or host.path(service).is_dir() else str(default_folder())


def _check_disk(host: Host, config: LineConfig | None) -> Diagnostic:
    check = "storage.disk"
    folder, required_bytes = STATE_FOLDER, MIN_FREE_BYTES
    if config is not None and config.ledger is not None:
        folder = config.ledger.folder
        paths = host.glob(f"{folder}/{config.line}.ledger.sqlite*")
        used_bytes = sum(host.path(path).stat().st_size for path in paths)
        required_bytes += max(0, round(config.ledger.max_mib * (1 << 20)) - used_bytes)
    free_bytes = host.free_bytes(folder)
    if free_bytes is None:
        return skipped(check, f"{folder} does not exist")
    summary = f"{free_bytes / (1 << 30):.1f} GiB free at {folder}"
    if free_bytes < MIN_FREE_BYTES:
        return failure(
            check,
            summary,
            "free some space: records stay in the spool only until it is overwritten",
        )
    if free_bytes < required_bytes:
        return warning(
            check,
            f"{summary}, and the ledger may grow by "
            f"{(required_bytes - MIN_FREE_BYTES) / (1 << 30):.1f}",
            "lower ledger.max_mib or ledger.keep_days, or use a larger disk",
        )
    return ok(check, summary)


def _check_journal(host: Host) -> Diagnostic:
    check = "storage.journal"
    if host.path("/var/log/journal").is_dir():
        return ok(check, "the log is persistent")
    return warning(
        check,
        "the log is in memory and is lost at a restart",
        "mkdir /var/log/journal && systemctl restart systemd-journald",
    )
