"""Tables fit the terminal, are whole in a pipe, and say what is left out."""

from __future__ import annotations

import sys

import pytest
from rich.cells import cell_len

from edgeinspect.cli import _tables
from edgeinspect.cli._tables import Column, TextTable, format_number_of, number, print_table
from edgeinspect.cli._terminal import wrap_lines

LONG = "/var/lib/edgeinspect/archive/strip/2026-11-29/14/strip.top.1795963815215.204.png"


def texts(table: TextTable, width: int | None) -> list[str]:
    return [line.plain for line in table.lines(width)]


def example() -> TextTable:
    table = TextTable(
        number("seq"), Column("image", is_path=True), "why", Column("part", optional=True)
    )
    table.add_row(7, LONG, "a region reached its class's thresholds", "P-1")
    table.add_row(1234, "\u94a2\u677f.png", "clean", "P-2")
    return table


def test_nothing_is_left_out_in_a_pipe() -> None:
    lines = texts(example(), None)
    assert LONG in lines[1]
    assert "a region reached its class's thresholds  P-1" in lines[1]
    assert len(lines) == 3
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(cell_len(line) for line in texts(example(), width)) <= width


def test_on_a_narrow_terminal_paths_keep_their_ends_and_columns_are_named() -> None:
    lines = texts(example(), 60)
    assert lines[1].startswith("   7  /var")
    assert "…" in lines[1]
    assert "204.png" in lines[1]
    assert lines[-1] == "not shown for lack of width: part"
    assert "P-1" not in "".join(lines)
    words = " ".join(" ".join(lines).split())
    for word in ("region", "reached", "thresholds", "clean"):
        assert word in words


def test_numbers_are_aligned_to_the_right_by_width_of_characters() -> None:
    table = TextTable("name", number("frames"))
    table.add_row("\u94a2\u677f", 5)
    table.add_row("strip", 12_345)
    assert {cell_len(line) for line in texts(table, 80)} == {len("strip  frames")}


def test_an_empty_optional_column_is_not_shown_and_not_named() -> None:
    table = TextTable("seq", Column("part", optional=True))
    table.add_row("1", None)
    assert texts(table, 80) == ["seq", "1"]
    assert texts(table, None) == ["seq  part", "1"]


def test_text_of_others_cannot_control_the_terminal() -> None:
    table = TextTable("part")
    table.add_row("a\x1b[31m\nb\u202e")
    assert texts(table, 80) == ["part", "a\\x1b[31m\\nb\\u202e"]


def test_no_rows_are_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(TextTable("seq"), empty="no verdicts")
    assert capsys.readouterr().out == "no verdicts\n"


def test_counts_have_their_noun(monkeypatch: pytest.MonkeyPatch) -> None:
    assert format_number_of(1, "frame") == "1 frame"
    assert format_number_of(0, "frame") == "0 frames"
    assert format_number_of(2, "image is", "images are") == "2 images are"
    assert format_number_of(1_234_567, "frame") == "1234567 frames"
    monkeypatch.setattr(_tables.sys.stdout, "isatty", lambda: True, raising=False)
    assert format_number_of(1_234_567, "frame") == "1\u202f234\u202f567 frames"


def test_a_narrow_column_is_shown_where_a_wide_one_does_not_fit() -> None:
    table = TextTable(
        Column("a", fixed=True),
        Column("wide", fixed=True, optional=True),
        number("n", optional=True),
    )
    table.add_row("x" * 30, "y" * 20, 7)
    assert [line.plain for line in table.lines(40)] == [
        f"a{' ' * 31}n",
        f"{'x' * 30}  7",
        "not shown for lack of width: wide",
    ]


@pytest.mark.parametrize(
    ("text", "wrapped"),
    [
        ("a short line", "a short line"),
        ("one two three four", "one two\n  three four"),
        ("  line 3: budget_ms", "  line 3:\n    budget_ms"),
        ("/a/long/path/name.png: no", "/a/long/path/name.png:\n  no"),
        ("", ""),
    ],
)
def test_lines_are_wrapped_between_words(text: str, wrapped: str) -> None:
    assert wrap_lines(text, 12) == wrapped


def test_thousands_are_separated_and_control_characters_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table = TextTable(number("n"), "name")
    table.add_row(1_234_567, "a\x1b[2J")
    print_table(table)
    assert capsys.readouterr().out.splitlines()[1] == "1\u202f234\u202f567  a\\x1b[2J"
