"""The archive folder: bounded, consistent after a crash, its index rebuilt when lost."""

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
from edgeinspect.services.archiver.files import encode_image
from edgeinspect.services.archiver.write_queue import WriteQueue
from edgeinspect.services.archiver.writer import DAY_NS, ArchiveWriter
from edgeinspect.storage.archive.format import (
    INDEX_FILE,
    PARTIAL_SUFFIX,
    ArchiveCategory,
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
from edgeinspect.system.files import write_atomic
from tests.archive_fixture import (
    SCRATCH,
    SECOND,
    archived_frames,
    config,
    noise_image,
    pending_frame,
)


class ArchiveFixture:
    """An archive writer on a manual clock."""

    def __init__(self, folder: Path, more: str = "", max_mib: float = 100) -> None:
        self.clock = ManualClock()
        self.clock.utc_offset_ns = EPOCH_UTC_NS + 1_000 * SECOND
        self.config = config(folder, more, max_mib=max_mib)
        self.writer = ArchiveWriter(self.config, self.clock)
        self.root = self.writer.root

    def save(
        self, *seqs: int, kind: ArchiveCategory = ArchiveCategory.REJECT, **changes: Any
    ) -> None:
        for seq in seqs:
            frame = pending_frame(seq, kind, **changes)
            self.writer.progress.mark_pending(frame.key)
            self.writer.save(frame)

    def commit(self, received_seq: int | None = None) -> None:
        if received_seq is not None:
            self.writer.progress.advance(received_seq)
        self.writer.maintain(force=True)

    def saved_seqs(self) -> set[int]:
        return set(archived_frames(self.root))

    def indexed_seqs(self) -> set[int]:
        return {row.seq for row in find_frames(self.root, FrameQuery())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def kill(archive: ArchiveFixture) -> None:
    """Simulate `kill -9`: nothing is committed, the lock is released."""
    archive.writer._file_lock.release()
    archive.writer._index._db.rollback()
    archive.writer._index._db.close()


def test_saves_pixels_and_verdict(folder: Path) -> None:
    archive = ArchiveFixture(folder)
    archive.save(5)
    archive.commit(5)
    ((path, sidecar),) = [(path, read_sidecar(path)) for path in sidecars(archive.root)]
    assert path.name == "t.top.7.5.json"
    assert sidecar.verdict == pending_frame(5).verdict
    expected = (ArchiveCategory.REJECT, "scratch", True)
    assert (sidecar.kind, sidecar.label, sidecar.picture.lossless) == expected
    ((kind, pixels),) = archived_frames(archive.root).values()
    assert np.array_equal(pixels[:, :, None], noise_image(5))
    assert kind is ArchiveCategory.REJECT
    assert is_archive(archive.root)
    assert find_frame(archive.root, "5") == find_frame(archive.root, "t.top.7.5") == (path, sidecar)
    with pytest.raises(
        DataError, match=r"has no frame '99'\. List them with: edgeinspect archive list"
    ):
        find_frame(archive.root, "99")
    archive.writer.close()


@pytest.mark.parametrize("color", ["bgr", "rgb", "mono"])
def test_saves_colors_in_the_order_of_viewers(color: str) -> None:
    pixels = noise_image(3, shape=(8, 9, 1 if color == "mono" else 3))
    data = np.frombuffer(encode_image(pixels, color, ImageFormat()), np.uint8)
    seen = cv2.imdecode(data, cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
    np.testing.assert_array_equal(seen, pixels[..., ::-1] if color == "rgb" else pixels)


def test_jpeg_is_smaller_and_similar(folder: Path) -> None:
    pixels = np.full((64, 64, 1), 120, np.uint8)
    data = encode_image(pixels, "mono", ImageFormat(format="jpeg", jpeg_quality=90))
    assert len(data) < pixels.nbytes
    assert data[:2] == b"\xff\xd8"
    archive = ArchiveFixture(folder, "picture: {format: jpeg}")
    archive.save(1)
    (path,) = sidecars(archive.root)
    assert read_sidecar(path).picture.lossless is False
    archive.writer.close()


# -- room and age ---------------------------------------------------------------------------


LARGE = (128, 200, 1)
MANY = 30
"""Approximate number of these frames in 1 MiB."""


def test_evicts_the_least_useful_frames_first(folder: Path) -> None:
    archive = ArchiveFixture(folder, "shares: {near: 0, reject: 0, no_verdict: 0, passed: 0}", 1.0)
    archive.save(*range(MANY // 2), kind=ArchiveCategory.PASS, shape=LARGE)
    archive.save(*range(1000, 1000 + MANY // 2), kind=ArchiveCategory.NEAR, shape=LARGE)
    archive.save(*range(2000, 2000 + MANY // 2), shape=LARGE)
    left = archive.saved_seqs()
    assert 2**20 * 0.9 < archive.writer.size_bytes <= 2**20
    assert {seq for seq in left if seq >= 1000} == {
        *range(1000, 1000 + MANY // 2),
        *range(2000, 2000 + MANY // 2),
    }
    passes = sorted(seq for seq in left if seq < 1000)
    assert 0 < len(passes) < MANY // 2
    assert passes == list(range(MANY // 2 - len(passes), MANY // 2)), "the oldest go first"
    archive.save(*range(3000, 3000 + MANY), kind=ArchiveCategory.SIMULATED, shape=LARGE)
    assert archive.saved_seqs() >= left, "the least useful pushes nothing out"
    assert archive.writer.progress.totals[LossReason.LESS_USEFUL] > MANY // 2
    archive.writer.close()


def test_common_class_does_not_evict_a_rare_one(folder: Path) -> None:
    archive = ArchiveFixture(folder, max_mib=1.0)
    pit = msgspec.structs.replace(SCRATCH, class_name="pit")
    archive.save(1, 2, 3, regions=(pit,), shape=LARGE)
    archive.save(*range(10, 10 + 2 * MANY), shape=LARGE)
    assert {1, 2, 3} <= archive.saved_seqs()
    assert 10 not in archive.saved_seqs()
    archive.writer.close()


def test_removes_expired_frames_and_empty_folders(folder: Path) -> None:
    archive = ArchiveFixture(folder, "keep_days: 2")
    archive.save(1, 2)
    archive.clock.advance(DAY_NS)
    archive.save(3, captured_at_utc_ns=EPOCH_UTC_NS + DAY_NS)
    archive.commit(3)
    archive.clock.advance(DAY_NS)
    archive.commit()
    assert archive.saved_seqs() == archive.indexed_seqs() == {3}
    assert len(list(archive.root.glob("????-??-??"))) == 1
    archive.writer.close()


YEAR_NS = 365 * DAY_NS


@pytest.mark.parametrize("by_ns", [91 * DAY_NS, -91 * DAY_NS, 10 * YEAR_NS, -56 * YEAR_NS])
@pytest.mark.parametrize("keep_days", [365, 0.01])
@pytest.mark.parametrize("restart", [True, False])
def test_clock_jump_removes_no_frame(
    folder: Path, by_ns: int, keep_days: float, restart: bool
) -> None:
    text = f"keep_days: {keep_days}"
    archive = ArchiveFixture(folder, text)
    archive.save(1, 2)
    archive.commit(2)
    seq, offset_ns = 2, archive.clock.utc_offset_ns
    for jump_ns in (by_ns, 0):
        if restart:
            archive.writer.close()
            archive = ArchiveFixture(folder, text)
        archive.clock.utc_offset_ns = offset_ns + jump_ns
        for _ in range(3):
            seq += 1
            archive.clock.advance(60 * NS_PER_S)
            archive.save(seq, captured_at_utc_ns=archive.clock.utc_ns())
            archive.commit(seq)
    assert archive.saved_seqs() == archive.indexed_seqs() == set(range(1, 9))
    archive.writer.close()


def test_frame_dated_1970_is_not_evicted_first(folder: Path) -> None:
    """Saved last, with a dead RTC battery: its timestamp is the oldest, and it is the newest."""
    archive = ArchiveFixture(folder, max_mib=1.0)
    archive.save(*range(1, 2 * MANY), shape=LARGE)
    archive.clock.advance(NS_PER_S)
    last = range(2 * MANY, 2 * MANY + 5)
    for seq in last:
        archive.save(seq, shape=LARGE, captured_at_utc_ns=seq)
    assert set(last) <= archive.saved_seqs()
    assert 1 not in archive.saved_seqs()
    archive.writer.close()


@pytest.mark.parametrize("by_ns", [10 * YEAR_NS, -10 * YEAR_NS, -56 * YEAR_NS])
def test_finds_uncommitted_frames_after_a_clock_change(folder: Path, by_ns: int) -> None:
    archive = ArchiveFixture(folder)
    archive.clock.utc_offset_ns += by_ns
    archive.save(1, 2)
    archive.commit(2)
    archive.clock.utc_offset_ns -= by_ns
    archive.save(3, 4)
    kill(archive)
    again = ArchiveFixture(folder)
    assert again.indexed_seqs() == {1, 2, 3, 4}
    again.writer.close()


def test_migrates_an_index_of_the_previous_version(folder: Path) -> None:
    archive = ArchiveFixture(folder, "keep_days: 2")
    archive.save(1, 2)
    archive.commit(2)
    kill(archive)
    with closing(sqlite3.connect(archive.root / INDEX_FILE)) as base:
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
    again.writer.close()


# -- crashes --------------------------------------------------------------------------------


def test_finds_uncommitted_frames_and_does_not_copy_them_again(
    folder: Path,
) -> None:
    archive = ArchiveFixture(folder)
    archive.save(1, 2)
    archive.commit(2)
    archive.save(3, 4)
    kill(archive)
    again = ArchiveFixture(folder)
    assert again.indexed_seqs() == again.saved_seqs() == {1, 2, 3, 4}
    assert again.writer.stored_cursor == 2
    assert again.writer.saved_after_cursor == {(7, 3), (7, 4)}
    assert again.writer.frame_count == 4
    assert again.writer.size_bytes == archive.writer.size_bytes
    again.writer.close()


@pytest.mark.parametrize("point", ["picture.part", "picture", "sidecar.part", "half", "removed"])
def test_crash_at_any_point_leaves_no_partial_frame(folder: Path, point: str) -> None:
    archive = ArchiveFixture(folder)
    archive.save(1, 2)
    archive.commit(2)
    (hour,) = archive.root.glob("*/*")
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
    else:  # killed while removing frame 2
        (hour / "t.top.7.2.json").unlink()
    (hour / "notes.txt").write_text("a person's")
    kill(archive)
    again = ArchiveFixture(folder)
    expected = {1} if point in ("half", "removed") else {1, 2}
    assert again.saved_seqs() == again.indexed_seqs() == expected
    assert again.writer.frame_count == len(expected)
    left = {path.name for path in hour.iterdir()} - {"notes.txt"}
    assert left == {f"t.top.7.{seq}.{end}" for seq in expected for end in ("png", "json")}
    assert (hour / "notes.txt").exists()
    again.writer.close()


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (lambda text: text.replace("archived/1", "archived/9"), True),
        (lambda text: text.replace('"t.top.7.2.png"', '"../../t.top.7.2.png"'), True),
        (lambda text: text[:-30], False),
        (lambda text: "", False),
    ],
)
def test_keeps_sidecars_of_another_version_and_removes_torn_ones(
    folder: Path, change: Callable[[str], str], stays: bool
) -> None:
    archive = ArchiveFixture(folder)
    archive.save(1, 2)
    archive.commit(2)
    kill(archive)
    (path,) = archive.root.glob("*/*/t.top.7.2.json")
    path.write_text(change(path.read_text()))
    again = ArchiveFixture(folder)
    assert again.indexed_seqs() == {1}
    assert path.exists() == path.with_suffix(".png").exists() == stays
    again.writer.close()
    if stays:
        with pytest.raises(DataError, match=r"not a sidecar|in another folder"):
            read_sidecar(path)


@pytest.mark.parametrize("damage", ["gone", "junk", "rot", "other"])
def test_rebuilds_a_lost_index_from_the_sidecars(folder: Path, damage: str) -> None:
    archive = ArchiveFixture(folder)
    archive.save(*range(300))
    archive.commit(300)
    archive.writer.close()
    path = archive.root / INDEX_FILE
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
    assert again.writer.frame_count == 300
    assert again.writer.size_bytes == archive.writer.size_bytes
    assert again.indexed_seqs() == set(range(300))
    assert len(list(archive.root.glob("*.damaged-1"))) == (damage != "gone")
    again.writer.close()


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
def test_index_with_an_invalid_value_is_rebuilt(folder: Path, harm: str) -> None:
    archive = ArchiveFixture(folder)
    archive.save(1, 2, 3)
    archive.commit(3)
    archive.writer.close()
    with closing(sqlite3.connect(archive.root / INDEX_FILE)) as base:
        base.executescript(harm)
    assert archive.indexed_seqs() == {1, 2, 3}
    if "kept_since" not in harm:  # which no reader reads
        with pytest.raises(DataError, match="cannot be read"):
            read_losses(archive.root)
    again = ArchiveFixture(folder)
    assert again.writer._index.rebuild_reason
    again.save(4)
    again.commit(4)
    assert again.indexed_seqs() == {1, 2, 3, 4}
    assert len(list(archive.root.glob("*.damaged-1"))) == 1
    assert read_losses(archive.root) == []
    again.writer.close()
    once_more = ArchiveFixture(folder)
    assert not once_more.writer._index.rebuild_reason
    once_more.writer.close()


@pytest.mark.parametrize("suffix", SQLITE_SUFFIXES)
def test_pipe_in_place_of_the_index_does_not_block(folder: Path, suffix: str) -> None:
    archive = ArchiveFixture(folder)
    archive.save(1, 2)
    archive.commit(2)
    archive.writer.close()
    path = archive.root / f"{INDEX_FILE}{suffix}"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert archive.indexed_seqs() == {1, 2}
    again = ArchiveFixture(folder)
    assert again.writer._index.rebuild_reason == f"{path.name} is no regular file"
    assert again.indexed_seqs() == {1, 2}
    again.writer.close()


def test_copied_sidecar_is_ignored(
    folder: Path,
) -> None:
    archive = ArchiveFixture(folder)
    archive.save(1, 2)
    archive.commit(2)
    archive.writer.close()
    (path,) = archive.root.glob("*/*/t.top.7.1.json")
    text = path.read_text()
    copies = [
        path.with_name("look at this.json"),
        path.with_name("u.top.7.1.json"),
        path.with_name("t.top.7.8.json"),
    ]
    copies[0].write_text(text)
    copies[1].write_text(text.replace('"line":"t"', '"line":"u"'))
    copies[2].mkdir()
    before = archive.writer.size_bytes
    again = ArchiveFixture(folder)
    assert [row.name for row in find_frames(again.root, FrameQuery())] == ["t.top.7.2", "t.top.7.1"]
    assert again.writer.size_bytes == before
    assert all(copy.exists() for copy in copies)
    again.writer.close()


def test_rebuilds_an_index_that_is_damaged_while_running(folder: Path) -> None:
    archive = ArchiveFixture(folder)
    archive.save(*range(200))
    archive.commit(200)
    problem = sqlite3.DatabaseError("database disk image is malformed")

    def fail(*_words: object) -> None:
        raise problem

    archive.writer._index.commit = fail  # type: ignore[assignment]
    archive.save(201)
    archive.writer.progress.record_loss(202, 0, "reject", LossReason.TOO_LATE)
    archive.commit(202)  # no error: it was rebuilt
    archive.commit()
    assert archive.indexed_seqs() == {*range(200), 201}
    assert sum(count for *_words, count in read_losses(archive.root)) == 1
    archive.writer.close()


# -- a disk that takes nothing --------------------------------------------------------------


def test_failed_write_leaves_no_file_and_is_retried(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = ArchiveFixture(folder)
    waiting = WriteQueue(1 << 20, archive.config.shares.quota_of)
    for frame in (pending_frame(1), pending_frame(2, ArchiveCategory.NEAR)):
        archive.writer.progress.mark_pending(frame.key)
        waiting.put(frame)
    archive.writer.progress.advance(2)
    real = files.write_atomic

    def full(path: Path, data: bytes, *, suffix: str) -> None:
        if path.suffix == ".json":
            raise OSError(28, "No space left on device")
        real(path, data, suffix=suffix)

    monkeypatch.setattr(files, "write_atomic", full)
    for _ in range(3):
        assert not archive.writer.write_next(waiting, 0)
    assert "No space left" in archive.writer.problem
    assert len(waiting) == 2
    assert not [path for path in archive.root.glob("*/*/*") if path.is_file()]
    monkeypatch.undo()
    assert archive.writer.write_next(waiting, 0)
    assert not archive.writer.problem
    assert archive.writer.write_next(waiting, 0)
    archive.commit()
    assert archive.saved_seqs() == archive.indexed_seqs() == {1, 2}
    assert archive.writer.stored_cursor == 2
    archive.writer.close()


def test_failed_commit_loses_no_entry(folder: Path) -> None:
    archive = ArchiveFixture(folder)
    archive.save(1)
    archive.commit(1)
    base = archive.writer._index._db
    base.execute("PRAGMA max_page_count = 1")  # no more pages than there are
    archive.save(*range(2, 200))
    archive.writer.progress.record_loss(200, 0, "reject", LossReason.EVICTED)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"index cannot be written: .*full"):
            archive.commit(200)
    archive.save(201)
    base.rollback()
    base.execute("PRAGMA max_page_count = 100000")
    archive.commit(201)
    assert archive.indexed_seqs() == archive.saved_seqs() == {*range(1, 200), 201}
    assert archive.writer.stored_cursor == 201
    assert sum(count for *_words, count in read_losses(archive.root)) == 1
    archive.writer.close()


def test_keeps_the_minimum_free_space(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = ArchiveFixture(folder)
    archive.writer._config = msgspec.structs.replace(archive.config, min_free_mib=10)
    free = 9 << 20
    monkeypatch.setattr(writer.files, "free_disk_bytes", lambda root: free)
    with pytest.raises(StorageError, match="8 MiB free, not 10"):
        archive.save(1)
    free = 11 << 20
    archive.save(1)
    archive.writer.close()


def test_failed_write_removes_the_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "x.png", b"data", suffix=".part")
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.png"]


# -- whose it is ----------------------------------------------------------------------------


def test_refuses_a_second_process_and_another_line(folder: Path) -> None:
    archive = ArchiveFixture(folder)
    with pytest.raises(DeviceLostError, match="another process"):
        ArchiveFixture(folder)
    archive.writer.close()
    with pytest.raises(DataError, match="of the line t, not of u"):
        ArchiveWriter(config(folder, line="u"), ManualClock())


def test_file_system_without_locks_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(_handle: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DeviceLostError, match="No locks available"):
        ArchiveFixture(folder)


def test_refuses_a_folder_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "archive.json").write_text('{"schema": "other"}')
    with pytest.raises(DataError, match="another format"):
        ArchiveFixture(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeviceLostError, match="cannot be used"):
        ArchiveWriter(config(tmp_path / "file"), ManualClock())


def test_integrity_check_finds_a_changed_image(folder: Path) -> None:
    archive = ArchiveFixture(folder)
    archive.save(1, 2, 3)
    archive.commit(3)
    archive.save(4)
    path, sidecar = find_frame(archive.root, "2")
    image = path.with_name(sidecar.picture.file)
    data = bytearray(image.read_bytes())
    data[-20] ^= 1
    image.write_bytes(bytes(data))
    found = check_integrity(archive.root)
    assert (found.frames, found.unindexed) == (3, 1)
    assert [Path(each).stem for each in found.broken] == ["t.top.7.2"]
    archive.writer.close()
    (archive.root / INDEX_FILE).unlink()
    assert {
        row.seq for row in find_frames(archive.root, FrameQuery(kinds=(ArchiveCategory.REJECT,)))
    } == {
        1,
        2,
        3,
        4,
    }


def test_empty_progress_is_stored_as_empty(folder: Path) -> None:
    archive = ArchiveFixture(folder)
    archive.commit()
    assert archive.writer.stored_cursor is None
    assert ArchiveProgress(None).take_committable() == (None, Counter())
    archive.writer.close()
    again = ArchiveFixture(folder)
    assert again.writer.stored_cursor is None
    again.writer.close()
