"""A recording file: it is read back, and a truncated file is distinguished from a damaged one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import needs

needs.library("mcap")

from edgeinspect.domain.verdict import Decision, Reason, Verdict
from edgeinspect.errors import DataError, OutputError
from edgeinspect.storage.recording.mcap_reader import MAGIC
from edgeinspect.storage.recording.messages import (
    ClockReading,
    FrameRecord,
    MissedVerdicts,
    RecordedConfiguration,
    RecordingEnd,
    RecordingInfo,
)
from edgeinspect.storage.recording.pixel_codec import LEFT_ZSTD, PixelPacker
from edgeinspect.storage.recording.reader import RecordedFrame, RecordingItem, open_recording
from edgeinspect.storage.recording.writer import RecordingWriter
from edgeinspect.wire.messages import encode_message

ABOUT = RecordingInfo(line="strip", edgeinspect="1", began_utc_ns=5, machine={"processor": "x"})
CONFIGURATION = RecordedConfiguration(hash="abc", text="{}")


def verdict(seq: int, epoch: int = 7) -> Verdict:
    return Verdict(
        line="strip",
        camera="top",
        epoch=epoch,
        seq=seq,
        frame=seq,
        camera_frame_id=seq,
        captured_at_utc_ns=10**18 + seq,
        deadline_utc_ns=10**18,
        act_by_utc_ns=10**18,
        decision=Decision.PASS,
        reason=Reason.CLEAN,
        config_hash="abc",
        budget_us=1000,
    )


def pixels(seq: int) -> np.ndarray:
    return np.random.default_rng(seq).integers(0, 256, (8, 16, 1), np.uint8)


def record(seq: int, epoch: int = 7) -> FrameRecord:
    packed = PixelPacker().pack(pixels(seq))
    return FrameRecord(
        verdict=encode_message(verdict(seq, epoch)),
        dims=(8, 16, 1),
        packing=LEFT_ZSTD,
        pixels=packed,
    )


def write(path: Path, seqs: range, *, end: bool = True, epoch: int = 7) -> None:
    writer = RecordingWriter(path, ABOUT)
    writer.write_configuration(CONFIGURATION, 6)
    for seq in seqs:
        writer.write_clock(ClockReading(mono_ns=seq, utc_ns=seq))
        writer.write_frame(record(seq, epoch), "top", seq, 10 + seq)
        writer.flush()
    if end:
        writer.finish(RecordingEnd(why="full", frames=len(seqs), without_picture=0, missed=0), 99)
    else:
        writer.close_unfinished()


def read(path: Path) -> tuple[list[RecordingItem], list[str]]:
    recording = open_recording(path)
    items = list(recording.items())
    return items, [how for _path, how in recording.truncations]


def frames(items: list[RecordingItem]) -> list[int]:
    return [item.verdict.seq for item in items if isinstance(item, RecordedFrame)]


def test_a_recording_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    writer = RecordingWriter(path, ABOUT)
    writer.write_configuration(CONFIGURATION, 6)
    writer.write_missed(MissedVerdicts(from_seq=1, to_seq=3), 7)
    writer.write_frame(record(4), "top", 4, 8)
    writer.write_frame(
        FrameRecord(verdict=encode_message(verdict(5)), why_not="none came"), "top", 5, 9
    )
    end = RecordingEnd(why="stopped", frames=2, without_picture=1, missed=3)
    writer.finish(end, 10)
    items, truncations = read(path)
    assert truncations == []
    assert [items[0], items[1], items[2], items[-1]] == [
        ABOUT,
        CONFIGURATION,
        MissedVerdicts(from_seq=1, to_seq=3),
        end,
    ]
    first, second = items[3:5]
    assert isinstance(first, RecordedFrame)
    assert isinstance(second, RecordedFrame)
    assert first.verdict == verdict(4)
    got = first.pixels()
    assert got is not None
    assert np.array_equal(got, pixels(4))
    assert second.pixels() is None
    assert second.record.why_not == "none came"


def test_the_library_mcap_reads_a_recording(tmp_path: Path) -> None:
    from mcap.reader import make_reader

    write(tmp_path / "a.mcap", range(1, 6))
    with (tmp_path / "a.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        found = [
            (channel.topic, message.sequence) for _, channel, message in reader.iter_messages()
        ]
        summary = reader.get_summary()
    assert [seq for topic, seq in found if topic == "frame.top"] == [1, 2, 3, 4, 5]
    assert summary is not None
    assert summary.statistics is not None
    assert summary.statistics.message_count == 13


@pytest.mark.slow
def test_a_file_truncated_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mcap"
    write(whole, range(1, 4), end=False)
    data = whole.read_bytes()
    assert frames(read(whole)[0]) == [1, 2, 3]
    seen = set()
    truncated = tmp_path / "cut.mcap"
    for size in range(0, len(data), 3):
        truncated.write_bytes(data[:size])
        items, truncations = read(truncated)
        assert frames(items) == list(range(1, len(frames(items)) + 1))
        assert len(truncations) == 1
        seen.add(len(frames(items)))
        if size % 15 == 0:  # as a power cut may leave it
            truncated.write_bytes(data[:size] + bytes(5000))
            assert frames(read(truncated)[0]) == frames(items)
    assert seen == {0, 1, 2, 3}


def test_a_finished_file_that_breaks_off_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    write(path, range(1, 4))
    data = path.read_bytes()
    path.write_bytes(data[:600] + data[-8:])
    with pytest.raises(DataError, match="damaged"):
        read(path)


@pytest.mark.parametrize("flip", [1, 9, 255])
def test_a_chunk_that_becomes_another_record_is_missed(tmp_path: Path, flip: int) -> None:
    """A record's type has no checksum; 6 ^ 9 is the end of the data."""
    path = tmp_path / "a.mcap"
    write(path, range(1, 4))
    data = bytearray(path.read_bytes())
    at, chunks = len(MAGIC), []
    while data[at] != 15:
        chunks += [at] if data[at] == 6 else []
        at += 9 + struct.unpack_from("<Q", data, at + 1)[0]
    data[chunks[-1]] ^= flip
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged: \d of its \d chunks"):
        read(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_changed_byte_never_changes_a_frame(tmp_path: Path, place: int, flip: int) -> None:
    path = tmp_path / "a.mcap"
    if not (tmp_path / "whole").exists():
        write(tmp_path / "whole", range(1, 4))
    data = bytearray((tmp_path / "whole").read_bytes())
    data[place % len(data)] ^= flip
    path.write_bytes(data)
    try:
        items, _truncations = read(path)
        for number, item in enumerate(each for each in items if isinstance(each, RecordedFrame)):
            assert item.verdict == verdict(number + 1)
            got = item.pixels()
            assert got is not None
            assert np.array_equal(got, pixels(number + 1))
    except DataError as error:
        assert str(path) in str(error)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.booleans())
def test_any_other_file_is_refused_or_empty(tmp_path: Path, data: bytes, with_magic: bool) -> None:
    path = tmp_path / "any.mcap"
    path.write_bytes((b"\x89MCAP0\r\n" if with_magic else b"") + data)
    try:
        assert frames(read(path)[0]) == []
    except DataError as error:
        assert str(path) in str(error)


def chunk(records: bytes, size: int | None = None, compression: bytes = b"") -> bytes:
    import zlib

    head = struct.pack("<QQQI", 0, 0, len(records) if size is None else size, zlib.crc32(records))
    body = head + struct.pack("<I", len(compression)) + compression
    body += struct.pack("<Q", len(records)) + records
    return struct.pack("<BQ", 6, len(body)) + body


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (struct.pack("<BQ", 5, 1 << 60), "longer than its chunk"),
        (struct.pack("<BQ", 5, 4) + b"\1\0\0\0", "cannot be read"),
        (struct.pack("<BQHIQQ", 5, 22, 9, 0, 0, 0), "cannot be read"),
        (struct.pack("<BQHHI", 4, 8, 1, 0, 1 << 31), "cannot be read"),
        (b"\5\0", "ends within a record"),
    ],
)
def test_invalid_records_in_a_chunk_are_refused(tmp_path: Path, inside: bytes, words: str) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(b"\x89MCAP0\r\n" + chunk(inside) + struct.pack("<BQ", 15, 4) + bytes(4))
    with pytest.raises(DataError, match=words):
        read(path)


def test_a_chunk_that_claims_too_much_allocates_no_memory(tmp_path: Path) -> None:
    import zstandard

    path = tmp_path / "a.mcap"
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    for size, compression in ((1 << 50, b"zstd"), (100, b"zstd"), (100, b"lz4")):
        path.write_bytes(b"\x89MCAP0\r\n" + chunk(bomb, size, compression) + b"\x0f" + bytes(12))
        with pytest.raises(DataError):
            read(path)


def test_another_mcap_file_is_not_a_recording(tmp_path: Path) -> None:
    from mcap.writer import Writer

    with (tmp_path / "a.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start()
        channel = writer.register_channel("/imu", "json", 0)
        writer.add_message(channel, 1, b"{}", 1)
        writer.finish()
    with pytest.raises(DataError, match="no recording of edgeinspect"):
        read(tmp_path / "a.mcap")


def test_a_folder_is_read_in_order_and_has_one_line(tmp_path: Path) -> None:
    write(tmp_path / "strip-1.mcap", range(1, 3))
    write(tmp_path / "strip-2.mcap", range(3, 5), end=False)
    items, truncations = read(tmp_path)
    assert frames(items) == [1, 2, 3, 4]
    assert len(truncations) == 1
    write(tmp_path / "strip-3.mcap", range(2, 4))
    with pytest.raises(DataError, match="after frame"):
        read(tmp_path)
    (tmp_path / "strip-3.mcap").unlink()
    write(tmp_path / "strip-3.mcap", range(1, 3), epoch=8)  # the line restarts its seqs
    assert frames(read(tmp_path)[0]) == [1, 2, 3, 4, 1, 2]


def test_nothing_is_overwritten_and_a_full_disk_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.mcap", range(1, 2))
    with pytest.raises(OutputError, match="exists already"):
        RecordingWriter(tmp_path / "a.mcap", ABOUT)
    with pytest.raises(DataError, match="there is no such"):
        open_recording(tmp_path / "b.mcap")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no recording"):
        open_recording(tmp_path / "empty")
    full = Path("/dev/full")
    if full.exists():
        writer = RecordingWriter(tmp_path / "full.mcap", ABOUT)
        import os

        os.dup2(os.open(full, os.O_WRONLY), writer._file._file)
        with pytest.raises(OutputError, match="No space"):
            writer.flush()
        writer.close_unfinished()
