"""Storage: room for spool, ring and ledger, and a journal that outlives a restart."""

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
"""Below it systemd makes a folder for each line that is a service."""
MIN_FREE_BYTES = 1 << 30
"""Free space below which a disk counts as full: logs and updates want some too."""
RING_RESERVE_BYTES = 64 << 20
"""Room left for the rings, whose size the models say."""


def check_storage(host: Host, config: LineConfig | None) -> Iterator[Diagnostic]:
    """Memory for the line's files, disk for the ledger, and the journal."""
    yield _check_memory(host, config)
    yield _check_disk(host, config)
    yield _check_journal(host)


def _check_memory(machine: Host, config: LineConfig | None) -> Diagnostic:
    check = "storage.memory"
    folder = "/dev/shm"
    wanted_bytes = RING_RESERVE_BYTES
    if config is not None:
        folder = _line_folder(machine, config)
        there = machine.path(Path(folder, f"{config.line}.spool")).exists()
        wanted_bytes += 0 if there else HEADER_BYTES + config.spool.slots * SLOT_BYTES
    free_bytes = machine.free_bytes(folder)
    if free_bytes is None:
        return skipped(check, f"{folder} is not there")
    if config is not None and machine.is_read_only(folder):
        return failure(
            check,
            f"{folder} is on a file system that is read-only",
            "mount -o remount,rw where it is, or set spool.folder to another",
        )
    words = f"{free_bytes >> 20} MiB free at {folder}, {wanted_bytes >> 20} wanted"
    if free_bytes >= wanted_bytes:
        return ok(check, words)
    return failure(
        check,
        words,
        "fewer spool.slots or capture.ring_slots, another spool.folder, or more room: "
        "mount -o remount,size=2G /run (or /dev/shm; lasting: /etc/fstab)",
    )


def _line_folder(machine: Host, config: LineConfig) -> str:
    """Where the line will keep its memory: as a service where services are, else as a user's."""
    if config.spool.folder:
        return config.spool.folder
    service = f"{RUNTIME_FOLDER}/{config.line}"
    installed = machine.is_root() and machine.path(RUNTIME_FOLDER).is_dir()
    return service if installed or machine.path(service).is_dir() else str(default_folder())


def _check_disk(machine: Host, config: LineConfig | None) -> Diagnostic:
    check = "storage.disk"
    folder, wanted_bytes = STATE_FOLDER, MIN_FREE_BYTES
    if config is not None and config.ledger is not None:
        folder = config.ledger.folder
        paths = machine.glob(f"{folder}/{config.line}.ledger.sqlite*")
        used_bytes = sum(machine.path(path).stat().st_size for path in paths)
        wanted_bytes += max(0, round(config.ledger.max_mib * (1 << 20)) - used_bytes)
    free_bytes = machine.free_bytes(folder)
    if free_bytes is None:
        return skipped(check, f"{folder} is not there")
    words = f"{free_bytes / (1 << 30):.1f} GiB free at {folder}"
    if free_bytes < MIN_FREE_BYTES:
        return failure(check, words, "make room: records wait in the spool until it is overwritten")
    if free_bytes < wanted_bytes:
        return warning(
            check,
            f"{words}, and the ledger may grow by "
            f"{(wanted_bytes - MIN_FREE_BYTES) / (1 << 30):.1f}",
            "lower ledger.max_mib or ledger.keep_days, or a larger disk",
        )
    return ok(check, words)


def _check_journal(machine: Host) -> Diagnostic:
    check = "storage.journal"
    if machine.path("/var/log/journal").is_dir():
        return ok(check, "the log outlives a restart of the PC")
    return warning(
        check,
        "the log is in memory: after a restart nobody can see what happened before",
        "mkdir /var/log/journal && systemctl restart systemd-journald",
    )
