"""CSV tables of other programs, in any usual encoding, separator and line ending."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.system import is_regular, open_regular, read_regular, unescape_cell

MAX_BYTES = 256 << 20
"""Maximum size of a table."""
_HEAD_BYTES = 1 << 16
_MAX_CELL_CHARS = 1 << 26
_MAX_COLUMNS = 4096
_SEPARATORS = (",", ";", "\t", "|")
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
NumberedRow = tuple[int, dict[str, str]]
"""Line number in the file, and the cells by column."""


def read_table_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        DataError: Unreadable, not a regular file, too large, other encoding, or with NULs.
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
            "has NUL characters, like UTF-16 without a byte order mark or a damaged file",
            where=str(path),
            remedy="Save it as UTF-8",
        )
    return text


def read_rows(path: Path, *, allow_short_rows: bool = False) -> list[dict[str, str]]:
    """Return the rows of a CSV file without line numbers; see `read_numbered_rows`."""
    return [row for _line, row in read_numbered_rows(path, allow_short_rows=allow_short_rows)]


def read_numbered_rows(path: Path, *, allow_short_rows: bool = False) -> list[NumberedRow]:
    """Return the rows of a CSV file with line numbers; keys and values are stripped.

    The separator of the header is used: comma, semicolon, tab or bar. A first column without a
    name, such as the index that pandas writes, is the column "".

    Args:
        path: The file.
        allow_short_rows: Missing cells at the end of a row are empty, as in tables typed by
            hand; otherwise such a row is an error, because a truncated file ends like that.

    Raises:
        DataError: Unreadable, no header, a duplicate column, or a row of another length.
    """
    return parse_rows(read_table_text(path), str(path), allow_short_rows=allow_short_rows)[1]


def parse_rows(
    text: str, where: str, *, allow_short_rows: bool = False
) -> tuple[list[str], list[NumberedRow]]:
    """Return the header and the rows of a CSV text; raises as `read_numbered_rows`."""
    csv.field_size_limit(_MAX_CELL_CHARS)  # a run-length code may exceed the default
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
        if repeated := [name for name in header if name and folded.count(name.casefold()) > 1]:
            raise DataError(f"has two columns {repeated[0][:40]!r}", where=where)
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
                    remedy="Quote cells that contain the separator"
                    if more == "more"
                    else "Is the file truncated? An empty cell keeps its separator",
                )
    except csv.Error as error:
        raise DataError(f"cannot be read as CSV: {error}", where=where) from error
    return header, rows


def _detect_separator(text: str) -> tuple[str, int]:
    """Return the separator, and the number of lines before the header.

    Such lines are empty, or Excel's `sep=;`.
    """
    for ahead, line in enumerate(text[:_HEAD_BYTES].splitlines()):
        word = line.strip().lower().removeprefix("sep=")
        if line.strip() and word not in _SEPARATORS:
            most = max(_SEPARATORS, key=lambda mark: (line.count(mark), -_SEPARATORS.index(mark)))
            return most, ahead
    return _SEPARATORS[0], 0


def read_header(path: Path) -> tuple[str, ...]:
    """Return the column names of a CSV file, stripped; empty if it is not one."""
    try:
        if not is_regular(path):
            return ()
        with open_regular(path) as file:
            data = file.read(_HEAD_BYTES)
        encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
        text = data.decode(encoding, "replace")  # reading the whole table reports errors
        separator, ahead = _detect_separator(text)
        lines = text.splitlines()[ahead : ahead + 1]
        cells: Sequence[str] = next(csv.reader(lines, delimiter=separator), [])
        return tuple(cell.strip() for cell in cells)
    except (OSError, UnicodeError, csv.Error):
        return ()
