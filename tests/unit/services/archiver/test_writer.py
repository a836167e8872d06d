"""The archive's folder: bounded, whole after any crash, and its index made again when lost."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edgeinspect.domain.clock import NS_PER_S
from edgeinspect.domain.manual_clock import EPOCH_UTC_NS, ManualClock
from edgeinspect.errors import DataError, DeviceLostError, StorageError
from edgeinspect.services.archiver import files, writer
from edgeinspect.services.archiver.config import ImageFormat
from edgeinspect.services.archiver.files import encode_image, write_atomically
from edgeinspect.services.archiver.write_queue import WriteQueue
from edgeinspect.services.archiver.writer import DAY_NS, ArchiveWriter
from edgeinspect.storage.archive.format import (
    INDEX_FILE,
    PARTIAL_SUFFIX,
    Category,
    is_archive,
    read_sidecar,
    sidecars,
)
from edgeinspect.storage.archive.progress import ArchiveProgress, LossReason
from edgeinspect.storage.archive.reader import (
    FrameQuery,
    check_integrity,
    find_frame,
    find_frames,
    read_losses,
)
from edgeinspect.storage.sqlite_file import SQLITE_SUFFIXES
from tests.archive_fixture import (
    SCRATCH,
    SECOND,
    archived_frames,
    config,
    noise_image,
    pending_frame,
)


class ArchiveFixture:
    """A keeper on a clock by hand."""

    def __init__(self, folder: Path, more: str = "", max_mib: float = 100) -> None:
        self.clock = ManualClock()
        self.clock.utc_offset_ns = EPOCH_UTC_NS + 1_000 * SECOND
        self.config = config(folder, more, max_mib=max_mib)
        self.keeper = ArchiveWriter(self.config, self.clock)
        self.root = self.keeper.root

    def save(self, *seqs: int, kind: Category = Category.REJECT, **changes: Any) -> None:
        for seq in seqs:
            frame = pending_frame(seq, kind, **changes)
            self.keeper.progress.mark_pending(frame.key)
            self.keeper.save(frame)

    def commit(self, heard: int | None = None) -> None:
        if heard is not None:
            self.keeper.progress.advance(heard)
        self.keeper.maintain(force=True)

    def saved_seqs(self) -> set[int]:
        return set(archived_frames(self.root))

    def indexed_seqs(self) -> set[int]:
        return {row.seq for row in find_frames(self.root, FrameQuery())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def kill(shelf: ArchiveFixture) -> None:
    """As `kill -9`: nothing is committed, the lock is gone."""
    os.close(shelf.keeper._lock_fd)
    shelf.keeper._index._db.rollback()
    shelf.keeper._index._db.close()


def test_what_is_saved_is_there_pixel_for_pixel_with_its_verdict(folder: Path) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(5)
    shelf.commit(5)
    ((path, told),) = [(path, read_sidecar(path)) for path in sidecars(shelf.root)]
    assert path.name == "t.top.7.5.json"
    assert told.verdict == pending_frame(5).verdict
    assert (told.kind, told.label, told.picture.lossless) == (Category.REJECT, "scratch", True)
    ((kind, pixels),) = archived_frames(shelf.root).values()
    assert np.array_equal(pixels[:, :, None], noise_image(5))
    assert kind is Category.REJECT
    assert is_archive(shelf.root)
    assert find_frame(shelf.root, "5") == find_frame(shelf.root, "t.top.7.5") == (path, told)
    shelf.keeper.close()


@pytest.mark.parametrize("color", ["bgr", "rgb", "mono"])
def test_colors_are_those_that_a_viewer_expects(color: str) -> None:
    pixels = noise_image(3, shape=(8, 9, 1 if color == "mono" else 3))
    data = np.frombuffer(encode_image(pixels, color, ImageFormat()), np.uint8)
    seen = cv2.imdecode(data, cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
    np.testing.assert_array_equal(seen, pixels[..., ::-1] if color == "rgb" else pixels)


def test_jpeg_is_smaller_and_close(folder: Path) -> None:
    pixels = np.full((64, 64, 1), 120, np.uint8)
    data = encode_image(pixels, "mono", ImageFormat(format="jpeg", jpeg_quality=90))
    assert len(data) < pixels.nbytes
    assert data[:2] == b"\xff\xd8"
    shelf = ArchiveFixture(folder, "picture: {format: jpeg}")
    shelf.save(1)
    (path,) = sidecars(shelf.root)
    assert read_sidecar(path).picture.lossless is False
    shelf.keeper.close()


# -- room and age ---------------------------------------------------------------------------


LARGE = (128, 200, 1)
MANY = 30
"""About so many of these fit into 1 MiB."""


def test_room_is_made_by_removing_the_least_useful_first(folder: Path) -> None:
    shelf = ArchiveFixture(folder, "shares: {near: 0, reject: 0, no_verdict: 0, passed: 0}", 1.0)
    shelf.save(*range(MANY // 2), kind=Category.PASS, shape=LARGE)
    shelf.save(*range(1000, 1000 + MANY // 2), kind=Category.NEAR, shape=LARGE)
    shelf.save(*range(2000, 2000 + MANY // 2), shape=LARGE)
    left = shelf.saved_seqs()
    assert 2**20 * 0.9 < shelf.keeper.size_bytes <= 2**20
    assert {seq for seq in left if seq >= 1000} == {
        *range(1000, 1000 + MANY // 2),
        *range(2000, 2000 + MANY // 2),
    }
    passes = sorted(seq for seq in left if seq < 1000)
    assert 0 < len(passes) < MANY // 2
    assert passes == list(range(MANY // 2 - len(passes), MANY // 2)), "the oldest go first"
    shelf.save(*range(3000, 3000 + MANY), kind=Category.SIMULATED, shape=LARGE)
    assert shelf.saved_seqs() >= left, "the least useful pushes nothing out"
    assert shelf.keeper.progress.totals[LossReason.LESS_USEFUL] > MANY // 2
    shelf.keeper.close()


def test_a_rare_class_is_not_pushed_out_by_a_common_one(folder: Path) -> None:
    shelf = ArchiveFixture(folder, max_mib=1.0)
    pit = msgspec.structs.replace(SCRATCH, class_name="pit")
    shelf.save(1, 2, 3, regions=(pit,), shape=LARGE)
    shelf.save(*range(10, 10 + 2 * MANY), shape=LARGE)
    assert {1, 2, 3} <= shelf.saved_seqs()
    assert 10 not in shelf.saved_seqs()
    shelf.keeper.close()


def test_what_is_too_old_is_removed_with_its_folder(folder: Path) -> None:
    shelf = ArchiveFixture(folder, "keep_days: 2")
    shelf.save(1, 2)
    shelf.clock.advance(DAY_NS)
    shelf.save(3, captured_at_utc_ns=EPOCH_UTC_NS + DAY_NS)
    shelf.commit(3)
    shelf.clock.advance(DAY_NS)
    shelf.commit()
    assert shelf.saved_seqs() == shelf.indexed_seqs() == {3}
    assert len(list(shelf.root.glob("????-??-??"))) == 1
    shelf.keeper.close()


YEAR_NS = 365 * DAY_NS


@pytest.mark.parametrize("by_ns", [91 * DAY_NS, -91 * DAY_NS, 10 * YEAR_NS, -56 * YEAR_NS])
@pytest.mark.parametrize("keep_days", [365, 0.01])
@pytest.mark.parametrize("restart", [True, False])
def test_a_clock_that_jumps_removes_no_picture(
    folder: Path, by_ns: int, keep_days: float, restart: bool
) -> None:
    text = f"keep_days: {keep_days}"
    shelf = ArchiveFixture(folder, text)
    shelf.save(1, 2)
    shelf.commit(2)
    seq, offset_ns = 2, shelf.clock.utc_offset_ns
    for jump_ns in (by_ns, 0):
        if restart:
            shelf.keeper.close()
            shelf = ArchiveFixture(folder, text)
        shelf.clock.utc_offset_ns = offset_ns + jump_ns
        for _ in range(3):
            seq += 1
            shelf.clock.advance(60 * NS_PER_S)
            shelf.save(seq, captured_at_utc_ns=shelf.clock.utc_ns())
            shelf.commit(seq)
    assert shelf.saved_seqs() == shelf.indexed_seqs() == set(range(1, 9))
    shelf.keeper.close()


def test_where_room_is_short_a_picture_of_1970_does_not_go_first(folder: Path) -> None:
    """Saved last, with the RTC's battery dead: its stamp is the oldest, and it is the newest."""
    shelf = ArchiveFixture(folder, max_mib=1.0)
    shelf.save(*range(1, 2 * MANY), shape=LARGE)
    shelf.clock.advance(NS_PER_S)
    last = range(2 * MANY, 2 * MANY + 5)
    for seq in last:
        shelf.save(seq, shape=LARGE, captured_at_utc_ns=seq)
    assert set(last) <= shelf.saved_seqs()
    assert 1 not in shelf.saved_seqs()
    shelf.keeper.close()


@pytest.mark.parametrize("by_ns", [10 * YEAR_NS, -10 * YEAR_NS, -56 * YEAR_NS])
def test_what_was_not_committed_is_found_though_the_clock_was_set(folder: Path, by_ns: int) -> None:
    shelf = ArchiveFixture(folder)
    shelf.clock.utc_offset_ns += by_ns
    shelf.save(1, 2)
    shelf.commit(2)
    shelf.clock.utc_offset_ns -= by_ns
    shelf.save(3, 4)
    kill(shelf)
    again = ArchiveFixture(folder)
    assert again.indexed_seqs() == {1, 2, 3, 4}
    again.keeper.close()


def test_an_index_of_the_version_before_is_taken_over(folder: Path) -> None:
    shelf = ArchiveFixture(folder, "keep_days: 2")
    shelf.save(1, 2)
    shelf.commit(2)
    kill(shelf)
    with closing(sqlite3.connect(shelf.root / INDEX_FILE)) as base:
        base.executescript(
            "DROP INDEX by_use_and_age; DROP INDEX by_age; DROP TABLE folders;"
            "ALTER TABLE frames DROP COLUMN kept_since_ns;"
            "DELETE FROM state WHERE name LIKE 'kept%';"
            "CREATE INDEX by_time ON frames (captured_at_utc_ns)"
        )
    again = ArchiveFixture(folder, "keep_days: 2")
    assert again.indexed_seqs() == {1, 2}
    again.clock.advance(DAY_NS)
    again.save(3)
    again.clock.advance(DAY_NS)
    again.commit()
    assert again.saved_seqs() == again.indexed_seqs() == {3}
    again.keeper.close()


# -- crashes --------------------------------------------------------------------------------


def test_what_was_saved_and_not_committed_is_found_again_and_not_caught_twice(
    folder: Path,
) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(1, 2)
    shelf.commit(2)
    shelf.save(3, 4)
    kill(shelf)
    again = ArchiveFixture(folder)
    assert again.indexed_seqs() == again.saved_seqs() == {1, 2, 3, 4}
    assert again.keeper.stored_cursor == 2
    assert again.keeper.saved_after_cursor == {(7, 3), (7, 4)}
    assert again.keeper.frame_count == 4
    assert again.keeper.size_bytes == shelf.keeper.size_bytes
    again.keeper.close()


@pytest.mark.parametrize("point", ["picture.part", "picture", "sidecar.part", "half", "removed"])
def test_a_crash_at_any_point_leaves_no_half_picture(folder: Path, point: str) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(1, 2)
    shelf.commit(2)
    (hour,) = shelf.root.glob("*/*")
    name = "t.top.7.3"
    if point == "picture.part":
        (hour / f"{name}.png{PARTIAL_SUFFIX}").write_bytes(b"\x89PNG half")
    elif point == "picture":
        (hour / f"{name}.png").write_bytes(b"\x89PNG whole, but nobody says so")
    elif point == "sidecar.part":
        (hour / f"{name}.png").write_bytes(b"\x89PNG")
        (hour / f"{name}.json{PARTIAL_SUFFIX}").write_bytes(b'{"schema"')
    elif point == "half":  # a power cut: the sidecar reached the disk, its picture did not
        (hour / "t.top.7.2.png").write_bytes(b"")
    else:  # killed while it removed frame 2
        (hour / "t.top.7.2.json").unlink()
    (hour / "notes.txt").write_text("a person's")
    kill(shelf)
    again = ArchiveFixture(folder)
    expected = {1} if point in ("half", "removed") else {1, 2}
    assert again.saved_seqs() == again.indexed_seqs() == expected
    assert again.keeper.frame_count == len(expected)
    left = {path.name for path in hour.iterdir()} - {"notes.txt"}
    assert left == {f"t.top.7.{seq}.{end}" for seq in expected for end in ("png", "json")}
    assert (hour / "notes.txt").exists()
    again.keeper.close()


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (lambda text: text.replace("archived/1", "archived/9"), True),
        (lambda text: text.replace('"t.top.7.2.png"', '"../../t.top.7.2.png"'), True),
        (lambda text: text[:-30], False),
        (lambda text: "", False),
    ],
)
def test_a_sidecar_of_another_version_is_left_alone_and_a_torn_one_is_not(
    folder: Path, change: Callable[[str], str], stays: bool
) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(1, 2)
    shelf.commit(2)
    kill(shelf)
    (path,) = shelf.root.glob("*/*/t.top.7.2.json")
    path.write_text(change(path.read_text()))
    again = ArchiveFixture(folder)
    assert again.indexed_seqs() == {1}
    assert path.exists() == path.with_suffix(".png").exists() == stays
    again.keeper.close()
    if stays:
        with pytest.raises(DataError, match=r"no sidecar|not beside it"):
            read_sidecar(path)


@pytest.mark.parametrize("damage", ["gone", "junk", "rot", "other"])
def test_a_lost_index_is_made_again_from_the_sidecars(folder: Path, damage: str) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(*range(300))
    shelf.commit(300)
    shelf.keeper.close()
    path = shelf.root / INDEX_FILE
    if damage == "gone":
        path.unlink()
    elif damage == "junk":
        path.write_bytes(b"not a database" * 500)
    elif damage == "rot":
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 20_000)
    else:
        with closing(sqlite3.connect(path)) as base:
            base.execute("PRAGMA user_version = 9")
    again = ArchiveFixture(folder)
    assert again.keeper.frame_count == 300
    assert again.keeper.size_bytes == shelf.keeper.size_bytes
    assert again.indexed_seqs() == set(range(300))
    assert len(list(shelf.root.glob("*.damaged-1"))) == (damage != "gone")
    again.keeper.close()


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE frames SET kind = 'other' WHERE seq = 3",
        "UPDATE frames SET size_bytes = x'00'",
        "UPDATE frames SET size_bytes = -900000000000000",
        "UPDATE frames SET size_bytes = 9223372036854775807",
        "UPDATE frames SET captured_at_utc_ns = 'x'",
        "UPDATE frames SET defect_prob = 'x'",
        "UPDATE frames SET label = CAST(x'ff' AS TEXT)",
        "UPDATE frames SET path = CAST(x'ff' AS TEXT) || substr(path, 2) WHERE seq = 1",
        "UPDATE frames SET path = '../x/t.top.7.1.json' WHERE seq = 1",
        "UPDATE frames SET path = '../a-..-../../t.top.7.1.json' WHERE seq = 1",
        "UPDATE frames SET path = substr(path, 1, 14) || '../../../x.json' WHERE seq = 1",
        "UPDATE frames SET kept_since_ns = 'x'",
        "UPDATE state SET value = 'x'",
        "UPDATE state SET value = 9223372036854775807",
        "UPDATE state SET value = 9e999",
        "UPDATE folders SET mtime_ns = 'x'",
        "INSERT INTO missed VALUES (9223372036854775807, 'pass', 'room', 3)",
        "DROP TABLE frames; CREATE TABLE frames (a)",
        "DROP TABLE missed; CREATE VIEW missed AS WITH RECURSIVE n (x) AS "
        "(SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT * FROM n",
        "CREATE TRIGGER other AFTER INSERT ON frames BEGIN DELETE FROM frames; END",
    ],
)
def test_an_index_with_a_value_that_none_has_is_damaged(folder: Path, harm: str) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(1, 2, 3)
    shelf.commit(3)
    shelf.keeper.close()
    with closing(sqlite3.connect(shelf.root / INDEX_FILE)) as base:
        base.executescript(harm)
    assert shelf.indexed_seqs() == {1, 2, 3}
    if "kept_since" not in harm:  # which no reader reads
        with pytest.raises(DataError, match="cannot be read"):
            read_losses(shelf.root)
    again = ArchiveFixture(folder)
    assert again.keeper._index.rebuild_reason
    again.save(4)
    again.commit(4)
    assert again.indexed_seqs() == {1, 2, 3, 4}
    assert len(list(shelf.root.glob("*.damaged-1"))) == 1
    assert read_losses(shelf.root) == []
    again.keeper.close()
    once_more = ArchiveFixture(folder)
    assert not once_more.keeper._index.rebuild_reason
    once_more.keeper.close()


@pytest.mark.parametrize("suffix", SQLITE_SUFFIXES)
def test_nobody_waits_for_a_pipe_in_the_index_s_place(folder: Path, suffix: str) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(1, 2)
    shelf.commit(2)
    shelf.keeper.close()
    path = shelf.root / f"{INDEX_FILE}{suffix}"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert shelf.indexed_seqs() == {1, 2}
    again = ArchiveFixture(folder)
    assert again.keeper._index.rebuild_reason == f"{path.name} is not an ordinary file"
    assert again.indexed_seqs() == {1, 2}
    again.keeper.close()


def test_a_copy_in_the_archive_s_folder_is_left_alone_and_stands_for_no_frame(
    folder: Path,
) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(1, 2)
    shelf.commit(2)
    shelf.keeper.close()
    (path,) = shelf.root.glob("*/*/t.top.7.1.json")
    text = path.read_text()
    copies = [
        path.with_name("look at this.json"),
        path.with_name("u.top.7.1.json"),
        path.with_name("t.top.7.8.json"),
    ]
    copies[0].write_text(text)
    copies[1].write_text(text.replace('"line":"t"', '"line":"u"'))
    copies[2].mkdir()
    before = shelf.keeper.size_bytes
    again = ArchiveFixture(folder)
    assert [row.name for row in find_frames(again.root, FrameQuery())] == ["t.top.7.2", "t.top.7.1"]
    assert again.keeper.size_bytes == before
    assert all(copy.exists() for copy in copies)
    again.keeper.close()


def test_an_index_that_rots_while_it_runs_is_made_anew(folder: Path) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(*range(200))
    shelf.commit(200)
    problem = sqlite3.DatabaseError("database disk image is malformed")

    def fail(*_words: object) -> None:
        raise problem

    shelf.keeper._index.commit = fail  # type: ignore[assignment]
    shelf.save(201)
    shelf.keeper.progress.record_loss(202, 0, "reject", LossReason.TOO_LATE)
    shelf.commit(202)  # no error: it was mended
    shelf.commit()
    assert shelf.indexed_seqs() == {*range(200), 201}
    assert sum(count for *_words, count in read_losses(shelf.root)) == 1
    shelf.keeper.close()


# -- a disk that takes nothing --------------------------------------------------------------


def test_a_write_that_fails_leaves_nothing_and_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = ArchiveFixture(folder)
    waiting = WriteQueue(1 << 20, shelf.config.shares.quota_of)
    for frame in (pending_frame(1), pending_frame(2, Category.NEAR)):
        shelf.keeper.progress.mark_pending(frame.key)
        waiting.put(frame)
    shelf.keeper.progress.advance(2)
    real = files.write_atomically

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".json":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(files, "write_atomically", full)
    for _ in range(3):
        assert not shelf.keeper.write_next(waiting, 0)
    assert "No space left" in shelf.keeper.problem
    assert len(waiting) == 2
    assert not [path for path in shelf.root.glob("*/*/*") if path.is_file()]
    monkeypatch.undo()
    assert shelf.keeper.write_next(waiting, 0)
    assert not shelf.keeper.problem
    assert shelf.keeper.write_next(waiting, 0)
    shelf.commit()
    assert shelf.saved_seqs() == shelf.indexed_seqs() == {1, 2}
    assert shelf.keeper.stored_cursor == 2
    shelf.keeper.close()


def test_an_index_that_cannot_be_written_loses_no_row(folder: Path) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(1)
    shelf.commit(1)
    base = shelf.keeper._index._db
    base.execute("PRAGMA max_page_count = 1")  # as many pages as there are, and no more
    shelf.save(*range(2, 200))
    shelf.keeper.progress.record_loss(200, 0, "reject", LossReason.EVICTED)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"index cannot be written: .*full"):
            shelf.commit(200)
    shelf.save(201)
    base.rollback()
    base.execute("PRAGMA max_page_count = 100000")
    shelf.commit(201)
    assert shelf.indexed_seqs() == shelf.saved_seqs() == {*range(1, 200), 201}
    assert shelf.keeper.stored_cursor == 201
    assert sum(count for *_words, count in read_losses(shelf.root)) == 1
    shelf.keeper.close()


def test_what_must_stay_free_stays_free(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = ArchiveFixture(folder)
    shelf.keeper._config = msgspec.structs.replace(shelf.config, min_free_mib=10)
    free = 9 << 20
    monkeypatch.setattr(writer.files, "free_disk_bytes", lambda root: free)
    with pytest.raises(StorageError, match="8 MiB free; 10 are to stay free"):
        shelf.save(1)
    free = 11 << 20
    shelf.save(1)
    shelf.keeper.close()


def test_a_part_that_cannot_be_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(tmp_path / "x.png", b"data")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


# -- whose it is ----------------------------------------------------------------------------


def test_one_process_and_one_line(folder: Path) -> None:
    shelf = ArchiveFixture(folder)
    with pytest.raises(DeviceLostError, match="another process"):
        ArchiveFixture(folder)
    shelf.keeper.close()
    with pytest.raises(DataError, match="of the line t, not of u"):
        ArchiveWriter(config(folder, line="u"), ManualClock())


def test_a_disk_without_locks_is_not_another_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_handle: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DeviceLostError, match="No locks available"):
        ArchiveFixture(folder)


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "archive.json").write_text('{"schema": "other"}')
    with pytest.raises(DataError, match="says something else"):
        ArchiveFixture(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeviceLostError, match="cannot be used"):
        ArchiveWriter(config(tmp_path / "file"), ManualClock())


def test_check_finds_a_picture_that_is_not_what_was_saved(folder: Path) -> None:
    shelf = ArchiveFixture(folder)
    shelf.save(1, 2, 3)
    shelf.commit(3)
    shelf.save(4)
    path, told = find_frame(shelf.root, "2")
    image = path.with_name(told.picture.file)
    data = bytearray(image.read_bytes())
    data[-20] ^= 1
    image.write_bytes(bytes(data))
    found = check_integrity(shelf.root)
    assert (found.frames, found.unindexed) == (3, 1)
    assert [Path(each).stem for each in found.broken] == ["t.top.7.2"]
    shelf.keeper.close()
    (shelf.root / INDEX_FILE).unlink()
    assert {row.seq for row in find_frames(shelf.root, FrameQuery(kinds=(Category.REJECT,)))} == {
        1,
        2,
        3,
        4,
    }


def test_an_account_of_nothing_is_stored_as_nothing(folder: Path) -> None:
    shelf = ArchiveFixture(folder)
    shelf.commit()
    assert shelf.keeper.stored_cursor is None
    assert ArchiveProgress(None).take_committable() == (None, Counter())
    shelf.keeper.close()
    again = ArchiveFixture(folder)
    assert again.keeper.stored_cursor is None
    again.keeper.close()
