"""The folder of a line's shared memory: spool, frame rings, side buffers, sockets.

Every user can write /dev/shm and /tmp. So the folder must be one that no other user can write,
it is held open while files are created in it, and every file is created as a new one: no
symbolic link is followed, and no file of another user is written.
"""

from __future__ import annotations

import contextlib
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
    is_locked,
    is_same_file,
    owner_problem,
    write_permission_problem,
)

FILE_MODE = 0o640
"""Of created files: the group may read images and verdicts."""
FOLDER_MODE = 0o750
_RUNTIME_ROOT = Path("/run/edgeinspect")
"""Below it systemd creates a folder for each line that is a service."""


def default_folder() -> Path:
    """Return the folder of a line of this process's user whose configuration names none.

    The unit's runtime folder; without systemd a folder of the user's own in memory. Not
    /dev/shm under systemd: the files that a unit with a dynamic user has there are removed at
    every stop (RemoveIPC=), and with them what recovery reads.
    """
    unit = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if unit:
        return Path(unit)
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return base / f"edgeinspect-{os.geteuid()}"


def find_line_folder(line: str) -> Path:
    """Return the folder of a line of this PC by the line's name.

    The folder in which it runs now; else one in which it ran; else its default one.
    """
    service, own = _RUNTIME_ROOT / line, default_folder()
    for folder in (service, own):
        if is_line_running(folder / f"{line}.spool"):
            return folder
    for folder in (service, own):
        if os.path.lexists(folder / f"{line}.spool"):
            return folder
    by_systemd = "INVOCATION_ID" in os.environ and _RUNTIME_ROOT.is_dir()
    return service if service.is_dir() or by_systemd else own


def running_lines() -> list[tuple[str, Path]]:
    """Return (name, folder) of each running line of this PC that this user may access."""
    folders = [default_folder()]
    with contextlib.suppress(OSError):
        folders += [each for each in sorted(_RUNTIME_ROOT.iterdir()) if each.is_dir()]
    spools: list[Path] = []
    for folder in dict.fromkeys(folders):  # a service's default folder is below the root too
        with contextlib.suppress(OSError):
            spools += sorted(folder.glob("*.spool"))
    return [(spool.stem, spool.parent) for spool in spools if is_line_running(spool)]


def is_line_running(spool: Path) -> bool:
    """Return whether a living daemon holds a spool's lock; False if it may not be opened."""
    return is_locked(spool.with_name(spool.name + ".lock"))


def check_folder_permissions(path: Path, owners: Collection[int] = ()) -> None:
    """Refuse a folder that another user can write; one that cannot be examined passes.

    Raises:
        ConfigError: Its owner or its mode is wrong, or it is a symbolic link.
    """
    try:
        problem = folder_problem(path, owners)
    except OSError:  # missing or not accessible: the call that opens it reports that
        return
    if problem is not None:
        raise _untrusted_error(path, problem)


@contextlib.contextmanager
def open_folder(path: Path, *, create: bool = False) -> Iterator[int]:
    """Yield the descriptor of a folder that only its owner and root can write.

    Args:
        path: The folder.
        create: Create it and its missing parents.

    Raises:
        ConfigError: Another user can write it.
        OSError: It cannot be created or opened.
    """
    if create and not os.path.lexists(path):
        missing = [above for above in path.absolute().parents if not above.exists()]
        for above in reversed(missing):
            _make_folder(above, 0o755)
        _make_folder(path, FOLDER_MODE)
    check_folder_permissions(path)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not is_same_file(path, os.fstat(folder)):
            problem = OwnershipProblem("was replaced while it was opened", "find out who can")
            raise _untrusted_error(path, problem)
        yield folder
    finally:
        os.close(folder)


def _make_folder(path: Path, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode)
        path.chmod(mode)  # whatever the umask is


def create_file(folder: int, name: str) -> int:
    """Create an empty file to read and write; a file or link of that name is removed first.

    Raises:
        OSError: It cannot be created.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, FILE_MODE, dir_fd=folder)
    os.fchmod(fd, FILE_MODE)
    return fd


@contextlib.contextmanager
def replace_file(path: Path, temporary_name: str) -> Iterator[int]:
    """Yield the descriptor of a new file that replaces `path` when the block ends without error.

    Raises:
        ConfigError: Another user can write the folder.
        OSError: It cannot be created; nothing is left of it.
    """
    with open_folder(path.parent) as folder:
        fd = create_file(folder, temporary_name)
        try:
            yield fd
            os.rename(temporary_name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(temporary_name, dir_fd=folder)
            raise
        finally:
            os.close(fd)


def allocate_file(path: Path, size_bytes: int, *, populate: bool = False) -> mmap.mmap:
    """Map a new file of zeros, all of it allocated; a file of that name is replaced.

    Args:
        path: In a folder that only its owner can write; the folder is created if missing.
        size_bytes: Size of the file.
        populate: Map every page before this returns.

    Raises:
        ConfigError: Another user can write the folder.
        OSError: There is not enough memory.
    """
    with open_folder(path.parent, create=True) as folder:
        fd = create_file(folder, path.name)
        try:
            # Allocated, not sparse: missing memory fails here, not as SIGBUS at a store.
            os.posix_fallocate(fd, 0, size_bytes)
            flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if populate else 0)
            return mmap.mmap(fd, size_bytes, flags=flags)
        except OSError:
            os.unlink(path.name, dir_fd=folder)
            raise
        finally:
            os.close(fd)


def _irregular() -> OwnershipProblem:
    return OwnershipProblem("is not a regular file", "remove it")


def open_line_file(path: Path, *, write: bool = False, owners: Collection[int] = ()) -> int:
    """Return the descriptor of a regular file of a line that only its owner can write.

    Raises:
        ConfigError: The folder or the file can be written by another user.
        OSError: It cannot be opened, or is a symbolic link.
    """
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise _untrusted_error(path, _irregular())
    check_folder_permissions(path.parent, owners)
    mode = os.O_RDWR if write else os.O_RDONLY
    fd = os.open(path, mode | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status, folder = os.fstat(fd), os.stat(path.parent)
        if not stat.S_ISREG(status.st_mode):
            raise _untrusted_error(path, _irregular())
        problem = owner_problem(status, {folder.st_uid, *owners})
        problem = problem or write_permission_problem(status)
        if problem is not None:
            raise _untrusted_error(path, problem)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _untrusted_error(path: Path, problem: OwnershipProblem) -> ConfigError:
    text = f"{path} {problem.problem}: {problem.remedy}, or name another folder"
    return ConfigError([ConfigFault("spool.folder", text)])
