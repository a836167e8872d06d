"""Tables and counts for people: whole in a pipe, fitted to the width of a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from edgeinspect.cli._terminal import THOUSANDS, Console
from edgeinspect.system import escape_line, format_local

MAX_SKIPPED_SHOWN = 20
_GAP = "  "
_ELLIPSIS = "…"
_COMFORTABLE_WIDTH = 24
"""A column that may be narrowed keeps this width until columns are left out."""
_MIN_WIDTH = 10
_GROUP_FROM = 10_000

Cell = str | int | Text | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    heading: str
    numeric: bool = False
    """Aligned to the right, never narrowed."""
    optional: bool = False
    """Left out on a narrow terminal, the last one first."""
    is_path: bool = False
    """Shortened in the middle on a narrow terminal; other texts are wrapped."""
    fixed: bool = False
    """Never narrowed."""


def number(heading: str, *, optional: bool = False) -> Column:
    """Return a column of numbers."""
    return Column(heading, numeric=True, optional=optional)


class TextTable:
    """A table without lines.

    On a terminal it is as wide as the terminal: columns that may be left out are, and a line
    below names them; then texts are wrapped. In a pipe nothing is narrowed.
    """

    def __init__(self, *columns: str | Column, title: str | Text = "") -> None:
        self._columns = [Column(each) if isinstance(each, str) else each for each in columns]
        self._rows: list[list[Text]] = []
        self._title = title if isinstance(title, Text) else Text(escape_line(title), style="bold")

    def add_row(self, *cells: Cell) -> None:
        """Add a row; missing cells are empty. Text is escaped, numbers are grouped."""
        row = [_cell_text(cell) for cell in cells]
        self._rows.append(row + [Text()] * (len(self._columns) - len(row)))

    def __len__(self) -> int:
        return len(self._rows)

    def lines(self, width: int | None) -> Iterator[Text]:
        """Yield the table as lines of at most `width` cells; None does not limit it."""
        widths, hidden = self._fit(width)
        shown = [i for i in range(len(self._columns)) if i not in hidden]
        if self._title.plain:
            yield from _wrap(self._title, width)
        if any(column.heading for column in self._columns):
            headings = [Text(column.heading, style="dim") for column in self._columns]
            yield from self._row_lines(headings, shown, widths)
        for row in self._rows:
            yield from self._row_lines(row, shown, widths)
        named = [self._columns[i].heading for i in sorted(hidden) if self._has_content(i)]
        if named:
            note = f"not shown for lack of width: {', '.join(named)}"
            yield from _wrap(Text(note, style="dim"), width)

    def _has_content(self, index: int) -> bool:
        return any(row[index].plain for row in self._rows)

    def _fit(self, width: int | None) -> tuple[list[int], set[int]]:
        """Return the width of each column, and the columns to leave out."""
        widths = [
            max([cell_len(column.heading), *(_widest_line(row[i]) for row in self._rows)])
            for i, column in enumerate(self._columns)
        ]
        if width is None:
            return widths, set()
        hidden: set[int] = set()
        optional = [i for i, column in enumerate(self._columns) if column.optional]
        hidden.update(i for i in optional if not self._has_content(i))
        self._narrow(widths, hidden, width, _COMFORTABLE_WIDTH)
        for i in reversed(optional):
            if _total(widths, hidden) <= width:
                break
            hidden.add(i)
        for i in optional:  # a narrow one may fit where a wide one did not
            if self._has_content(i) and _total(widths, hidden - {i}) <= width:
                hidden.discard(i)
        self._narrow(widths, hidden, width, _MIN_WIDTH)
        return widths, hidden

    def _narrow(self, widths: list[int], hidden: set[int], width: int, least: int) -> None:
        """Narrow the widest texts until the table fits, or all have the least width."""
        while (excess := _total(widths, hidden) - width) > 0:
            candidates = sorted(
                (widths[i], i)
                for i, column in enumerate(self._columns)
                if i not in hidden and not (column.numeric or column.fixed) and widths[i] > least
            )
            if not candidates:
                return
            widest, i = candidates[-1]
            second = candidates[-2][0] if len(candidates) > 1 else least
            widths[i] = max(widest - excess, min(second, widest - 1), least)

    def _row_lines(
        self, cells: Sequence[Text], shown: Sequence[int], widths: Sequence[int]
    ) -> Iterator[Text]:
        blocks = []
        for i in shown:
            column = self._columns[i]
            if column.is_path:
                blocks.append([_elide_middle(cells[i], widths[i])])
            else:
                blocks.append(list(_wrap(cells[i], widths[i])))
        for at in range(max((len(block) for block in blocks), default=0)):
            line = Text()
            for place, (i, block) in enumerate(zip(shown, blocks, strict=True)):
                part = block[at] if at < len(block) else Text()
                room = " " * (widths[i] - cell_len(part.plain))
                line.append(_GAP if place else "")
                if self._columns[i].numeric:
                    line.append(room).append_text(part)
                else:
                    line.append_text(part).append(room)
            line.rstrip()
            yield line


def print_table(table: TextTable, *, empty: str = "") -> None:
    """Print a table on stdout, or what `empty` says if it has no rows."""
    if empty and not len(table):
        print_text(empty)
        return
    console = Console()
    for line in table.lines(terminal_width()):
        console.print(line, soft_wrap=True)


def print_facts(facts: Iterable[tuple[str, Cell]]) -> None:
    """Print names and values, one pair per line."""
    table = TextTable(Column("", fixed=True), "")
    for name, value in facts:
        table.add_row(Text(name, style="dim"), value)
    print_table(table)


def print_text(text: str | Text) -> None:
    """Print a paragraph on stdout, wrapped on a terminal."""
    console = Console()
    body = text if isinstance(text, Text) else Text(escape_line(text))
    for line in _wrap(body, terminal_width()):
        console.print(line, soft_wrap=True)


def terminal_width() -> int | None:
    """Return the width of the terminal at stdout; None in a pipe or a file."""
    return Console().width if sys.stdout.isatty() else None


def format_count(count: int) -> str:
    """Return a count; on a terminal with a narrow space between thousands."""
    if count < _GROUP_FROM or not sys.stdout.isatty():
        return str(count)
    return f"{count:,}".replace(",", THOUSANDS)


def format_number_of(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun: `1 frame`, `2 frames`."""
    return f"{format_count(count)} {singular if count == 1 else plural or f'{singular}s'}"


def format_time(utc_ns: int | None) -> str:
    """Return a local time to the second; `-` for None."""
    return "-" if utc_ns is None else format_local(utc_ns)


def skipped_image_lines(skipped: Iterable[tuple[str, str]], full_list: str) -> Iterator[str]:
    """Yield a bounded number of lines about skipped images.

    Args:
        skipped: Name and reason of each.
        full_list: Where all of them are listed.
    """
    entries = list(skipped)
    if entries:
        yield f"{format_number_of(len(entries), 'image is', 'images are')} skipped:"
    for name, reason in entries[:MAX_SKIPPED_SHOWN]:
        yield f"skipped: {name}: {reason}"
    if len(entries) > MAX_SKIPPED_SHOWN:
        yield f"... and {len(entries) - MAX_SKIPPED_SHOWN} more, see {full_list}"


def _cell_text(cell: Cell) -> Text:
    if isinstance(cell, Text):
        if cell.plain.isprintable():
            return cell
        return Text(escape_line(cell.plain), style=cell.style)
    if isinstance(cell, int):
        return Text(format_count(cell))
    return Text(escape_line(cell or ""))


def _widest_line(text: Text) -> int:
    return cell_len(text.plain)


def _total(widths: Sequence[int], hidden: set[int]) -> int:
    shown = [width for i, width in enumerate(widths) if i not in hidden]
    return sum(shown) + len(_GAP) * max(0, len(shown) - 1)


def _wrap(text: Text, width: int | None) -> Iterator[Text]:
    if width is None or cell_len(text.plain) <= width:
        yield text
        return
    for line in text.wrap(Console(), max(1, width), overflow="fold"):
        line.rstrip()
        yield line


def _elide_middle(text: Text, width: int) -> Text:
    """Shorten a path in the middle; its end, the file's name, keeps more of it."""
    plain = text.plain
    if cell_len(plain) <= width:
        return text
    tail_width = (width - 1) * 2 // 3
    tail = _take(plain[::-1], tail_width)[::-1]
    head = _take(plain, width - 1 - cell_len(tail))
    return Text(f"{head}{_ELLIPSIS}{tail}", style=text.style)


def _take(text: str, width: int) -> str:
    """Return the beginning of a text that is at most `width` cells wide."""
    taken = 0
    for at, char in enumerate(text):
        taken += cell_len(char)
        if taken > width:
            return text[:at]
    return text
