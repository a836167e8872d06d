"""Targets: a recording from an untrusted source; needs the extra record."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np

from edgeinspect.storage.recording.messages import (
    ClockReading,
    FrameRecord,
    RecordedConfiguration,
    RecordingEnd,
    RecordingInfo,
)
from edgeinspect.storage.recording.pixel_codec import LEFT_ZSTD, PixelPacker, unpack_pixels
from edgeinspect.storage.recording.reader import RecordedFrame, open_recording
from edgeinspect.storage.recording.writer import RecordingWriter
from edgeinspect.wire.messages import decode_verdict, encode_message
from tests.fuzz.messages import VERDICTS
from tests.fuzz.target import Target

_PIXELS = np.random.default_rng(3).integers(0, 256, (8, 16, 1), np.uint8)


def _recording() -> bytes:
    first = decode_verdict(VERDICTS[0])
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.mcap"
        writer = RecordingWriter(
            path, RecordingInfo(line="strip", edgeinspect="1", began_utc_ns=5, machine={})
        )
        writer.write_configuration(RecordedConfiguration(hash="abc", text="{}"), 6)
        for seq in range(3):
            writer.write_clock(ClockReading(mono_ns=seq, utc_ns=seq))
            verdict = encode_message(msgspec.structs.replace(first, seq=first.seq + seq))
            record = FrameRecord(
                verdict=verdict,
                dims=(8, 16, 1),
                packing=LEFT_ZSTD,
                pixels=PixelPacker().pack(_PIXELS),
            )
            writer.write_frame(record, "top", seq, 10 + seq)
            writer.flush()
        writer.finish(RecordingEnd(why="stopped", frames=3, without_picture=0, missed=0), 99)
        return path.read_bytes()


def recording(data: bytes, folder: Path) -> None:
    path = folder / "a.mcap"
    path.write_bytes(data)
    for item in open_recording(path).items():
        if isinstance(item, RecordedFrame):
            item.pixels()


def pixels(data: bytes, _folder: Path) -> None:
    unpack_pixels(LEFT_ZSTD, data, (8, 16, 1))


TARGETS = [
    Target("file: recording", recording, [_recording()]),
    Target("pixels of a recording", pixels, [PixelPacker().pack(_PIXELS)]),
]
