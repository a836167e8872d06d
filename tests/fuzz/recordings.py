"""Targets: a recording, which may come from anywhere; needs the extra record."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np

from edgeinspect.storage.recording.messages import (
    About,
    ClockReading,
    Configuration,
    End,
    FrameRecord,
)
from edgeinspect.storage.recording.pixel_codec import LEFT_ZSTD, Packer, unpack
from edgeinspect.storage.recording.reader import RecordedFrame, open_recording
from edgeinspect.storage.recording.writer import RecordingWriter
from edgeinspect.wire.messages import decode_verdict, encode
from tests.fuzz.messages import VERDICTS
from tests.fuzz.target import Target

_PIXELS = np.random.default_rng(3).integers(0, 256, (8, 16, 1), np.uint8)


def _recording() -> bytes:
    first = decode_verdict(VERDICTS[0])
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.mcap"
        writer = RecordingWriter(
            path, About(line="strip", edgeinspect="1", began_utc_ns=5, machine={})
        )
        writer.configuration(Configuration(hash="abc", text="{}"), 6)
        for seq in range(3):
            writer.clock(ClockReading(mono_ns=seq, utc_ns=seq))
            verdict = encode(msgspec.structs.replace(first, seq=first.seq + seq))
            record = FrameRecord(
                verdict=verdict, dims=(8, 16, 1), packing=LEFT_ZSTD, pixels=Packer().pack(_PIXELS)
            )
            writer.frame(record, "top", seq, 10 + seq)
            writer.flush()
        writer.finish(End(why="stopped", frames=3, without_picture=0, missed=0), 99)
        return path.read_bytes()


def recording(data: bytes, folder: Path) -> None:
    path = folder / "a.mcap"
    path.write_bytes(data)
    for item in open_recording(path).items():
        if isinstance(item, RecordedFrame):
            item.pixels()


def pixels(data: bytes, _folder: Path) -> None:
    unpack(LEFT_ZSTD, data, (8, 16, 1))


TARGETS = [
    Target("file: recording", recording, [_recording()]),
    Target("pixels of a recording", pixels, [Packer().pack(_PIXELS)]),
]
