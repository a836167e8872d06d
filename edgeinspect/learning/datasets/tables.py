"""Tables that other programs wrote: whatever their encoding, their separator, their line ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.system import is_regular, open_regular, read_regular, unescape_cell

MAX_BYTES = 256 << 20
"""Of a table; a larger one was not made by labelling pictures."""
_HEAD_BYTES = 1 << 16
_MAX_CELL_CHARS = 1 << 26
_MAX_COLUMNS = 4096
_SEPARATORS = (",", ";", "\t", "|")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
NumberedRow = tuple[int, dict[str, str]]
"""Its line in the file, and its cells by column."""


def read_table_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        DataError: Unreadable, no regular file, too large, in another encoding, or with NULs.
    """
    data = read_regular(path, max_bytes)
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"is not UTF-8: byte {error.start} is {data[error.start]:#04x}",
            where=str(path),
            remedy="Save it as UTF-8 (in Excel: CSV UTF-8)",
        ) from error
    if "\0" in text:
        raise DataError(
            "holds NUL characters, as UTF-16 without a mark or a damaged file",
            where=str(path),
            remedy="Save it as UTF-8",
        )
    return text


def read_rows(path: Path, *, allow_short_rows: bool = False) -> list[dict[str, str]]:
    """The rows of a CSV file without their lines; see `read_numbered`."""
    return [row for _line, row in read_numbered_rows(path, allow_short_rows=allow_short_rows)]


def read_numbered_rows(path: Path, *, allow_short_rows: bool = False) -> list[NumberedRow]:
    """The rows of a CSV file with their lines, keys and values stripped.

    Separated by commas, semicolons, tabs or bars, whichever the header is. A first column
    without a name, as pandas writes its index, is the column "".

    Args:
        path: The file.
        short: Cells that are missing at a row's end are empty ones, as in what a person types;
            else such a row is an error, for it is how a file ends that was cut off.

    Raises:
        DataError: Unreadable, no header, a column twice, or a row of more or fewer cells.
    """
    return parse_rows(read_table_text(path), str(path), allow_short_rows=allow_short_rows)[1]


def parse_rows(
    text: str, where: str, *, allow_short_rows: bool = False
) -> tuple[list[str], list[NumberedRow]]:
    """The header and the rows of a CSV text; raises as `read_numbered`."""
    csv.field_size_limit(_MAX_CELL_CHARS)  # a code of scattered pixels is longer than the default
    separator, ahead = _detect_separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    rows: list[NumberedRow] = []
    try:
        for _line in range(ahead):
            next(reader, [])
        header = [cell.strip() for cell in next(reader, [])]
        if len(header) > _MAX_COLUMNS:
            raise DataError(f"has {len(header)} columns", where=where)
        folded = [name.casefold() for name in header]
        if twice := [name for name in header if name and folded.count(name.casefold()) > 1]:
            raise DataError(f"has the column {twice[0][:40]!r} twice", where=where)
        for cells in reader:
            if allow_short_rows and any(cells):
                cells += [""] * (len(header) - len(cells))
            if len(cells) == len(header):
                row = zip(header, (unescape_cell(cell.strip()) for cell in cells), strict=True)
                rows.append((reader.line_num, dict(row)))
            elif any(cell.strip() for cell in cells):
                more = "more" if len(cells) > len(header) else "fewer"
                raise DataError(
                    f"a row has {more} cells than the header",
                    where=f"{where}:{reader.line_num}",
                    remedy="Quote cells that hold commas"
                    if more == "more"
                    else "Is the file cut off? An empty cell keeps its comma",
                )
    except csv.Error as error:
        raise DataError(f"cannot be read as CSV: {error}", where=where) from error
    return header, rows


def _detect_separator(text: str) -> tuple[str, int]:
    """What separates the columns, and how many lines stand before the header.

    Those are empty, or Excel's `sep=;`.
    """
    for ahead, line in enumerate(text[:_HEAD_BYTES].splitlines()):
        said = line.strip().lower().removeprefix("sep=")
        if line.strip() and said not in _SEPARATORS:
            most = max(_SEPARATORS, key=lambda mark: (line.count(mark), -_SEPARATORS.index(mark)))
            return most, ahead
    return _SEPARATORS[0], 0


def read_header(path: Path) -> tuple[str, ...]:
    """The column names of a CSV file, stripped; empty if it is none. Reads its beginning."""
    try:
        if not is_regular(path):
            return ()
        with open_regular(path) as file:
            data = file.read(_HEAD_BYTES)
        encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
        text = data.decode(encoding, "replace")  # if it is a table, its reader will say more
        separator, ahead = _detect_separator(text)
        lines = text.splitlines()[ahead : ahead + 1]
        cells: Sequence[str] = next(csv.reader(lines, delimiter=separator), [])
        return tuple(cell.strip() for cell in cells)
    except (OSError, UnicodeError, csv.Error):
        return ()
