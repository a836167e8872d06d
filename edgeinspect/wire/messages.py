"""The published messages: topics, bodies and their encoding.

Multipart: topic, JSON body, and for a live verdict, if masks are published, the mask.
Source: docs/reference/wire.md, docs/explanation/decisions/0004-order-on-the-wire.md
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from edgeinspect.domain import (
    CameraCounts,
    Count,
    Decision,
    DurationUs,
    ImageSidePx,
    Int64,
    PartVerdict,
    UtcNs,
    Verdict,
)
from edgeinspect.system import Decoder, json_decoder

HEARTBEAT_SCHEMA = "edgeinspect.heartbeat/1"
STATUS_SCHEMA = "edgeinspect.status/1"
MASK_SCHEMA = "edgeinspect.mask/1"

VERDICT_TOPIC = "verdict"
HEARTBEAT_TOPIC = "heartbeat"
STATUS_TOPIC = "status"
PART_TOPIC = "part"


class Heartbeat(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=HEARTBEAT_SCHEMA
):
    """Sent every few ms, with or without verdicts: silence means that nothing is inspected."""

    line: str
    epoch: Count
    last_seq: Count
    """Last verdict sent; a subscriber that has not received it has missed the latest ones."""
    beat: Count
    """Counts heartbeats of this epoch."""
    utc_ns: UtcNs
    period_ms: float
    inspecting: bool
    """True while every camera delivers and engines answer."""
    alarm: str = ""
    """The active alarm as text; empty for none."""
    clock_stepped: bool = False
    """True while the daemon's wall clock is not reliable, because it was set recently. Replayed
    verdicts from before the step have timestamps of another clock."""
    spool: str = ""
    """The line's spool on its own PC, by which a client there verifies that the line is the
    sender. Empty if it is not published."""


class VerdictCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The line's counters since the start of the epoch, of closed and open frames."""

    captured: Count
    passed: Count
    reject: Count
    no_verdict: Count
    open: Count
    late: Count
    degraded: Count
    reasons: dict[str, Int64]
    """NO_VERDICT by reason."""
    review: Count | UnsetType = UNSET
    """Passes that the good-parts model marked for review; absent on a line without one."""
    unknown_not_asked: Count | UnsetType = UNSET
    """Frames for which there was no time to ask the good-parts model; absent as `review`."""


class Status(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=STATUS_SCHEMA):
    """The summary that is published once a second."""

    line: str
    epoch: Count
    utc_ns: UtcNs
    counts: VerdictCounts
    rate_hz: float
    latency_p50_us: DurationUs
    latency_p99_us: DurationUs
    budget_us: DurationUs
    cameras: dict[str, str]
    """Camera name to its state: `live`, `lost`, `finished`."""
    camera_counts: dict[str, CameraCounts] = {}
    """Camera name to its counters since the start of the epoch."""
    gate: str | None = None
    segmenter: str | None = None
    unknown: str | UnsetType = UNSET
    """The good-parts model; absent on a line without one."""
    pretrained: dict[str, str] | UnsetType = UNSET
    """Engine to the pretrained weights that its training started from, as `NAME SHA256`; absent
    if no manifest names any."""
    config_hash: str = ""
    alarm: str = ""


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """How far each cell of 16 x 16 px of a frame is from good parts."""

    height: ImageSidePx
    width: ImageSidePx
    """Size in cells; the last row and column may reach beyond the frame."""
    levels: bytes
    """`height` rows of `width` bytes, in base64: 0 to 255, 128 at the model's own threshold."""
    reject_level: Int64 = 128
    """The level of the line's `reject_at`."""


class Mask(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=MASK_SCHEMA):
    """A class map as run lengths: column-major, 1-indexed `start, length` pairs."""

    seq: Count
    height_px: ImageSidePx
    width_px: ImageSidePx
    """Size of the class map, not of the frame."""
    stride: Int64
    """Frame pixels per class-map pixel."""
    runs: dict[Int64, list[Int64]]
    """Class id to runs."""
    heat: HeatMap | UnsetType = UNSET
    """Of a good-parts model, how far each cell is from good parts; absent without one."""


WireMessage = Verdict | Heartbeat | Status | PartVerdict

_encoder = msgspec.json.Encoder()
_message_decoder: Decoder[WireMessage] = json_decoder(WireMessage)
_verdict_decoder: Decoder[Verdict] = json_decoder(Verdict)
_mask_decoder: Decoder[Mask] = json_decoder(Mask)


def encode_message(message: WireMessage | Mask) -> bytes:
    """Return the JSON body of a message. Thread-safe."""
    return _encoder.encode(message)


def decode_message(body: bytes | memoryview) -> WireMessage:
    """Decode a message from its JSON body.

    Raises:
        msgspec.ValidationError: The body is of another schema or violates it.
        msgspec.DecodeError: The body is not JSON, or nested too deeply.
    """
    return _message_decoder(body)


def decode_verdict(body: bytes | memoryview) -> Verdict:
    """Decode a verdict from its JSON body; raises as `decode_message`."""
    return _verdict_decoder(body)


def decode_mask(body: bytes | memoryview) -> Mask:
    """Decode a mask from its JSON body; raises as `decode_message`."""
    return _mask_decoder(body)


def verdict_topic(line: str, camera: str, decision: Decision) -> bytes:
    """`verdict.<line>.<camera>.<pass|reject|no_verdict>`."""
    return f"{VERDICT_TOPIC}.{line}.{camera}.{decision.value.lower()}".encode()


def heartbeat_topic(line: str) -> bytes:
    """`heartbeat.<line>`."""
    return f"{HEARTBEAT_TOPIC}.{line}".encode()


def status_topic(line: str) -> bytes:
    """`status.<line>`."""
    return f"{STATUS_TOPIC}.{line}".encode()


def part_topic(line: str, decision: Decision) -> bytes:
    """`part.<line>.<pass|reject|no_verdict>`."""
    return f"{PART_TOPIC}.{line}.{decision.value.lower()}".encode()
