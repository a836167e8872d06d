"""The folder of a line's memory: no other user can write it, and no link is followed in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from edgeinspect.domain.frame import FrameShape
from edgeinspect.errors import ConfigError, DeviceLostError
from edgeinspect.storage.shared_memory import folder as shared_memory
from edgeinspect.storage.shared_memory.frame_ring import FrameRing, FrameRingReader
from edgeinspect.storage.shared_memory.side_buffer import SideBuffer, SideBufferReader
from edgeinspect.storage.spool.reader import SpoolReader
from edgeinspect.storage.spool.spool import Spool

SHAPE = FrameShape(4, 6, 1)
NAMES = ("t.spool.new", "t.spool", "t.spool.lock")


def spool(folder: Path) -> Spool:
    return Spool(folder / "t.spool", line="t", slots=64, utc_ns=10**18)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_created_files_are_for_the_user_and_the_group(tmp_path: Path, umask: int) -> None:
    folder = tmp_path / "new" / "folder"
    before = os.umask(umask)
    try:
        one = spool(folder)
        ring = FrameRing(folder / "t.top.ring", 2, SHAPE)
        side_buffer = SideBufferReader(folder / "t.aside", 2, 64)
    finally:
        os.umask(before)
    assert mode(folder) == 0o750
    assert {mode(path) for path in folder.iterdir()} == {0o640}
    side_buffer.close()
    ring.remove_file()
    one.release()


@pytest.mark.parametrize("name", NAMES)
def test_a_link_is_not_followed(tmp_path: Path, name: str) -> None:
    folder, victim = tmp_path / "memory", tmp_path / "victim"
    folder.mkdir(0o750)
    victim.write_bytes(b"of value")
    (folder / name).symlink_to(victim)
    try:
        spool(folder).release()
    except Exception as error:
        assert getattr(error, "exit_code", 0) in (75, 78), error
    assert victim.read_bytes() == b"of value"


def test_no_link_is_followed_for_a_ring_or_a_side_buffer(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"of value")
    (tmp_path / "t.top.ring").symlink_to(victim)
    (tmp_path / f"t.aside.{os.getpid()}").symlink_to(victim)
    (tmp_path / "t.aside").symlink_to(victim)
    ring = FrameRing(tmp_path / "t.top.ring", 2, SHAPE)
    assert not SideBuffer(tmp_path / "t.aside").store(1, np.zeros((2, 2, 1), np.uint8), 1)
    side_buffer = SideBufferReader(tmp_path / "t.aside", 2, 64)
    assert victim.read_bytes() == b"of value"
    side_buffer.close()
    ring.remove_file()


@pytest.mark.parametrize("bits", [0o777, 0o1777, 0o757])
def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, bits: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(bits)
    for make in (spool, lambda f: FrameRing(f / "t.top.ring", 2, SHAPE)):
        with pytest.raises(ConfigError, match=r"written by all users .* chmod go-w"):
            make(folder)
    assert not list(folder.iterdir())


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="is a link"):
        spool(tmp_path / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can chown a folder")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    os.chown(base, 12345, 12345)
    theirs = base / "memory"
    theirs.mkdir(0o750)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to user 12345") as caught:
        spool(theirs)
    assert caught.value.exit_code == 78
    # Root put it there, below a folder of root's own: as systemd does.
    given = tmp_path / "given"
    given.mkdir(0o750)
    os.chown(given, 12345, 12345)
    shared_memory.check_folder_permissions(given)


def test_a_pipe_in_place_of_a_file_never_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.spool")
    with pytest.raises(ConfigError, match="not a regular file"):
        spool(tmp_path)
    with pytest.raises(DeviceLostError):
        FrameRingReader(tmp_path / "t.spool")


def test_readers_check_permissions_first(tmp_path: Path) -> None:
    one = spool(tmp_path)
    ring = FrameRing(tmp_path / "t.top.ring", 2, SHAPE)
    SpoolReader(tmp_path / "t.spool")
    FrameRingReader(tmp_path / "t.top.ring")
    for name, reader in (("t.spool", SpoolReader), ("t.top.ring", FrameRingReader)):
        (tmp_path / name).chmod(0o666)
        with pytest.raises(DeviceLostError, match="is not trusted"):
            reader(tmp_path / name)
    ring.remove_file()
    one.release()


def test_a_truncated_ring_is_refused(tmp_path: Path) -> None:
    ring = FrameRing(tmp_path / "t.top.ring", 2, SHAPE)
    os.truncate(tmp_path / "t.top.ring", 4096)
    with pytest.raises(DeviceLostError):
        FrameRingReader(tmp_path / "t.top.ring")
    ring.remove_file()


def test_the_default_folder_is_of_the_unit_or_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/elsewhere")
    assert shared_memory.default_folder() == tmp_path
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert shared_memory.default_folder().name == f"edgeinspect-{os.geteuid()}"


def test_a_line_is_found_where_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    services, own = tmp_path / "run", tmp_path / "own"
    monkeypatch.setattr(shared_memory, "_RUNTIME_ROOT", services)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(own))
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert shared_memory.find_line_folder("t") == own
    (services / "t").mkdir(parents=True)
    assert shared_memory.find_line_folder("t") == services / "t"
    one = spool(own)
    assert shared_memory.find_line_folder("t") == own
    assert shared_memory.running_lines() == [("t", own)]
    monkeypatch.setattr(shared_memory, "_RUNTIME_ROOT", tmp_path)  # as in a unit: listed once
    assert shared_memory.running_lines() == [("t", own)]
    monkeypatch.setattr(shared_memory, "_RUNTIME_ROOT", services)
    one.release()
    assert shared_memory.running_lines() == []
    assert not shared_memory.is_line_running(own / "t.spool")
