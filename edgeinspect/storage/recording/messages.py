"""The messages of a recording: one type per topic of the MCAP file.

Frames are MessagePack, because of their pixels; all others are JSON. Both contain the names of
their fields, so that a recording can be read in any language without this program.
Source: docs/explanation/decisions/0014-recordings.md, docs/howto/replay.md
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edgeinspect.domain import Int64, ModelRef

RECORDING_SCHEMA = "edgeinspect.recording/1"
MCAP_PROFILE = "edgeinspect"
RECORDING_SUFFIX = ".mcap"

TOPIC_INFO = "about"
TOPIC_CONFIGURATION = "configuration"
TOPIC_CLOCK = "clock"
TOPIC_MISSED = "missed"
TOPIC_FRAME = "frame"
"""`frame.<camera>`."""
TOPIC_END = "end"

Side = Annotated[int, Meta(ge=1, le=65_536)]
Seq = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


class RecordingInfo(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=RECORDING_SCHEMA
):
    """The first message of every file."""

    line: str
    edgeinspect: str
    """Version that made the recording."""
    began_utc_ns: Int64
    machine: dict[str, str]
    """Processor, system, and versions of the libraries that inspect."""


class RecordedConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that verdicts of this recording name."""

    hash: str
    text: str
    """All of it with every default; `config.loader.parse` reads it."""
    gate: ModelRef | None = None
    """The model that its name referred to when the recording began."""
    segmenter: ModelRef | None = None
    unknown: ModelRef | None = None


class ClockReading(msgspec.Struct, frozen=True, kw_only=True):
    """Both clocks at one moment; their difference changes when the wall clock is set."""

    mono_ns: Int64
    utc_ns: Int64


class MissedVerdicts(msgspec.Struct, frozen=True, kw_only=True):
    """Verdicts that were overwritten in the spool before the recorder read them."""

    from_seq: Seq
    to_seq: Seq


class FrameRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One frame with its verdict."""

    verdict: bytes
    """The verdict's JSON exactly as it was published, with part id, encoder count, the camera's
    count, clock source, models, configuration and times."""
    dims: tuple[Side, Side, Annotated[int, Meta(ge=1, le=4)]] | None = None
    """(height, width, channels) as the camera delivered them; None without an image."""
    packing: str = ""
    """How `pixels` is packed; see `pixel_codec`."""
    pixels: bytes = b""
    why_not: str = ""
    """Why there is no image."""


class RecordingEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last message of a file that was finished; without it the file is truncated."""

    why: str
    frames: Int64
    without_picture: Int64
    """Frames whose image existed and could not be copied."""
    missed: Int64
