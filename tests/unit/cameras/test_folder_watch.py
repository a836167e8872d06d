"""A watched folder returns each complete image once, also across restarts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeinspect.cameras._folder_watch import CompleteFile, FolderWatcher
from edgeinspect.cameras._inspected_files import InspectedFileKey, InspectedFiles
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.frame import Pixels
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import CameraLostError
from edgeinspect.system.regular_file import read_regular

SETTLE_MS, LIMIT_MS = 1_000, 10_000


class WatchedFolder:
    """A watched folder where a file that ends in `!` is complete."""

    def __init__(self, folder: Path, state_file: Path | None = None) -> None:
        self.folder = folder
        self.state_file = state_file
        self.clock = ManualClock()
        self.restart()

    def restart(self) -> None:
        self.watcher = FolderWatcher(str(self.folder), SETTLE_MS, LIMIT_MS, self.clock, self.decode)
        self.watcher.inspected = InspectedFiles(self.state_file)
        self.watcher.load()

    def decode(self, name: str) -> tuple[Pixels | None, str]:
        data = read_regular(self.folder / name, 1000)
        if data.endswith(b"!"):
            return np.frombuffer(data, np.uint8)[:, None, None], ""
        return None, "is cut off"

    def put(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)

    def wait(self, for_ms: int, *, mark_inspected: bool = True) -> list[CompleteFile]:
        """Return the files that become complete in this time."""
        found: list[CompleteFile] = []
        for _ in range(for_ms // 50):
            self.clock.advance(50 * NS_PER_MS)
            while (one := self.watcher.next_complete()) is not None:
                found.append(one)
                if mark_inspected:
                    self.watcher.inspected.add(one.key)
        return found


@pytest.fixture
def watched(tmp_path: Path) -> WatchedFolder:
    (tmp_path / "in").mkdir()
    return WatchedFolder(tmp_path / "in", tmp_path / "state" / "rig.top.judged")


def names(found: list[CompleteFile]) -> list[str]:
    return [one.name for one in found]


def test_a_complete_file_is_returned_once(watched: WatchedFolder) -> None:
    watched.put("a.png", b"abc")
    assert watched.wait(3_000) == []
    watched.put("a.png", b"abcdef!")
    assert watched.wait(SETTLE_MS - 100) == []
    (found,) = watched.wait(2_000)
    assert found.pixels is not None
    assert bytes(found.pixels.ravel()) == b"abcdef!"
    assert watched.wait(60_000) == []


def test_a_growing_file_is_not_read(watched: WatchedFolder) -> None:
    for count in range(1, 8):  # each step is decodable
        watched.put("a.png", b"x" * count + b"!")
        assert watched.wait(SETTLE_MS - 200) == []
    assert names(watched.wait(2_000)) == ["a.png"]


def test_a_rewritten_file_is_a_new_image(watched: WatchedFolder) -> None:
    watched.put("a.png", b"one!")
    assert names(watched.wait(2_000)) == ["a.png"]
    watched.put("a.png", b"two!!")
    assert names(watched.wait(2_000)) == ["a.png"]
    os.utime(watched.folder / "a.png", ns=(0, 0))  # only the time changes
    assert names(watched.wait(2_000)) == ["a.png"]


def test_files_of_a_writer_with_an_unset_clock_are_distinguished(watched: WatchedFolder) -> None:
    file = watched.folder / "latest.png"

    def write(data: bytes) -> None:
        before = file.stat().st_ctime_ns if file.exists() else 0
        while not file.exists() or file.stat().st_ctime_ns == before:  # the kernel's tick
            watched.put(file.name, data)
            os.utime(file, ns=(0, 0))

    for data in (b"one!", b"two!"):  # the same name, size, inode and time
        write(data)
        (found,) = watched.wait(2_000)
        assert found.pixels is not None
        assert bytes(found.pixels.ravel()) == data
    watched.restart()
    assert watched.wait(2_000) == []


def test_inspected_files_are_known_after_a_restart(watched: WatchedFolder) -> None:
    for index in range(5):
        watched.put(f"{index}.png", b"%d!" % index)
    first = watched.wait(1_500)
    assert names(first) == [f"{index}.png" for index in range(5)]
    watched.restart()
    watched.put("new.png", b"new!")
    assert names(watched.wait(2_000)) == ["new.png"]


def test_an_unrecorded_file_is_returned_again_after_a_kill(
    watched: WatchedFolder,
) -> None:
    watched.put("a.png", b"one!")
    assert names(watched.wait(2_000, mark_inspected=False)) == ["a.png"]
    assert watched.wait(2_000) == []  # not in this run
    watched.restart()
    assert names(watched.wait(2_000)) == ["a.png"]


def test_only_damaged_lines_of_the_list_are_dropped(watched: WatchedFolder) -> None:
    assert watched.state_file is not None
    for index in range(3):
        watched.put(f"{index}.png", b"%d!" % index)
    watched.wait(2_000)
    data = watched.state_file.read_bytes()
    watched.state_file.write_bytes(b"[\n" + b"[" * 5_000 + b"\n\xff\n" + data[:-4])
    watched.restart()
    assert names(watched.wait(2_000)) == ["2.png"]
    watched.restart()
    assert watched.wait(2_000) == []


def test_a_file_that_stays_truncated_is_returned_with_its_problem(watched: WatchedFolder) -> None:
    watched.put("a.png", b"abc")
    watched.put("b.png", b"")
    found = watched.wait(LIMIT_MS + 3_000)
    assert names(found) == ["a.png", "b.png"]
    assert [one.problem for one in found] == ["is cut off", "is empty"]
    assert all(one.pixels is None for one in found)
    watched.put("a.png", b"abcdef!")
    assert names(watched.wait(2_000)) == ["a.png"]


def test_a_file_that_keeps_changing_raises_the_alarm(watched: WatchedFolder) -> None:
    for count in range(40):
        watched.put("a.png", b"x" * count)
        assert watched.wait(500) == []
    assert watched.watcher.alarm == "a.png not complete for 10 s"
    watched.put("a.png", b"x!")
    assert names(watched.wait(3_000)) == ["a.png"]
    assert watched.watcher.alarm == ""


def test_files_that_wait_for_inspection_raise_no_alarm(watched: WatchedFolder) -> None:
    for index in range(50):
        watched.put(f"{index:02}.png", b"%d!" % index)
    watched.wait(1_500, mark_inspected=False)
    watched.restart()
    for _ in range(50):  # slower than the limit
        watched.clock.advance(NS_PER_S)
        watched.watcher.next_complete()
        assert watched.watcher.alarm == ""


def test_a_file_removed_before_inspection_raises_the_alarm(watched: WatchedFolder) -> None:
    for name in ("a.png", "b.png", "c.png"):
        watched.put(name, name.encode() + b"!")
    watched.watcher.next_complete()
    watched.clock.advance(2 * NS_PER_S)
    assert watched.watcher.next_complete() is not None
    (watched.folder / "b.png").unlink()
    (watched.folder / "c.png").rename(watched.folder / "d.png")
    assert names(watched.wait(2_000)) == ["d.png"]
    assert watched.watcher.alarm == "1 image was removed before inspection, such as b.png"
    watched.wait(61_000)
    assert watched.watcher.alarm == ""


def test_pipes_and_folders_are_returned_once_without_opening(watched: WatchedFolder) -> None:
    os.mkfifo(watched.folder / "a.png")
    (watched.folder / "b.png").mkdir()
    (watched.folder / "c.png").symlink_to("nowhere.png")
    found = watched.wait(20_000)
    assert {(one.name, one.problem) for one in found} == {
        ("a.png", "is not a regular file"),
        ("b.png", "is not a regular file"),
    }


def test_temporary_names_of_copying_programs_are_ignored(watched: WatchedFolder) -> None:
    for name in (".a.png.Xy12", "~$a.png", "a.png.part", "a.png.tmp", "._a.png", ".DS_Store"):
        watched.put(name, b"one!")
    assert watched.wait(30_000) == []
    assert watched.watcher.alarm == ""


def test_a_folder_that_is_gone_is_a_loss(watched: WatchedFolder) -> None:
    watched.folder.rmdir()
    watched.clock.advance(NS_PER_S)
    with pytest.raises(CameraLostError):
        watched.watcher.next_complete()


def test_a_full_disk_raises_the_alarm_and_files_are_still_returned(watched: WatchedFolder) -> None:
    assert watched.state_file is not None
    watched.state_file.parent.mkdir()
    watched.state_file.symlink_to("/dev/full")
    watched.put("a.png", b"one!")
    assert names(watched.wait(2_000)) == ["a.png"]
    assert "cannot be stored" in watched.watcher.alarm
    assert watched.wait(5_000) == []


def test_the_list_is_pruned_of_missing_files(watched: WatchedFolder) -> None:
    inspected = InspectedFiles(watched.state_file)
    assert watched.state_file is not None
    for index in range(10_010):
        inspected.add(InspectedFileKey(f"{index}.png", 1, 2, index))
    present = {InspectedFileKey("10009.png", 1, 2, 10_009)}
    inspected.prune(present)
    assert len(inspected) == 1
    again = InspectedFiles(watched.state_file)
    again.load()
    assert InspectedFileKey("10009.png", 1, 2, 10_009) in again
    assert len(again) == 1


def test_files_are_not_returned_again_after_a_remount(
    watched: WatchedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeinspect.cameras._inspected_files._STALE_LINES_MAX", 2)
    for index in range(9):
        watched.put(f"{index}.png", b"%d!" % index)
    assert len(watched.wait(3_000)) == 9
    away = watched.folder.with_name("away")
    for restart in (False, True):
        watched.folder.rename(away)
        watched.folder.mkdir()  # the empty mount point
        if restart:
            watched.restart()
        assert watched.wait(3_000) == []
        watched.folder.rmdir()
        away.rename(watched.folder)
        assert watched.wait(3_000) == []
        watched.restart()
        assert watched.wait(3_000) == []


def test_an_unrecorded_file_is_not_returned_again_after_a_remount(
    watched: WatchedFolder,
) -> None:
    watched.put("a.png", b"one!")
    assert names(watched.wait(3_000, mark_inspected=False)) == ["a.png"]
    away = watched.folder.with_name("away")
    watched.folder.rename(away)
    watched.folder.mkdir()
    assert watched.wait(3_000) == []
    watched.folder.rmdir()
    away.rename(watched.folder)
    assert watched.wait(3_000) == []


def test_a_list_of_missing_files_is_bounded(
    watched: WatchedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeinspect.cameras._inspected_files._STALE_LINES_MAX", 2)
    monkeypatch.setattr("edgeinspect.cameras._inspected_files._STALE_LINES_HARD_MAX", 20)
    inspected = InspectedFiles(watched.state_file)
    for index in range(50):
        inspected.add(InspectedFileKey(f"{index}.png", 1, 2, index))
        inspected.prune(set())
    assert len(inspected) <= 20


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 5), st.booleans()),
            st.tuples(st.just("wait"), st.integers(1, 40), st.just(True)),
            st.tuples(st.just("kill"), st.just(0), st.just(True)),
        ),
        max_size=30,
    )
)
def test_each_complete_content_is_returned_once(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, int, bool]],
) -> None:
    root = tmp_path_factory.mktemp("hot")
    (root / "in").mkdir()
    watched = WatchedFolder(root / "in", root / "inspected")
    written: dict[str, bytes] = {}
    inspected: list[tuple[str, bytes]] = []
    settled: set[tuple[str, bytes]] = set()

    def collect(found: list[CompleteFile]) -> None:
        inspected.extend(
            (one.name, bytes(one.pixels.ravel())) for one in found if one.pixels is not None
        )

    for number, (kind, value, is_complete) in enumerate(steps):
        if kind == "write":
            name = f"{value}.png"
            data = b"%d" % number + b"." * number + (b"!" if is_complete else b"")  # of unique size
            watched.put(name, data)
            written[name] = data
        elif kind == "wait":
            collect(watched.wait(value * 100))
        else:
            watched.restart()
    collect(watched.wait(3 * SETTLE_MS))
    settled = {(name, data) for name, data in written.items() if data.endswith(b"!")}
    assert settled <= set(inspected)
    assert len(inspected) == len(set(inspected))
    assert all(data.endswith(b"!") for _name, data in inspected)
