"""The map: every bit, register and tag that a PLC sees or writes, for every protocol.

Two blocks of 16-bit words, big-endian inside a word, high word first: the gateway writes
`OUTPUT_TAGS`, the PLC writes `INPUT_TAGS`. Modbus has them as registers, S7 as bytes of a DB
(byte = 2 x word), OPC UA and MQTT as values of the same names. 32-bit values are on even
words. The result id is at both ends of its data, so that a partly updated block differs from
a complete one, whatever the PLC's cycle. Without a result the id at the end is 0: otherwise
the head of a result, followed by the tail of the next block in which only its id is left,
would be taken without its part. Text is UTF-8, two bytes a word, padded with zero bytes. A
part id is never truncated: one that does not fit is left out, and its part does not pass.

Moving a value is a breaking change: raise `MAP_VERSION` and note it in the changelog. A test
keeps the tables in docs/reference/plc.md equal to these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from edgeinspect.domain import (
    CAUSE_NOT_PASSED_BEFORE,
    CAUSE_TRIGGER_REFUSED,
    PlcResult,
    ProcessImage,
    TriggerRefusal,
)

MAP_VERSION = 1

TagType = Literal["bits", "uint16", "uint32", "int32", "text"]
TagValue = bool | int | str
_WORDS_PER_TYPE = {"bits": 1, "uint16": 1, "uint32": 2, "int32": 2}


@dataclass(frozen=True, slots=True)
class MapBit:
    """One bit of a word."""

    name: str
    bit: int
    """From 0, the least significant."""
    description: str
    """Meaning of 1."""
    get: Callable[[ProcessImage], bool] | None = None


@dataclass(frozen=True, slots=True)
class MapTag:
    """One value."""

    name: str
    word: int
    """Offset in its block, in 16-bit words."""
    type: TagType
    description: str
    """Meaning, with the unit."""
    get: Callable[[ProcessImage], TagValue] | None = None
    length_bytes: int = 0
    """Size of a text."""

    @property
    def word_count(self) -> int:
        """Size in words."""
        return self.length_bytes // 2 if self.type == "text" else _WORDS_PER_TYPE[self.type]


def _from_result(
    get: Callable[[PlcResult], Any], default: TagValue = 0
) -> Callable[[ProcessImage], Any]:
    return lambda image: default if image.result is None else get(image.result)


_NO = False
STATUS_BITS: tuple[MapBit, ...] = (
    MapBit("Online", 0, "The line is online. 0: reject everything.", lambda i: i.online),
    MapBit(
        "TriggerReady",
        1,
        "Parts are inspected, and a trigger would be accepted.",
        lambda i: i.trigger_ready,
    ),
    MapBit(
        "ResultsValid",
        2,
        "ResultId and all values of the result are valid.",
        lambda i: i.results_valid,
    ),
    MapBit("Pass", 3, "The part is good. Never 1 without ResultsValid.", lambda i: i.passed),
    MapBit(
        "Reject", 4, "The part must be ejected. Never 1 together with Pass.", lambda i: i.rejected
    ),
    MapBit(
        "NoVerdict",
        5,
        "The frame has no verdict; Cause is the reason. Never with Pass.",
        _from_result(lambda r: r.no_verdict, _NO),
    ),
    MapBit(
        "RejectAll",
        6,
        "Fail-safe: eject every part. Always the opposite of Online.",
        lambda i: i.reject_all,
    ),
    MapBit(
        "Overrun", 7, "The result buffer was full. Stays until FaultReset.", lambda i: i.overrun
    ),
    MapBit("Alarm", 8, "An operator must check the inspection PC.", lambda i: i.alarm),
    MapBit(
        "Late",
        9,
        "Shown after its act-by, therefore a reject.",
        _from_result(lambda r: r.late, _NO),
    ),
    MapBit(
        "Degraded",
        10,
        "Inspected by the classifier alone, for lack of time.",
        _from_result(lambda r: r.degraded, _NO),
    ),
    MapBit(
        "Simulated",
        11,
        "A challenge part that an engineer inserted.",
        _from_result(lambda r: r.simulated, _NO),
    ),
    MapBit("Heartbeat", 12, "Toggles while the gateway runs: monitor it.", lambda i: i.heartbeat),
    MapBit(
        "EncoderValid",
        13,
        "EncoderCount was given by the trigger.",
        _from_result(lambda r: r.encoder_count is not None, _NO),
    ),
    MapBit(
        "ActByEncoderValid",
        14,
        "ActByEncoder is known.",
        _from_result(lambda r: r.act_by_encoder is not None, _NO),
    ),
    MapBit(
        "TriggerRefused",
        15,
        "The trigger in TriggerAck was refused.",
        lambda i: i.trigger_refused,
    ),
)

STATUS2_BITS: tuple[MapBit, ...] = (
    MapBit(
        "PartIdUnfit",
        0,
        "The part has an id that does not fit into PartId, which is empty: a reject.",
        _from_result(lambda r: r.part_id_unfit, _NO),
    ),
    MapBit(
        "NotPassedBefore",
        1,
        "It was a pass, but this part id has been shown as not passed, or "
        "its trigger as refused: a reject.",
        _from_result(lambda r: r.cause in (CAUSE_NOT_PASSED_BEFORE, CAUSE_TRIGGER_REFUSED), _NO),
    ),
    MapBit(
        "TriggerStale",
        2,
        "TriggerRefused, because the trigger may be too old.",
        lambda i: i.trigger_refusal is TriggerRefusal.STALE,
    ),
    MapBit(
        "TriggerTorn",
        3,
        "TriggerRefused, because TriggerId and the part were not written together.",
        lambda i: i.trigger_refusal is TriggerRefusal.TORN,
    ),
    MapBit(
        "TriggerPartIdBad",
        4,
        "TriggerRefused, because TriggerPartId is not UTF-8, too long, or has control characters.",
        lambda i: i.trigger_refusal is TriggerRefusal.PART_ID,
    ),
)

OUTPUT_TAGS: tuple[MapTag, ...] = (
    MapTag(
        "ResultId",
        0,
        "uint32",
        "Number of the result: the frame's seq, low 32 bits. "
        "Without ResultsValid the last one applied.",
        lambda i: i.result_id,
    ),
    MapTag("Status", 2, "bits", "The bits of the next table.", lambda i: status_word(i)),
    MapTag(
        "ErrorCode",
        3,
        "uint16",
        "0, or why it is not ready; see the table of errors.",
        lambda i: int(i.error),
    ),
    MapTag(
        "Covers",
        4,
        "uint32",
        "Frames of this result, more than 1 for lost results: ResultId - Covers + 1 to ResultId.",
        _from_result(lambda r: r.frames_covered),
    ),
    MapTag(
        "Numbering",
        6,
        "uint16",
        "Changes when ResultId restarts from 1.",
        lambda i: i.sequence_generation,
    ),
    MapTag(
        "Cause",
        7,
        "uint16",
        "The reason; see the table of causes.",
        _from_result(lambda r: r.cause),
    ),
    MapTag(
        "RejectCode",
        8,
        "uint16",
        "The line's own code of the defect; 0 if there is none.",
        _from_result(lambda r: r.reject_code),
    ),
    MapTag(
        "Severity",
        9,
        "uint16",
        "1 to 9, of the worst defect; 0 if there is none.",
        _from_result(lambda r: r.severity),
    ),
    MapTag(
        "EncoderCount",
        10,
        "int32",
        "Encoder at the trigger, counts, low 32 bits.",
        _from_result(lambda r: r.encoder_count or 0),
    ),
    MapTag(
        "ActByEncoder",
        12,
        "int32",
        "Encoder at which the part reaches the ejector, counts, low 32 bits.",
        _from_result(lambda r: r.act_by_encoder or 0),
    ),
    MapTag(
        "ActByMs",
        14,
        "int32",
        "ms left to act, from when the result was first shown.",
        _from_result(lambda r: r.act_by_ms),
    ),
    MapTag(
        "ProcessingUs",
        16,
        "uint32",
        "µs from capture to decision.",
        _from_result(lambda r: r.processing_us),
    ),
    MapTag(
        "Buffered",
        18,
        "uint16",
        "Results waiting, including the current one.",
        lambda i: i.buffered,
    ),
    MapTag(
        "BufferFree",
        19,
        "uint16",
        "Results that fit before Overrun.",
        lambda i: i.buffer_free,
    ),
    MapTag(
        "ResultsTotal",
        20,
        "uint32",
        "Frames applied since the journal was created.",
        lambda i: i.results_total,
    ),
    MapTag(
        "LostTotal",
        22,
        "uint32",
        "Of these, frames whose verdict was lost (rejects).",
        lambda i: i.lost_total,
    ),
    MapTag(
        "ForcedTotal",
        24,
        "uint32",
        "Results that were not acknowledged in time.",
        lambda i: i.forced_total,
    ),
    MapTag(
        "SettingsChecksum",
        26,
        "uint32",
        "First 8 hex digits of the configuration's hash.",
        lambda i: i.settings_checksum,
    ),
    MapTag(
        "Epoch",
        28,
        "uint32",
        "Start of the daemon, low 32 bits of ms since 1970.",
        lambda i: i.epoch,
    ),
    MapTag("LinkLosses", 30, "uint16", "Times the gateway lost this PLC.", lambda i: i.link_losses),
    MapTag(
        "TriggerAck", 31, "uint16", "The last TriggerId that was answered.", lambda i: i.trigger_ack
    ),
    MapTag("MapVersion", 32, "uint16", f"{MAP_VERSION}: this table.", lambda i: MAP_VERSION),
    MapTag("Status2", 33, "bits", "More bits; see their table.", lambda i: status2_word(i)),
    MapTag(
        "PartId",
        34,
        "text",
        "The part's complete identifier, as in the trigger; empty if it does not fit.",
        _from_result(lambda r: r.part_id, ""),
        32,
    ),
    MapTag("Camera", 50, "text", "The camera's name.", _from_result(lambda r: r.camera, ""), 32),
    MapTag(
        "RecipeId",
        66,
        "text",
        "First 16 digits of the configuration's hash.",
        _from_result(lambda r: r.recipe_id[:16], ""),
        16,
    ),
    MapTag(
        "ResultIdCheck",
        74,
        "uint32",
        "ResultId again; 0 without ResultsValid. Take a result "
        "only while both are equal: a partly updated block is then never taken.",
        lambda i: i.result_id if i.results_valid else 0,
    ),
)

COMMAND_BITS: tuple[MapBit, ...] = (
    MapBit("Enable", 0, "The PLC requests inspection; used only with enable_required."),
    MapBit("FaultReset", 1, "0 to 1 clears Overrun and latched errors."),
)

INPUT_TAGS: tuple[MapTag, ...] = (
    MapTag("Command", 0, "bits", "The bits of the next table."),
    MapTag(
        "TriggerId",
        1,
        "uint16",
        "Change it to request one frame of the part below, in the "
        "same write. 0 requests nothing, except after 65535.",
    ),
    MapTag("ResultsAck", 2, "uint32", "The ResultId that has been taken."),
    MapTag("TriggerEncoder", 4, "int32", "Encoder at the trigger, counts."),
    MapTag("TriggerPartId", 6, "text", "The part's identifier, UTF-8.", None, 32),
)

OUTPUT_WORDS = OUTPUT_TAGS[-1].word + OUTPUT_TAGS[-1].word_count
INPUT_WORDS = INPUT_TAGS[-1].word + INPUT_TAGS[-1].word_count


RESULT_TAGS = {
    "ResultsValid",
    "ResultId",
    "Pass",
    "Reject",
    "NoVerdict",
    "Late",
    "Degraded",
    "Simulated",
    "Covers",
    "Cause",
    "RejectCode",
    "Severity",
    "EncoderCount",
    "ActByEncoder",
    "ActByMs",
    "ProcessingUs",
    "ResultIdCheck",
    "PartId",
    "Camera",
    "RecipeId",
    "EncoderValid",
    "ActByEncoderValid",
    "PartIdUnfit",
    "NotPassedBefore",
}
"""Bits and tags of a result; sent completely with each result, changed or not."""
TRIGGER_PART_WORDS = INPUT_TAGS[3].word, INPUT_WORDS
"""The part of a trigger in the input block: first word, and the word after the last."""
PART_ID_CHARACTERS_MAX = 64
"""Longest part id in the line's messages."""


def status_word(image: ProcessImage) -> int:
    """Return the word of `STATUS_BITS`."""
    return _pack_bits(STATUS_BITS, image)


def status2_word(image: ProcessImage) -> int:
    """Return the word of `STATUS2_BITS`."""
    return _pack_bits(STATUS2_BITS, image)


def _pack_bits(bits: tuple[MapBit, ...], image: ProcessImage) -> int:
    word = 0
    for bit in bits:
        assert bit.get is not None
        word |= bool(bit.get(image)) << bit.bit
    return word
