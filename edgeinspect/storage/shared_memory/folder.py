"""The folder of a line's shared memory: spool, rings, pictures kept aside, sockets.

/dev/shm and /tmp are everybody's. So the folder must be one that nobody else can write, it is
held open while files are made in it, and every file is made as a new one: no link that
somebody put there is followed, and no file of somebody else's is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from edgeinspect.errors import ConfigError, ConfigFault
from edgeinspect.system import (
    OwnershipProblem,
    folder_problem,
    owner_problem,
    write_permission_problem,
)

FILE_MODE = 0o640
"""Of what is made: its group may read pictures and verdicts, nobody else."""
FOLDER_MODE = 0o750
_RUNTIME_ROOT = Path("/run/edgeinspect")
"""Below it systemd makes a folder for each line that is a service."""


def default_folder() -> Path:
    """Where a line of this process's user keeps its memory, if its file does not say it.

    The unit's runtime folder; without systemd a folder of the user's own in memory. Not
    /dev/shm under systemd: a unit with a dynamic user has its files there removed at every
    stop (RemoveIPC=), and with them what recovery reads.
    """
    unit = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if unit:
        return Path(unit)
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return base / f"edgeinspect-{os.geteuid()}"


def find_line_folder(line: str) -> Path:
    """Where a line of this PC keeps its memory, for who only knows its name.

    The folder in which it lives now; else one where it lived; else where it would.
    """
    service, own = _RUNTIME_ROOT / line, default_folder()
    for folder in (service, own):
        if is_locked(folder / f"{line}.spool"):
            return folder
    for folder in (service, own):
        if os.path.lexists(folder / f"{line}.spool"):
            return folder
    by_systemd = "INVOCATION_ID" in os.environ and _RUNTIME_ROOT.is_dir()
    return service if service.is_dir() or by_systemd else own


def running_lines() -> list[tuple[str, Path]]:
    """(name, folder) of each line that runs on this PC and that this user may see."""
    found = []
    folders = [default_folder()]
    with contextlib.suppress(OSError):
        folders += [each for each in sorted(_RUNTIME_ROOT.iterdir()) if each.is_dir()]
    for folder in folders:
        try:
            spools = sorted(folder.glob("*.spool"))
        except OSError:
            continue
        found += [(spool.name[: -len(".spool")], folder) for spool in spools if is_locked(spool)]
    return found


def is_locked(spool: Path) -> bool:
    """True if a living daemon holds the lock of a spool; False also if it may not be seen."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        handle = os.open(spool.with_name(spool.name + ".lock"), flags)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def check_folder_permissions(path: Path, owners: Collection[int] = ()) -> None:
    """Refuse a folder that somebody else can write; one that cannot be seen is passed over.

    Raises:
        ConfigError: Its owner or its mode is wrong, or it is a link.
    """
    try:
        distrust = folder_problem(path, owners)
    except OSError:  # not there, or not to be seen: whoever opens it says so
        return
    if distrust is not None:
        raise _untrusted_error(path, distrust)


@contextlib.contextmanager
def open_folder(path: Path, *, create: bool = False) -> Iterator[int]:
    """The descriptor of a folder that only its owner and root can write.

    Args:
        path: The folder.
        make: Make it, with what is missing above it, if it is not there.

    Raises:
        ConfigError: Somebody else can write it.
        OSError: It cannot be made or opened.
    """
    if create and not os.path.lexists(path):
        missing = [above for above in path.absolute().parents if not above.exists()]
        for above in reversed(missing):
            _make_folder(above, 0o755)
        _make_folder(path, FOLDER_MODE)
    check_folder_permissions(path)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        looked_at, opened = os.stat(path, follow_symlinks=False), os.fstat(folder)
        if (looked_at.st_dev, looked_at.st_ino) != (opened.st_dev, opened.st_ino):
            raise _untrusted_error(
                path, OwnershipProblem("was exchanged while it was opened", "look who can")
            )
        yield folder
    finally:
        os.close(folder)


def _make_folder(path: Path, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode)
        path.chmod(mode)  # whatever the umask says


def create_file(folder: int, name: str) -> int:
    """A new, empty file to read and write; what had the name is removed, not followed.

    Raises:
        OSError: It cannot be made.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(name, flags, FILE_MODE, dir_fd=folder)
    os.fchmod(handle, FILE_MODE)
    return handle


def allocate_file(path: Path, size_bytes: int, *, populate: bool = False) -> mmap.mmap:
    """New memory under a name, all of it there; what had the name is replaced.

    Args:
        path: In a folder that only its owner can write; made if it is not there.
        size_bytes: Zeroed.
        populate: Have every page mapped before this returns.

    Raises:
        ConfigError: Somebody else can write the folder.
        OSError: There is not enough memory.
    """
    with open_folder(path.parent, create=True) as folder:
        handle = create_file(folder, path.name)
        try:
            # Allocated, not sparse: what is missing fails here, not as SIGBUS at a store.
            os.posix_fallocate(handle, 0, size_bytes)
            flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if populate else 0)
            return mmap.mmap(handle, size_bytes, flags=flags)
        except OSError:
            os.unlink(path.name, dir_fd=folder)
            raise
        finally:
            os.close(handle)


def open_line_file(path: Path, *, write: bool = False, owners: Collection[int] = ()) -> int:
    """A file of a line's memory: regular, and only its owner's to write.

    Raises:
        ConfigError: The folder or the file can be written by somebody else.
        OSError: It cannot be opened, or is a link.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise _untrusted_error(path, OwnershipProblem("is no regular file", "remove it"))
    check_folder_permissions(path.parent, owners)
    mode = os.O_RDWR if write else os.O_RDONLY
    handle = os.open(path, mode | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found, above = os.fstat(handle), os.stat(path.parent)
        if not stat.S_ISREG(found.st_mode):
            raise _untrusted_error(path, OwnershipProblem("is no regular file", "remove it"))
        distrust = owner_problem(found, {above.st_uid, *owners}) or write_permission_problem(found)
        if distrust is not None:
            raise _untrusted_error(path, distrust)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _untrusted_error(path: Path, distrust: OwnershipProblem) -> ConfigError:
    problem = f"{path} {distrust.problem}: {distrust.remedy}, or name another folder"
    return ConfigError([ConfigFault("spool.folder", problem)])
