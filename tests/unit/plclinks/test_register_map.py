from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeinspect.domain.plc import (
    CAUSES,
    PlcCommands,
    PlcError,
    PlcOutcome,
    PlcResult,
    ProcessImage,
    TriggerRefusal,
)
from edgeinspect.domain.text import fits_utf8
from edgeinspect.plclinks import _register_codec, _register_map
from edgeinspect.testing.peers import PlcProgram

ROOT = Path(__file__).resolve().parents[3]
BIG = st.integers(-(1 << 63), 1 << 63)
RESULTS = st.builds(
    PlcResult,
    seq=st.integers(1, 1 << 62),
    epoch=st.integers(0, 1 << 62),
    outcome=st.sampled_from([PlcOutcome.REJECT, PlcOutcome.NEITHER]),
    cause=st.integers(0, 200),
    no_verdict=st.booleans(),
    late=st.booleans(),
    reject_code=BIG,
    severity=BIG,
    part_id=st.text(max_size=80),
    camera=st.text(max_size=80),
    encoder_count=st.none() | BIG,
    act_by_encoder=st.none() | BIG,
    act_by_ms=BIG,
    frames_covered=st.integers(1, 1 << 62),
    recipe_id=st.text(max_size=80),
    processing_us=BIG,
)
IMAGES = st.builds(
    ProcessImage,
    online=st.just(True),
    trigger_ready=st.booleans(),
    result=st.none() | RESULTS,
    error=st.sampled_from(PlcError),
    sequence_generation=BIG,
    buffered=BIG,
    results_total=BIG,
    epoch=BIG,
    link_losses=BIG,
)


@pytest.mark.parametrize(
    "tags", [_register_map.OUTPUT_TAGS, _register_map.INPUT_TAGS], ids=["outputs", "inputs"]
)
def test_tags_do_not_overlap_and_32_bit_values_are_aligned(tags: Any) -> None:
    at = 0
    for tag in tags:
        assert tag.word == at, tag.name
        at += tag.word_count
        if tag.type in ("uint32", "int32"):
            assert tag.word % 2 == 0, tag.name
    names = [tag.name for tag in tags]
    assert len(set(names)) == len(names)


def test_a_block_fits_one_modbus_request_and_one_s7_pdu() -> None:
    assert _register_map.OUTPUT_WORDS <= 123
    assert 2 * _register_map.OUTPUT_WORDS <= 240 - 35  # the smallest S7 PDU without its headers
    assert [bit.bit for bit in _register_map.STATUS_BITS] == list(range(16))


@given(IMAGES)
def test_an_image_survives_a_round_trip(image: ProcessImage) -> None:
    block = _register_codec.encode_outputs(image)
    assert len(block) == 2 * _register_map.OUTPUT_WORDS
    got = _register_codec.decode_outputs(block)
    texts = {tag.name: tag.length_bytes for tag in _register_map.OUTPUT_TAGS if tag.type == "text"}
    for name, value in _register_codec.tag_values(image).items():
        if isinstance(value, str):  # complete, or empty
            value = value if fits_utf8(value, texts[name]) else ""
        assert got[name] == value, name
    assert got["ResultIdCheck"] == (got["ResultId"] if got["ResultsValid"] else 0)
    assert not (got["Pass"] and got["Reject"])
    if not got["ResultsValid"]:
        assert not got["Pass"]
        assert not got["Reject"]
    swapped = _register_codec.swap_words(block, _register_map.OUTPUT_TAGS)
    assert _register_codec.swap_words(swapped, _register_map.OUTPUT_TAGS) == block


@given(st.text(max_size=70), st.text(max_size=70))
def test_two_part_ids_are_never_encoded_alike(one: str, other: str) -> None:
    shown = []
    for name in (one, other):
        result = PlcResult(1, 7, PlcOutcome.REJECT, 10, part_id=name)
        image = ProcessImage(online=True, result=result)
        block = _register_codec.encode_outputs(image)
        shown.append(_register_codec.decode_outputs(block)["PartId"])
        assert _register_codec.tag_values(image)["PartId"] == name
        if fits_utf8(name, 32):
            assert shown[-1] == name
    if one != other:
        assert shown[0] != shown[1] or shown[0] == ""


@pytest.mark.parametrize(
    ("field", "name", "problem"),
    [
        (b"plate-1", "plate-1", TriggerRefusal.NONE),
        ("Teil-\u00c4".encode(), "Teil-\u00c4", TriggerRefusal.NONE),
        (b"x" * 32, "x" * 32, TriggerRefusal.NONE),
        (b"", "", TriggerRefusal.NONE),
        (b"Teil-\xc4", "", TriggerRefusal.PART_ID),
        (b"plate-1\0left of a longer one", "", TriggerRefusal.PART_ID),
        (b"\0plate", "", TriggerRefusal.PART_ID),
        ("\u00c4".encode()[:1], "", TriggerRefusal.PART_ID),
        (b"4711\r\n", "", TriggerRefusal.PART_ID),
        (b"4711\r", "", TriggerRefusal.PART_ID),
        (b"\t4711", "", TriggerRefusal.PART_ID),
        (b"\x1d4711", "", TriggerRefusal.PART_ID),
        (b"4711\x7f", "", TriggerRefusal.PART_ID),
        ("4711\u0085".encode(), "", TriggerRefusal.PART_ID),
        ("4711\u2028".encode(), "", TriggerRefusal.PART_ID),
        (b"4711  ", "4711  ", TriggerRefusal.NONE),
        ("47\u00a011".encode(), "47\u00a011", TriggerRefusal.NONE),
    ],
)
def test_a_part_id_in_the_input_block_is_complete_or_refused(
    field: bytes, name: str, problem: TriggerRefusal
) -> None:
    block = bytearray(2 * _register_map.INPUT_WORDS)
    block[12 : 12 + len(field)] = field
    commands = _register_codec.decode_commands(bytes(block))
    assert (commands.trigger_part_id, commands.trigger_problem) == (name, problem)


@pytest.mark.parametrize("name", ["x" * 65, "a\0b", "\udcff", "a\n", "\x1b[2J"])
def test_a_part_id_that_the_line_does_not_accept_is_refused(name: str) -> None:
    commands = _register_codec.commands_from_values({"TriggerId": 1, "TriggerPartId": name})
    assert (commands.trigger_part_id, commands.trigger_problem) == ("", TriggerRefusal.PART_ID)


@given(st.binary(min_size=2 * _register_map.INPUT_WORDS, max_size=2 * _register_map.INPUT_WORDS))
def test_any_input_block_is_decoded(block: bytes) -> None:
    assert isinstance(_register_codec.decode_commands(block), PlcCommands)


def test_the_documentation_shows_the_map() -> None:
    """docs/reference/plc.md has the output of `tables` between its markers."""
    text = (ROOT / "docs" / "reference" / "plc.md").read_text(encoding="utf-8")
    for name, wanted in tables().items():
        found = re.search(f"<!-- {name} -->\n(.*?)<!-- end -->", text, re.S)
        assert found, name
        assert found[1].strip() == wanted.strip(), f"{name} in docs/reference/plc.md is not the map"


def tables() -> dict[str, str]:
    """Return the tables of docs/reference/plc.md by marker."""
    return {
        "outputs": _tag_table(_register_map.OUTPUT_TAGS, "3x"),
        "status": _bit_table(_register_map.STATUS_BITS, _register_map.OUTPUT_TAGS, "1x"),
        "status2": _bit_table(_register_map.STATUS2_BITS, _register_map.OUTPUT_TAGS, "", "Status2"),
        "inputs": _tag_table(_register_map.INPUT_TAGS, "4x"),
        "command": _bit_table(_register_map.COMMAND_BITS, _register_map.INPUT_TAGS, "0x"),
        "errors": _rows(["ErrorCode", "Name"], [(e.value, e.name) for e in PlcError]),
        "causes": _rows(["Cause", "Reason"], [(n, r.value) for r, n in CAUSES.items()]),
    }


def _tag_table(tags: tuple[_register_map.MapTag, ...], table: str) -> str:
    head = ["Name", "Word", "Modbus " + table, "S7 byte", "Type", "Meaning"]
    base = {"3x": 30001, "4x": 40201}[table]
    rows = [
        (
            tag.name,
            tag.word,
            base + tag.word,
            2 * tag.word,
            f"text {tag.length_bytes}" if tag.type == "text" else tag.type,
            tag.description,
        )
        for tag in tags
    ]
    return _rows(head, rows)


def _bit_table(
    bits: tuple[_register_map.MapBit, ...],
    tags: tuple[_register_map.MapTag, ...],
    table: str,
    word: str = "",
) -> str:
    head = ["Name", "Bit", *(["Modbus " + table] if table else []), "S7 bit", "1 means"]
    base = {"1x": 10001, "0x": 1, "": 0}[table]
    at = next(2 * tag.word for tag in tags if tag.type == "bits" and tag.name >= word)
    rows = [
        (
            bit.name,
            bit.bit,
            *([f"{base + bit.bit:05d}"] if table else []),
            f"{at + 1 - bit.bit // 8}.{bit.bit % 8}",
            bit.description,
        )
        for bit in bits
    ]
    return _rows(head, rows)


def _rows(head: list[str], rows: list[Any]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


if __name__ == "__main__":  # update the tables in docs/reference/plc.md
    target = ROOT / "docs" / "reference" / "plc.md"
    text = target.read_text(encoding="utf-8")
    for name, table in tables().items():
        text = re.sub(
            f"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda m, table=table: m[1] + "\n" + table + "\n" + m[2],  # type: ignore[misc]
            text,
            flags=re.S,
        )
    target.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("first", [1, 1_000_000, 3_000_000_000, (1 << 32) - 1])
def test_a_plc_takes_the_first_result_of_a_new_generation_with_any_id(first: int) -> None:
    """As in docs/howto/plc.md: the ids of a new generation may start anywhere."""
    plc = PlcProgram()
    for generation, ids in ((7, (5, 6)), (8, (first, first, first + 1))):
        for result_id in ids:
            result = PlcResult(result_id, 1, PlcOutcome.REJECT, 10, part_id=f"{result_id}")
            image = ProcessImage(online=True, result=result, sequence_generation=generation)
            block = _register_codec.encode_outputs(image)
            ack = plc.cycle(_register_codec.decode_outputs(block))
            assert ack == result_id % (1 << 32)
    assert len(plc.log) == 4
