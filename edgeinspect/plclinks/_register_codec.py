"""Encodes images into the output block, and decodes the input block, of `_register_map`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from edgeinspect.domain import (
    PART_ID_BYTES,
    PlcCommands,
    ProcessImage,
    TriggerRefusal,
    fits_utf8,
    has_control_characters,
)
from edgeinspect.plclinks._register_map import (
    COMMAND_BITS,
    INPUT_TAGS,
    OUTPUT_TAGS,
    OUTPUT_WORDS,
    PART_ID_CHARACTERS_MAX,
    STATUS2_BITS,
    STATUS_BITS,
    MapBit,
    MapTag,
    TagValue,
)


def tag_values(image: ProcessImage) -> dict[str, TagValue]:
    """Return every bit and tag of an image by name."""
    every = (*STATUS_BITS, *STATUS2_BITS)
    named: dict[str, TagValue] = {bit.name: bool(bit.get(image)) for bit in every if bit.get}
    for tag in OUTPUT_TAGS:
        if tag.get is not None and tag.type != "bits":
            value = tag.get(image)
            named[tag.name] = value if isinstance(value, str) else fit_value(tag, value)
    return named


def fit_value(tag: MapTag, value: TagValue) -> TagValue:
    """Return a value within the range of its tag.

    A text that does not fit becomes empty: a truncated id could be that of another part.
    Counters and encoders wrap as a PLC's own do; other numbers are clamped.
    """
    if isinstance(value, str):
        return value if fits_utf8(value, tag.length_bytes) else ""
    if tag.type == "bits":
        return value
    if tag.type == "uint16":
        return value % 0x1_0000 if tag.name in _WRAPPING else min(max(value, 0), 0xFFFF)
    if tag.type == "uint32":
        return value % 0x1_0000_0000
    if tag.name in _WRAPPING:
        return (value + 0x8000_0000) % 0x1_0000_0000 - 0x8000_0000
    return min(max(value, -0x8000_0000), 0x7FFF_FFFF)


_WRAPPING = {"Numbering", "LinkLosses", "TriggerAck", "EncoderCount", "ActByEncoder"}


def encode_outputs(image: ProcessImage) -> bytes:
    """Return the output block of an image: 2 * `OUTPUT_WORDS` bytes."""
    block = bytearray(2 * OUTPUT_WORDS)
    for tag in OUTPUT_TAGS:
        if tag.get is not None:
            _pack_tag(block, tag, fit_value(tag, tag.get(image)))
    return bytes(block)


_STRUCT_FORMATS = {"bits": ">H", "uint16": ">H", "uint32": ">I", "int32": ">i"}


def _pack_tag(block: bytearray, tag: MapTag, value: TagValue) -> None:
    at = 2 * tag.word
    if isinstance(value, str):
        raw = value.encode()
        block[at : at + len(raw)] = raw
    else:
        struct.pack_into(_STRUCT_FORMATS[tag.type], block, at, value)


def decode_outputs(block: bytes) -> dict[str, TagValue]:
    """Return every tag and bit of an output block by name, as a PLC program decodes it."""
    named = _decode_tags(block, OUTPUT_TAGS)
    return {
        **named,
        **_decode_bits(int(named["Status"]), STATUS_BITS),
        **_decode_bits(int(named["Status2"]), STATUS2_BITS),
    }


def decode_inputs(block: bytes) -> dict[str, TagValue]:
    """Return every tag and bit of an input block by name."""
    named = _decode_tags(block, INPUT_TAGS)
    return {**named, **_decode_bits(int(named["Command"]), COMMAND_BITS)}


def _decode_tags(block: bytes, tags: tuple[MapTag, ...]) -> dict[str, TagValue]:
    named: dict[str, TagValue] = {}
    for tag in tags:
        at = 2 * tag.word
        if tag.type == "text":
            raw = block[at : at + tag.length_bytes].split(b"\0")[0]
            named[tag.name] = raw.decode("utf-8", "replace")
        else:
            (named[tag.name],) = struct.unpack_from(_STRUCT_FORMATS[tag.type], block, at)
    return named


def _decode_bits(word: int, bits: tuple[MapBit, ...]) -> dict[str, bool]:
    return {bit.name: bool(word >> bit.bit & 1) for bit in bits}


def decode_commands(block: bytes) -> PlcCommands:
    """Decode the input block; any bytes are valid."""
    named = decode_inputs(block)
    at = 2 * INPUT_TAGS[4].word
    name, _, rest = block[at : at + PART_ID_BYTES].partition(b"\0")
    # Bytes after the end are left from a longer id, or the second half of this one.
    whole = name.decode("utf-8", "surrogateescape") + ("\0" if any(rest) else "")
    return commands_from_values({**named, "TriggerPartId": whole})


def commands_from_values(values: Mapping[str, Any]) -> PlcCommands:
    """Return the commands of values by name; values that were never written are missing."""
    trigger_id, part_id = values.get("TriggerId"), str(values.get("TriggerPartId", ""))
    fits = fits_utf8(part_id) and len(part_id) <= PART_ID_CHARACTERS_MAX
    good = fits and not has_control_characters(part_id)
    return PlcCommands(
        enable=bool(values.get("Enable")),
        fault_reset=bool(values.get("FaultReset")),
        results_ack=values.get("ResultsAck"),
        trigger_id=trigger_id,
        trigger_encoder=int(values.get("TriggerEncoder", 0)),
        trigger_part_id=part_id if good else "",
        trigger_problem=TriggerRefusal.NONE if good else TriggerRefusal.PART_ID,
    )


def swap_words(block: bytes, tags: tuple[MapTag, ...]) -> bytes:
    """Swap the words of every 32-bit value in a block, for low word first."""
    swapped = bytearray(block)
    for tag in tags:
        if tag.type in ("uint32", "int32"):
            at = 2 * tag.word
            swapped[at : at + 4] = block[at + 2 : at + 4] + block[at : at + 2]
    return bytes(swapped)
