"""The spool's file: locked, made, mapped, and set aside when it is damaged."""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import time
from pathlib import Path

from edgeinspect.errors import SpoolError
from edgeinspect.storage.shared_memory import FILE_MODE, create_file, open_folder, open_line_file
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

_LOCK_ATTEMPTS = 5
_LOCK_PAUSE_S = 0.01


def map_file(path: Path, slots: int) -> mmap.mmap:
    """The whole spool, mapped and populated.

    Raises:
        ConfigError: Somebody else can write it.
    """
    handle = open_line_file(path, write=True)
    try:
        os.fchmod(handle, FILE_MODE)
        return mmap.mmap(
            handle,
            HEADER_BYTES + slots * SLOT_BYTES,
            # Every page is there before the first frame: none waits for a fault.
            flags=mmap.MAP_SHARED | mmap.MAP_POPULATE,
        )
    finally:
        os.close(handle)


def lock_spool(path: Path) -> int:
    """Lock the line against a second daemon; the lock goes with the process.

    Raises:
        ConfigError: The folder or an old spool in it can be written by somebody else.
        SpoolError: They cannot be opened, or another process holds the line.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with open_folder(path.parent, create=True) as folder:
            holder = os.open(path.name + ".lock", flags, FILE_MODE, dir_fd=folder)
            os.fchmod(holder, FILE_MODE)
    except OSError as error:
        raise SpoolError(
            f"cannot be opened: {error.strerror}",
            where=str(path),
            remedy="Give the daemon's user this folder, or set spool.folder",
        ) from error
    for left in reversed(range(_LOCK_ATTEMPTS)):
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if left:  # who only looks whether the line lives has it for some µs
                time.sleep(_LOCK_PAUSE_S)
                continue
            os.close(holder)
            raise SpoolError(
                "is held by another process: this line runs already",
                where=str(path),
                remedy="Stop the other daemon, or give this line another name",
            ) from None
        break
    _clear_announced_epoch(path)
    return holder


def _clear_announced_epoch(path: Path) -> None:
    """Say that the daemon before does not speak any more."""
    try:
        handle = open_line_file(path, write=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SpoolError(
            f"cannot be opened: {error.strerror}", where=str(path), remedy="Move this file away"
        ) from error
    try:
        if os.fstat(handle).st_size >= HEADER_BYTES:
            os.pwrite(handle, bytes(CURSOR.size), ANNOUNCED_EPOCH_AT)
    finally:
        os.close(handle)


def quarantine(path: Path) -> Path:
    """Give a damaged file a second name, which the rename to come leaves alone."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        try:
            os.link(path, aside)
        except FileExistsError:
            continue
        return aside
    raise AssertionError


def rewrite(
    path: Path,
    line: str,
    slots: int,
    base_seq: int,
    skipped: tuple[int, int] | None,
    old: SpoolScan,
) -> None:
    """Write a new spool with the old one's frames beside it, then rename it over.

    The rename is what makes a crash here harmless: there is the old file or the new one.
    """
    fresh = path.name + ".new"
    try:
        with open_folder(path.parent) as folder:
            handle = create_file(folder, fresh)
            try:
                # Allocated, not sparse: a full disk must fail here, not as SIGBUS at a store.
                os.posix_fallocate(handle, 0, HEADER_BYTES + slots * SLOT_BYTES)
                target = mmap.mmap(handle, 0)
            finally:
                os.close(handle)
            with target:
                head = pack_header(line, slots, base_seq)
                target[: len(head)] = head
                if skipped is not None:
                    write_skipped(target, skipped)
                CURSOR.pack_into(target, EPOCH_AT, old.epoch)
                CURSOR.pack_into(target, PUBLISHED_AT, old.published_seq)
                CURSOR.pack_into(target, LEDGERED_AT, old.ledgered_seq)
                for seq in sorted(old.frames):
                    if seq < max(base_seq, old.last_seq - slots + 1):
                        continue
                    at = HEADER_BYTES + seq % slots * SLOT_BYTES
                    found = old.frames[seq]
                    if found.record is not None:
                        write_open(target, at, seq, found.epoch, found.record)
                    if found.payload is not None:
                        write_close(target, at, seq, found.epoch, found.payload)
            os.rename(fresh, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        raise SpoolError(
            f"cannot be made: {error.strerror}",
            where=str(path),
            remedy="Free some space in its folder, or set spool.slots lower",
        ) from error
