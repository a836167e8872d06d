"""Recordings of a line: their messages, and how they are written and read.

Source: docs/explanation/decisions/0014-recordings.md
"""

from edgeinspect.storage.recording.messages import (
    RECORDING_SUFFIX,
    ClockReading,
    FrameRecord,
    MissedVerdicts,
    RecordedConfiguration,
    RecordingEnd,
    RecordingInfo,
)
from edgeinspect.storage.recording.pixel_codec import LEFT_ZSTD, MAX_IMAGE_BYTES, PixelPacker
from edgeinspect.storage.recording.reader import RecordedFrame, Recording, open_recording
from edgeinspect.storage.recording.writer import RecordingWriter

__all__ = [
    # messages
    "RECORDING_SUFFIX",
    "ClockReading",
    "FrameRecord",
    "MissedVerdicts",
    "RecordedConfiguration",
    "RecordingEnd",
    "RecordingInfo",
    # pixel codec
    "LEFT_ZSTD",
    "MAX_IMAGE_BYTES",
    "PixelPacker",
    # reader
    "RecordedFrame",
    "Recording",
    "open_recording",
    # writer
    "RecordingWriter",
]
