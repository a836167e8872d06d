"""Locks, creates, maps and quarantines the spool's file."""

from __future__ import annotations

import itertools
import mmap
import os
from pathlib import Path

from edgeinspect.errors import SpoolError
from edgeinspect.storage.shared_memory import (
    FILE_MODE,
    open_folder,
    open_line_file,
    replace_file,
)
from edgeinspect.storage.spool.format import (
    ANNOUNCED_EPOCH_AT,
    CURSOR,
    EPOCH_AT,
    HEADER_BYTES,
    LEDGERED_AT,
    PUBLISHED_AT,
    SLOT_BYTES,
    SpoolScan,
    pack_header,
    write_close,
    write_open,
    write_skipped,
)
from edgeinspect.system import FileLock

_LOCK_TIMEOUT_S = 0.05
"""A client that tests whether the line is running holds the lock for some microseconds."""


def map_file(path: Path, slots: int) -> mmap.mmap:
    """Return the whole spool, mapped and populated.

    Raises:
        ConfigError: Another user can write it.
    """
    fd = open_line_file(path, write=True)
    try:
        os.fchmod(fd, FILE_MODE)
        return mmap.mmap(
            fd,
            HEADER_BYTES + slots * SLOT_BYTES,
            # Every page exists before the first frame, so that no frame waits for a page fault.
            flags=mmap.MAP_SHARED | mmap.MAP_POPULATE,
        )
    finally:
        os.close(fd)


def lock_spool(path: Path) -> FileLock:
    """Lock the line against a second daemon, and clear the epoch that the last one announced.

    Raises:
        ConfigError: The folder or an old spool in it can be written by another user.
        SpoolError: They cannot be opened, or another process runs the line.
    """
    try:
        with open_folder(path.parent, create=True) as folder:
            lock = FileLock(
                path.name + ".lock", mode=FILE_MODE, timeout_s=_LOCK_TIMEOUT_S, dir_fd=folder
            )
        try:
            os.fchmod(lock.fileno(), FILE_MODE)
        except BaseException:
            lock.release()
            raise
    except BlockingIOError:
        raise SpoolError(
            "is held by another process: this line runs already",
            where=str(path),
            remedy="Stop the other daemon, or give this line another name",
        ) from None
    except OSError as error:
        raise SpoolError(
            f"cannot be opened: {error.strerror}",
            where=str(path),
            remedy="Give the daemon's user this folder, or set spool.folder",
        ) from error
    _clear_announced_epoch(path)
    return lock


def _clear_announced_epoch(path: Path) -> None:
    """Withdraw the line's addresses from the previous daemon; see `Spool.announce`."""
    try:
        fd = open_line_file(path, write=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SpoolError(
            f"cannot be opened: {error.strerror}", where=str(path), remedy="Move this file away"
        ) from error
    try:
        if os.fstat(fd).st_size >= HEADER_BYTES:
            os.pwrite(fd, bytes(CURSOR.size), ANNOUNCED_EPOCH_AT)
    finally:
        os.close(fd)


def quarantine(path: Path) -> Path:
    """Give a damaged file a second name, under which it survives being replaced."""
    for number in itertools.count(1):
        quarantined = path.with_name(f"{path.name}.damaged-{number}")
        try:
            os.link(path, quarantined)
        except FileExistsError:
            continue
        return quarantined
    raise AssertionError


def rewrite(
    path: Path,
    line: str,
    slots: int,
    base_seq: int,
    skipped: tuple[int, int] | None,
    old: SpoolScan,
) -> None:
    """Replace the spool by a new file that holds the frames of the old one.

    Raises:
        SpoolError: There is not enough space, or the folder cannot be written.
    """
    try:
        with replace_file(path, f"{path.name}.new") as fd:
            # Allocated, not sparse: a full disk must fail here, not as SIGBUS at a store.
            os.posix_fallocate(fd, 0, HEADER_BYTES + slots * SLOT_BYTES)
            with mmap.mmap(fd, 0) as target:
                head = pack_header(line, slots, base_seq)
                target[: len(head)] = head
                if skipped is not None:
                    write_skipped(target, skipped)
                CURSOR.pack_into(target, EPOCH_AT, old.epoch)
                CURSOR.pack_into(target, PUBLISHED_AT, old.published_seq)
                CURSOR.pack_into(target, LEDGERED_AT, old.ledgered_seq)
                for seq, slot in sorted(old.frames.items()):
                    if seq < max(base_seq, old.last_seq - slots + 1):
                        continue
                    at = HEADER_BYTES + seq % slots * SLOT_BYTES
                    if slot.record is not None:
                        write_open(target, at, seq, slot.epoch, slot.record)
                    if slot.payload is not None:
                        write_close(target, at, seq, slot.epoch, slot.payload)
    except OSError as error:
        raise SpoolError(
            f"cannot be created: {error.strerror}",
            where=str(path),
            remedy="Free some memory or space in its folder, or set spool.slots lower",
        ) from error
