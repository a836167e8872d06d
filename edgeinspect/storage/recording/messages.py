"""What a recording holds: one kind of message per topic of the MCAP file.

All are JSON but the frames, which are MessagePack for the sake of their pixels. Both say
their own keys, so a recording can be read in any language without this program.
Source: docs/decisions/0014-recordings.md, docs/replay.md
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edgeinspect.domain import Int64, ModelRef

SCHEMA = "edgeinspect.recording/1"
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


class RecordingInfo(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=SCHEMA):
    """The first message of every file."""

    line: str
    edgeinspect: str
    """Version that recorded."""
    began_utc_ns: Int64
    machine: dict[str, str]
    """Processor, system and the versions of the libraries that judge: "the same machine"."""


class RecordedConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that verdicts of this recording name."""

    hash: str
    text: str
    """The whole of it with every default written out; `config.load.parse` reads it."""
    gate: ModelRef | None = None
    """The model that its name stood for when the recording began."""
    segmenter: ModelRef | None = None


class ClockReading(msgspec.Struct, frozen=True, kw_only=True):
    """Both clocks at one moment; their distance moves when the wall clock is set."""

    mono_ns: Int64
    utc_ns: Int64


class MissedVerdicts(msgspec.Struct, frozen=True, kw_only=True):
    """Verdicts that were overwritten in the spool before the recorder came to them."""

    from_seq: Seq
    to_seq: Seq


class FrameRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One frame with the verdict that it was given."""

    verdict: bytes
    """The verdict's JSON, to the byte as it was published: part id, encoder count, the
    camera's count, clock source, models, configuration and times are in it."""
    dims: tuple[Side, Side, Annotated[int, Meta(ge=1, le=4)]] | None = None
    """(height, width, channels) as the camera delivered them; None without a picture."""
    packing: str = ""
    """How `pixels` was packed; see `pixels.py`."""
    pixels: bytes = b""
    why_not: str = ""
    """Why there is no picture."""


class RecordingEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last message of a file that was ended in order; without it the end was cut."""

    why: str
    frames: Int64
    without_picture: Int64
    """Frames whose picture could not be taken although there was one."""
    missed: Int64
