"""A folder that one process fills over a long time, as a training's, is closed to all others."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeinspect.errors import OutputError
from edgeinspect.system.files import FileLock, is_locked, is_same_file
from edgeinspect.system.regular_file import escape_name

CLAIM_FILE = ".lock"
"""In the folder while it is filled. One of a killed process stays there, unlocked."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def claim_folder(folder: Path, *, where: Path | None = None) -> Iterator[None]:
    """Create a folder that only this process fills until the block ends.

    The lock file is removed at the end, so that what is in the folder is its content alone; so is
    a folder that was created and left empty. The lock of a killed process is free. On a file
    system without locks nothing is claimed.

    Args:
        folder: Created if missing, with its parents.
        where: The path that the user knows, for messages; `folder` by default.

    Raises:
        OutputError: Another process, or another claim of this one, fills it; or it cannot be
            written.
    """
    shown = escape_name(folder if where is None else where)
    is_new = not folder.exists()
    try:
        lock = _lock(folder)
    except BlockingIOError:
        raise _claimed(shown) from None  # not temporary: it may fill the folder for hours
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=shown) from error
    try:
        yield
    finally:
        if lock is not None:
            # Removed while it is locked: who opened it meanwhile sees that it is another file.
            with suppress(OSError):
                if is_same_file(folder / CLAIM_FILE, os.fstat(lock.fileno())):
                    (folder / CLAIM_FILE).unlink()
            if is_new:
                with suppress(OSError):  # it has content
                    folder.rmdir()
            lock.release()


def check_unclaimed(folder: Path) -> None:
    """Check that no other process fills a folder, where a claim would be too early.

    Raises:
        OutputError: One does.
    """
    if is_locked(folder / CLAIM_FILE):
        raise _claimed(escape_name(folder))


def _claimed(where: str) -> OutputError:
    return OutputError(
        "another process is writing into this folder",
        where=where,
        remedy="Wait until it has ended, or give another folder",
    )


def is_empty_but_for_claim(folder: Path) -> bool:
    """Return whether a folder has nothing in it, or only the lock file of a claim.

    Raises:
        OSError: It cannot be read.
    """
    return all(name == CLAIM_FILE for name in os.listdir(folder))


def _lock(folder: Path) -> FileLock | None:
    """Return the lock of a folder; None where the file system has no locks."""
    path = folder / CLAIM_FILE
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(path, mode=0o644)
        except FileNotFoundError:  # another claim has ended, and removed the folder
            continue
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return None
            raise
        if is_same_file(path, os.fstat(lock.fileno())):
            return lock
        lock.release()  # another claim has ended, and removed the file
