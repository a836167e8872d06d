"""A folder that another program fills: complete pictures only, each once, across restarts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeinspect.cameras._folder_watch import CompleteFile, FolderWatcher
from edgeinspect.cameras._inspected_files import FileKey, InspectedFiles
from edgeinspect.domain.clock import NS_PER_MS, NS_PER_S
from edgeinspect.domain.frame import Pixels
from edgeinspect.domain.manual_clock import ManualClock
from edgeinspect.errors import CameraLostError
from edgeinspect.system.regular_file import read_regular

SETTLE_MS, LIMIT_MS = 1_000, 10_000


class WatchedFolder:
    """A watched folder in which a file that ends with `!` is a whole picture."""

    def __init__(self, folder: Path, remembered: Path | None = None) -> None:
        self.folder = folder
        self.state_file = remembered
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
        """What is handed out in so long, and noted as judged if so."""
        found: list[CompleteFile] = []
        for _ in range(for_ms // 50):
            self.clock.advance(50 * NS_PER_MS)
            while (one := self.watcher.next_complete()) is not None:
                found.append(one)
                if mark_inspected:
                    self.watcher.inspected.add(one.key)
        return found


@pytest.fixture
def desk(tmp_path: Path) -> WatchedFolder:
    (tmp_path / "in").mkdir()
    return WatchedFolder(tmp_path / "in", tmp_path / "state" / "rig.top.judged")


def names(found: list[CompleteFile]) -> list[str]:
    return [one.name for one in found]


def test_a_file_is_judged_once_when_it_is_complete(desk: WatchedFolder) -> None:
    desk.put("a.png", b"abc")
    assert desk.wait(3_000) == []
    desk.put("a.png", b"abcdef!")
    assert desk.wait(SETTLE_MS - 100) == []
    (found,) = desk.wait(2_000)
    assert found.pixels is not None
    assert bytes(found.pixels.ravel()) == b"abcdef!"
    assert desk.wait(60_000) == []


def test_a_file_that_grows_is_not_touched(desk: WatchedFolder) -> None:
    for count in range(1, 8):  # each step looks whole
        desk.put("a.png", b"x" * count + b"!")
        assert desk.wait(SETTLE_MS - 200) == []
    assert names(desk.wait(2_000)) == ["a.png"]


def test_a_rewritten_file_is_a_new_picture_and_an_old_one_is_not(desk: WatchedFolder) -> None:
    desk.put("a.png", b"one!")
    assert names(desk.wait(2_000)) == ["a.png"]
    desk.put("a.png", b"two!!")
    assert names(desk.wait(2_000)) == ["a.png"]
    os.utime(desk.folder / "a.png", ns=(0, 0))  # also by its time alone, whatever clock it is of
    assert names(desk.wait(2_000)) == ["a.png"]


def test_a_writer_whose_clock_stands_at_1970_is_seen(desk: WatchedFolder) -> None:
    file = desk.folder / "latest.png"

    def write(data: bytes) -> None:
        before = file.stat().st_ctime_ns if file.exists() else 0
        while not file.exists() or file.stat().st_ctime_ns == before:  # the kernel's tick
            desk.put(file.name, data)
            os.utime(file, ns=(0, 0))

    for data in (b"one!", b"two!"):  # the same name, size, inode and time
        write(data)
        (found,) = desk.wait(2_000)
        assert found.pixels is not None
        assert bytes(found.pixels.ravel()) == data
    desk.restart()
    assert desk.wait(2_000) == []


def test_what_was_judged_is_known_after_a_restart(desk: WatchedFolder) -> None:
    for index in range(5):
        desk.put(f"{index}.png", b"%d!" % index)
    first = desk.wait(1_500)
    assert names(first) == [f"{index}.png" for index in range(5)]
    desk.restart()
    desk.put("new.png", b"new!")
    assert names(desk.wait(2_000)) == ["new.png"]


def test_what_was_handed_out_and_not_noted_is_judged_again_after_a_kill(
    desk: WatchedFolder,
) -> None:
    desk.put("a.png", b"one!")
    assert names(desk.wait(2_000, mark_inspected=False)) == ["a.png"]
    assert desk.wait(2_000) == []  # not in this run
    desk.restart()
    assert names(desk.wait(2_000)) == ["a.png"]


def test_a_torn_or_damaged_list_forgets_its_torn_lines_alone(desk: WatchedFolder) -> None:
    assert desk.state_file is not None
    for index in range(3):
        desk.put(f"{index}.png", b"%d!" % index)
    desk.wait(2_000)
    data = desk.state_file.read_bytes()
    desk.state_file.write_bytes(b"[\n" + b"[" * 5_000 + b"\n\xff\n" + data[:-4])
    desk.restart()
    assert names(desk.wait(2_000)) == ["2.png"]
    desk.restart()
    assert desk.wait(2_000) == []


def test_a_file_that_stays_cut_off_is_given_up_with_its_reason(desk: WatchedFolder) -> None:
    desk.put("a.png", b"abc")
    desk.put("b.png", b"")
    found = desk.wait(LIMIT_MS + 3_000)
    assert names(found) == ["a.png", "b.png"]
    assert [one.problem for one in found] == ["is cut off", "is empty"]
    assert all(one.pixels is None for one in found)
    desk.put("a.png", b"abcdef!")
    assert names(desk.wait(2_000)) == ["a.png"]


def test_a_file_that_never_settles_raises_the_alarm(desk: WatchedFolder) -> None:
    for count in range(40):
        desk.put("a.png", b"x" * count)
        assert desk.wait(500) == []
    assert desk.watcher.alarm == "a.png not complete for 10 s"
    desk.put("a.png", b"x!")
    assert names(desk.wait(3_000)) == ["a.png"]
    assert desk.watcher.alarm == ""


def test_many_that_wait_for_their_turn_are_no_alarm(desk: WatchedFolder) -> None:
    for index in range(50):
        desk.put(f"{index:02}.png", b"%d!" % index)
    desk.wait(1_500, mark_inspected=False)
    desk.restart()
    for _ in range(50):  # slower than the limit
        desk.clock.advance(NS_PER_S)
        desk.watcher.next_complete()
        assert desk.watcher.alarm == ""


def test_what_is_removed_before_its_turn_is_told(desk: WatchedFolder) -> None:
    for name in ("a.png", "b.png", "c.png"):
        desk.put(name, name.encode() + b"!")
    desk.watcher.next_complete()
    desk.clock.advance(2 * NS_PER_S)
    assert desk.watcher.next_complete() is not None
    (desk.folder / "b.png").unlink()
    (desk.folder / "c.png").rename(desk.folder / "d.png")
    assert names(desk.wait(2_000)) == ["d.png"]
    assert desk.watcher.alarm == "1 pictures were removed before they were judged, as b.png"
    desk.wait(61_000)
    assert desk.watcher.alarm == ""


def test_pipes_and_folders_are_told_once_and_never_opened(desk: WatchedFolder) -> None:
    os.mkfifo(desk.folder / "a.png")
    (desk.folder / "b.png").mkdir()
    (desk.folder / "c.png").symlink_to("nowhere.png")
    found = desk.wait(20_000)
    assert {(one.name, one.problem) for one in found} == {
        ("a.png", "is not a regular file"),
        ("b.png", "is not a regular file"),
    }


def test_half_names_of_programs_that_copy_are_no_pictures(desk: WatchedFolder) -> None:
    for name in (".a.png.Xy12", "~$a.png", "a.png.part", "a.png.tmp", "._a.png", ".DS_Store"):
        desk.put(name, b"one!")
    assert desk.wait(30_000) == []
    assert desk.watcher.alarm == ""


def test_a_folder_that_is_gone_is_a_loss(desk: WatchedFolder) -> None:
    desk.folder.rmdir()
    desk.clock.advance(NS_PER_S)
    with pytest.raises(CameraLostError):
        desk.watcher.next_complete()


def test_a_full_disk_is_told_and_the_line_goes_on(desk: WatchedFolder) -> None:
    assert desk.state_file is not None
    desk.state_file.parent.mkdir()
    desk.state_file.symlink_to("/dev/full")
    desk.put("a.png", b"one!")
    assert names(desk.wait(2_000)) == ["a.png"]
    assert "cannot be kept" in desk.watcher.alarm
    assert desk.wait(5_000) == []


def test_the_list_does_not_grow_with_files_that_are_gone(desk: WatchedFolder) -> None:
    judged = InspectedFiles(desk.state_file)
    assert desk.state_file is not None
    for index in range(10_010):
        judged.add(FileKey(f"{index}.png", 1, 2, index))
    present = {FileKey("10009.png", 1, 2, 10_009)}
    judged.prune(present)
    assert len(judged) == 1
    again = InspectedFiles(desk.state_file)
    again.load()
    assert FileKey("10009.png", 1, 2, 10_009) in again
    assert len(again) == 1


def test_a_disk_that_is_not_mounted_lets_nothing_be_judged_again(
    desk: WatchedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeinspect.cameras._inspected_files._STALE_LINES_MAX", 2)
    for index in range(9):
        desk.put(f"{index}.png", b"%d!" % index)
    assert len(desk.wait(3_000)) == 9
    away = desk.folder.with_name("away")
    for restart in (False, True):
        desk.folder.rename(away)
        desk.folder.mkdir()  # the folder that the disk was mounted on
        if restart:
            desk.restart()
        assert desk.wait(3_000) == []
        desk.folder.rmdir()
        away.rename(desk.folder)
        assert desk.wait(3_000) == []
        desk.restart()
        assert desk.wait(3_000) == []


def test_what_waits_for_its_trigger_is_not_handed_out_twice_over_a_remount(
    desk: WatchedFolder,
) -> None:
    desk.put("a.png", b"one!")
    assert names(desk.wait(3_000, mark_inspected=False)) == ["a.png"]
    away = desk.folder.with_name("away")
    desk.folder.rename(away)
    desk.folder.mkdir()
    assert desk.wait(3_000) == []
    desk.folder.rmdir()
    away.rename(desk.folder)
    assert desk.wait(3_000) == []


def test_a_list_of_files_that_are_all_gone_is_bounded(
    desk: WatchedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeinspect.cameras._inspected_files._STALE_LINES_MAX", 2)
    monkeypatch.setattr("edgeinspect.cameras._inspected_files._STALE_LINES_HARD_MAX", 20)
    judged = InspectedFiles(desk.state_file)
    for index in range(50):
        judged.add(FileKey(f"{index}.png", 1, 2, index))
        judged.prune(set())
    assert len(judged) <= 20


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
def test_each_complete_content_is_judged_once_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, int, bool]],
) -> None:
    root = tmp_path_factory.mktemp("hot")
    (root / "in").mkdir()
    desk = WatchedFolder(root / "in", root / "judged")
    written: dict[str, bytes] = {}
    judged: list[tuple[str, bytes]] = []
    settled: set[tuple[str, bytes]] = set()

    def hear(found: list[CompleteFile]) -> None:
        judged.extend(
            (one.name, bytes(one.pixels.ravel())) for one in found if one.pixels is not None
        )

    for number, (kind, value, whole) in enumerate(steps):
        if kind == "write":
            name = f"{value}.png"
            data = b"%d" % number + b"." * number + (b"!" if whole else b"")  # no two of a size
            desk.put(name, data)
            written[name] = data
        elif kind == "wait":
            hear(desk.wait(value * 100))
        else:
            desk.restart()
    hear(desk.wait(3 * SETTLE_MS))
    settled = {(name, data) for name, data in written.items() if data.endswith(b"!")}
    assert settled <= set(judged)
    assert len(judged) == len(set(judged))
    assert all(data.endswith(b"!") for _name, data in judged)
