"""Locks and atomic writes, against kills, full disks, links and pipes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from edgeinspect.system.files import (
    FileLock,
    atomic_file,
    is_locked,
    is_same_file,
    list_matching,
    write_atomic,
)

HOLD = """
import sys, time
from edgeinspect.system.files import FileLock
from pathlib import Path
lock = FileLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""
REWRITE = """
import sys
from edgeinspect.system.files import write_atomic
from pathlib import Path
print("begun", flush=True)
while True:
    for letter in (b"a", b"b"):
        write_atomic(Path(sys.argv[1]), letter * 300_000)
"""


def run(program: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)


# -- locks ---------------------------------------------------------------------------------


def test_a_lock_is_exclusive_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    lock = FileLock(path)
    assert is_locked(path)
    with pytest.raises(BlockingIOError):
        FileLock(path)
    lock.release()
    lock.release()
    assert lock.fileno() == -1
    assert not is_locked(path)
    with FileLock(path):
        assert is_locked(path)
    assert not is_locked(path)
    assert path.exists()


def test_a_killed_process_releases_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    process = run(HOLD, path)
    try:
        assert is_locked(path)
        with pytest.raises(BlockingIOError):
            FileLock(path)
    finally:
        kill(process)
    FileLock(path).release()


@pytest.mark.parametrize("timeout_s", [None, 10.0])
def test_a_waiting_process_gets_the_lock(tmp_path: Path, timeout_s: float | None) -> None:
    lock = FileLock(tmp_path / "x.lock")
    timer = threading.Timer(0.1, lock.release)
    timer.start()
    with FileLock(tmp_path / "x.lock", timeout_s=timeout_s):
        assert lock.fileno() == -1
    timer.join()


def test_waiting_ends_after_its_time(tmp_path: Path) -> None:
    with FileLock(tmp_path / "x.lock"):
        began_s = time.monotonic()
        with pytest.raises(BlockingIOError):
            FileLock(tmp_path / "x.lock", timeout_s=0.05)
        assert 0.05 <= time.monotonic() - began_s < 5


def test_an_executed_program_does_not_inherit_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    lock = FileLock(path)
    sleeper = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        lock.release()
        assert not is_locked(path)
    finally:
        sleeper.kill()
        sleeper.wait(10)


def test_a_lock_file_is_opened_below_a_folder(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with FileLock("x.lock", dir_fd=folder):
            assert is_locked(tmp_path / "x.lock")
    finally:
        os.close(folder)


def test_a_link_in_place_of_a_lock_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "x.lock")
    assert not (tmp_path / "target").exists()
    assert not is_locked(tmp_path / "x.lock")


def test_a_pipe_or_folder_in_place_of_a_lock_file_never_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not is_locked(tmp_path / "pipe")
    FileLock(tmp_path / "pipe").release()
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        FileLock(tmp_path / "folder")
    assert not is_locked(tmp_path / "absent")


def test_a_file_system_without_locks_is_not_another_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_fd: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="No locks") as refused:
        FileLock(tmp_path / "x.lock", timeout_s=10)
    assert not isinstance(refused.value, BlockingIOError)
    assert not is_locked(tmp_path / "x.lock")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_replaced_file_is_not_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    status = path.stat()
    assert is_same_file(path, status)
    write_atomic(path, b"new")
    assert not is_same_file(path, status)
    (tmp_path / "link").symlink_to(path)
    assert not is_same_file(tmp_path / "link", path.stat())
    path.unlink()
    assert not is_same_file(path, status)


# -- atomic writes ---------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("suffix", ["", ".part"])
def test_a_file_is_replaced_and_nothing_else_is_left(
    tmp_path: Path, durable: bool, suffix: str
) -> None:
    path = tmp_path / "x"
    for data in (b"old", b"new"):
        write_atomic(path, data, durable=durable, suffix=suffix)
        assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.slow
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"a" * 300_000)
    for _ in range(5):
        process = run(REWRITE, path)
        time.sleep(0.03)
        kill(process)
        data = path.read_bytes()
        assert data in (b"a" * 300_000, b"b" * 300_000)


def test_an_error_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")
    with suppress(RuntimeError), atomic_file(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["x"])

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new", durable=True)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["x"])


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files fails in `write`, as a full disk does."""
    path = tmp_path / "x"
    write_atomic(path, b"old")
    program = """
import resource, signal, sys
from edgeinspect.system.files import write_atomic
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_atomic(Path(sys.argv[1]), bytes(1 << 20))
except OSError as error:
    print(error.errno)
"""
    process = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.stdout.split() == [str(errno.EFBIG)]
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["x"])


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_mode_is_the_one_asked_for_or_the_umasks(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "default", b"")
        write_atomic(tmp_path / "asked", b"", mode=0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "default").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "asked").stat().st_mode) == 0o644


def test_durable_flushes_the_file_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(fd: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def note_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_atomic(tmp_path / "x", b"1", durable=True)
    assert steps == ["file", "rename", "folder"]
    steps.clear()
    write_atomic(tmp_path / "x", b"2")
    assert steps == ["rename"]


@pytest.mark.parametrize("name", ["x", "x.part"])
def test_a_link_is_replaced_and_not_followed(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / name).symlink_to(tmp_path / "target")
    write_atomic(tmp_path / "x", b"new", suffix=".part")
    assert (tmp_path / "target").read_bytes() == b"kept"
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "x").read_bytes() == b"new"
    assert not (tmp_path / "x.part").is_symlink()


def test_a_pipe_is_replaced_and_a_folder_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "folder", b"new")
    assert sorted(os.listdir(tmp_path)) == ["folder", "x"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "x"

    def write(letter: bytes) -> None:
        for _ in range(50):
            write_atomic(path, letter * 50_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in (b"a" * 50_000, b"b" * 50_000)
    assert os.listdir(tmp_path) == ["x"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(b"half")
    write_atomic(tmp_path / "x", b"new", suffix=".part")
    assert os.listdir(tmp_path) == ["x"]


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    dead = int(child.stdout)
    old, young, living, other = (
        tmp_path / name
        for name in (
            f".x.{dead}-0-00ff00ff",
            f".x.{dead}-1-00ff00ff",
            f".x.{os.getpid()}-9-00ff00ff",
            f".y.{dead}-0-00ff00ff",
        )
    )
    for path in (old, young, living, other):
        path.write_bytes(b"half")
    for path in (old, living, other):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    write_atomic(tmp_path / "x", b"whole")
    assert not old.exists()
    assert young.exists()
    assert living.exists()
    assert other.exists()


def test_a_folder_that_cannot_be_flushed_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is in place when its folder is flushed."""
    fsync = os.fsync

    def refuse_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_atomic(tmp_path / "x", b"whole", durable=True)
    assert (tmp_path / "x").read_bytes() == b"whole"


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    """As `Path.glob` says from Python 3.13 on."""
    for name in ("b.key", "a.key", ".c.key", "a.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in list_matching(tmp_path, "*.key")] == [".c.key", "a.key", "b.key"]
    assert list_matching(tmp_path / "absent", "*") == []
    assert list_matching(tmp_path / "a.txt", "*") == []
    with pytest.raises(OSError, match="too long"):
        list_matching(Path("x" * 5000), "*")
