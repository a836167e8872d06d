"""Files that several processes share: locked by one of them, replaced whole or not at all.

The library filelock (4.3) was weighed and left out. It opens the lock file by path alone,
while the spool's lock must be opened below a folder that is held open, or another user could
exchange the folder; it has no way to test a lock without competing for it, which every client
of a line does; and where a file system has no flock it falls back to marker files, which
outlive a killed daemon. Source: flock(2), rename(2), fsync(2)
"""

from __future__ import annotations

import errno
import fcntl
import fnmatch
import itertools
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape, glob
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_RETRY_INTERVAL_S = 0.01
_LEFTOVER_AGE_S = 60
_numbers = itertools.count()


class FileLock:
    """An exclusive lock on a file that exists for it, held until `release` or process exit.

    The file is left in place: removing it would let two processes lock two files of one name.
    A forked child shares the lock; a program that is executed does not.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        mode: int = 0o640,
        timeout_s: float | None = 0,
        dir_fd: int | None = None,
    ) -> None:
        """Acquire the lock.

        Args:
            path: The lock file, created if missing; a symbolic link is refused.
            mode: Of a new file, less the umask.
            timeout_s: How long to wait for another holder; None for as long as it takes.
            dir_fd: Open folder that a relative `path` is below.

        Raises:
            BlockingIOError: Another process, or another lock of this one, holds it.
            OSError: The file cannot be opened, or its file system has no locks.
        """
        self._fd = os.open(path, _LOCK_FLAGS, mode, dir_fd=dir_fd)
        try:
            self._acquire(timeout_s)
        except BaseException:
            os.close(self._fd)
            raise

    def _acquire(self, timeout_s: float | None) -> None:
        if timeout_s is None:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            return
        until_s = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise
                time.sleep(_RETRY_INTERVAL_S)
            else:
                return

    def fileno(self) -> int:
        """The descriptor of the lock file; -1 once released."""
        return self._fd

    def release(self) -> None:
        """Unlock; harmless if already released."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Return whether a living process holds the lock file; False if it cannot be opened."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(fd)
    return False


def is_same_file(path: Path, status: os.stat_result) -> bool:
    """Return whether `path`, which is not followed if it is a link, is the file of `status`."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), status)
    except OSError:
        return False


@contextmanager
def atomic_file(
    path: Path, *, mode: int | None = None, durable: bool = False, suffix: str = ""
) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an error.

    A reader sees the old file or the new one, whichever process is killed when. The `name` of
    the open file is the path of the temporary one, for a library that writes it itself.

    Args:
        path: A link, pipe or file of this name is replaced, not followed.
        mode: Set whatever the umask is; by default 0666 less the umask.
        durable: Flush file and folder to the disk, so that a power cut keeps one of the two.
        suffix: Makes `path` with this suffix the temporary file, for the only writer of a
            folder that removes what a crash left by its name. By default a hidden file whose
            name no other writer uses.

    Raises:
        OSError: It cannot be written; the temporary file is removed.
    """
    own_name = f".{path.name}.{os.getpid()}-{next(_numbers)}-{secrets.token_hex(4)}"
    partial = path.with_name(path.name + suffix if suffix else own_name)
    if suffix:
        partial.unlink(missing_ok=True)  # of a process that was killed
    else:
        _remove_leftovers(path)
    fd = os.open(partial, _NEW_FILE_FLAGS, 0o666 if mode is None else mode)
    try:
        with open(partial, "wb", opener=lambda _path, _flags: fd) as file:
            if mode is not None:
                os.fchmod(fd, mode)
            yield file
            if durable:
                file.flush()
                os.fsync(fd)
        partial.replace(path)
        if durable:
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def list_matching(folder: Path, pattern: str) -> list[Path]:
    """Return a folder's entries whose names match, sorted; none if there is no such folder.

    `Path.glob` takes a folder that it cannot read for an empty one: from Python 3.13 on whatever
    the error, before that for lack of permission.

    Raises:
        OSError: The folder cannot be read.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [folder / name for name in sorted(names) if fnmatch.fnmatchcase(name, pattern)]


def write_atomic(
    path: Path, data: bytes, *, mode: int | None = None, durable: bool = False, suffix: str = ""
) -> None:
    """Write a file whole or not at all; arguments and errors as in `atomic_file`."""
    with atomic_file(path, mode=mode, durable=durable, suffix=suffix) as file:
        file.write(data)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers were killed.

    They are older than a minute, too: a writer in another container has a process id unknown here.
    """
    for name in glob(f".{escape(path.name)}.*-*", root_dir=path.parent):
        pid = name.rpartition(".")[2].partition("-")[0]
        if not pid.isdecimal() or Path("/proc", pid).exists():
            continue
        with suppress(OSError):
            leftover = path.with_name(name)
            if time.time() - leftover.lstat().st_mtime > _LEFTOVER_AGE_S:
                leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Flush a folder; the file in it is in place already, so where that is impossible is not an
    error: a folder that this user cannot read, a file system that cannot flush folders.
    """
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)
