"""The size limit of a recording: a full file, a folder that removes its oldest files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import needs

needs.library("mcap")

from edgeinspect.services.recorder.file_rotation import RotatingWriter, record_size_bytes
from edgeinspect.storage.recording.messages import (
    FrameRecord,
    MissedVerdicts,
    RecordedConfiguration,
    RecordingEnd,
    RecordingInfo,
)
from edgeinspect.storage.recording.reader import RecordedFrame, open_recording
from edgeinspect.wire.messages import encode_message
from tests.unit.services.recorder.test_verdict_reader import verdict

MIB = 1 << 20


def about() -> RecordingInfo:
    return RecordingInfo(line="a", edgeinspect="1", began_utc_ns=1, machine={})


def record(seq: int) -> FrameRecord:
    return FrameRecord(verdict=encode_message(verdict(seq)), dims=(1, 1, 1), pixels=bytes(200_000))


def fill(writer: RotatingWriter, seqs: range) -> int:
    """Write frames until the recording is full; return how many fit."""
    for count, seq in enumerate(seqs):
        if not writer.has_room_for(record_size_bytes(record(seq)), seq):
            return count
        writer.write_frame(record(seq), "top", seq, seq)
    return len(seqs)


def seqs_in(path: Path) -> list[int]:
    return [
        item.verdict.seq for item in open_recording(path).items() if isinstance(item, RecordedFrame)
    ]


def test_stops_at_the_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    writer = RotatingWriter(path, "a", 16 * MIB, about)
    writer.open_first_file(1)
    written = fill(writer, range(1, 200))
    writer.write_missed(MissedVerdicts(from_seq=500, to_seq=501), 2)
    writer.finish("full", 3)
    assert 70 < written < 79
    assert path.stat().st_size <= 16 * MIB
    assert seqs_in(path) == list(range(1, written + 1))
    last = list(open_recording(path).items())[-1]
    assert last == RecordingEnd(why="full", frames=written, without_picture=0, missed=2)


def test_folder_removes_its_oldest_files(tmp_path: Path) -> None:
    other = tmp_path / "b-20260101T000000.000000000Z.mcap"
    other.write_bytes(b"another line's")
    writer = RotatingWriter(tmp_path, "a", 32 * MIB, about)
    writer.open_first_file(1)
    writer.write_configuration(RecordedConfiguration(hash="h", text="{}"), 1)
    assert fill(writer, range(1, 400)) == 399
    writer.finish("stopped", 10**18)
    other.unlink()
    files = sorted(tmp_path.glob("*.mcap"))
    assert len(files) >= 5
    assert sum(path.stat().st_size for path in files) <= 32 * MIB
    seqs = seqs_in(tmp_path)
    assert seqs == list(range(seqs[0], 400))
    assert seqs[0] > 200
    for path in files:  # each can be read alone
        items = list(open_recording(path).items())
        assert items[1] == RecordedConfiguration(hash="h", text="{}")
        assert isinstance(items[-1], RecordingEnd)


@pytest.mark.parametrize("later_utc_ns", [1, 4 * 10**18])
def test_removes_the_oldest_file_after_a_clock_change(tmp_path: Path, later_utc_ns: int) -> None:
    """Recordings with a correct clock, one in 1970 or far ahead, and a corrected one."""
    for turn, utc_ns in enumerate((18 * 10**17, later_utc_ns, 18 * 10**17 + 999_999_999)):
        writer = RotatingWriter(tmp_path, "a", 32 * MIB, about)
        writer.open_first_file(utc_ns)
        for seq in range(turn * 100, turn * 100 + 90):
            assert writer.has_room_for(record_size_bytes(record(seq)), utc_ns)
            writer.write_frame(record(seq), "top", seq, utc_ns)
        writer.finish("stopped", utc_ns)
    seqs = seqs_in(tmp_path)
    remaining = [*range(90), *range(100, 190), *range(200, 290)]
    assert seqs == remaining[-len(seqs) :]
    assert 100 < len(seqs) < 200


def test_ignores_files_of_a_line_with_the_same_prefix(tmp_path: Path) -> None:
    other = tmp_path / "a-2-20200101T000000.000000000Z.mcap"
    other.write_bytes(bytes(MIB))
    writer = RotatingWriter(tmp_path, "a", 32 * MIB, about)
    writer.open_first_file(1)
    assert fill(writer, range(1, 400)) == 399
    writer.finish("stopped", 10**18)
    assert other.exists()


def test_removes_a_file_that_failed_before_its_first_frame(tmp_path: Path) -> None:
    for name, frames in (("none.mcap", 0), ("one.mcap", 1)):
        writer = RotatingWriter(tmp_path / name, "a", 16 * MIB, about)
        writer.open_first_file(1)
        fill(writer, range(1, 1 + frames))
        writer.finish("failed", 2)
        assert (tmp_path / name).exists() == bool(frames)
