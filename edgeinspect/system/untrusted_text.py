"""Text from elsewhere (part ids, file names, alarms, names of devices) where it could do harm.

On a terminal, where a control sequence moves the cursor, colours, or lies about what stands there;
in a table, where a spreadsheet takes a cell for a formula. What is published and kept stays as
it came: text is changed on its way out alone, and so that a reader sees what was there.
Source: OWASP, "CSV Injection"; Unicode TR 36 on bidirectional text.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from typing import Any, TextIO

_FORMULA_STARTS = frozenset(
    "=+-@|%\uff1d\uff0b\uff0d\uff20\uff5c\uff05\u2212\u207a\u208a"
    "\ufe62\ufe63\ufe66\ufe6b\ufe6a\u207b\u208b\u207c\u208c"
)
"""What spreadsheets begin a formula or a command with, in all its widths."""
_IGNORED_BEFORE = " '\"`\u2018\u2019\u201c\u201d\uff07\uff02\\"
"""What they pass over before it."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan", re.ASCII)

_FORMULA_START = "[" + re.escape("".join(sorted(_FORMULA_STARTS))) + "]"
_FORMULA_AFTER_SEPARATOR = re.compile(f";(?=[{re.escape(_IGNORED_BEFORE)}]*{_FORMULA_START})")
"""Where a semicolon parts columns, as in half of Europe, a cell begins after each."""
_ESCAPED_AFTER_SEPARATOR = re.compile(f";'(?=[{re.escape(_IGNORED_BEFORE)}]*{_FORMULA_START})")


def escape_line(text: str) -> str:
    r"""Text with everything written out (`\x1b`, `\u202e`, `\n`) that is not to be seen.

    Control characters, line ends, directions, invisible and unassigned characters, and halves of
    characters as they come from file names that are no UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape_character(c) for c in text)


def escape_lines(text: str) -> str:
    """The same for text that may have lines and tabulators of its own."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escape_character(c) for c in text)


def escape_json(text: str) -> str:
    """JSON text with everything written out as JSON does it: it means the same."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)


def escape_cell(value: Any) -> Any:
    """A value for a cell of a CSV file: no formula, on one line; a number stays a number."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    text = escape_line(value)
    text = f"'{text}" if _is_formula(text) or _is_formula(value.lstrip()) else text
    return _FORMULA_AFTER_SEPARATOR.sub(";'", text) if ";" in text else text


def unescape_cell(text: str) -> str:
    """The text of a cell in which `as_cell` has put apostrophes."""
    text = _ESCAPED_AFTER_SEPARATOR.sub(";", text) if ";'" in text else text
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


class TableWriter:
    """Writes rows of a CSV file, each cell by `as_cell`.

    Args:
        file: Opened with `newline=""`.
        lineterminator: Of each row.
    """

    def __init__(self, file: TextIO, lineterminator: str = "\n") -> None:
        self._rows = csv.writer(file, lineterminator=lineterminator)

    def writerow(self, row: Iterable[Any]) -> None:
        """One row."""
        self._rows.writerow([escape_cell(value) for value in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Some rows."""
        for row in rows:
            self.writerow(row)


def _is_formula(text: str) -> bool:
    return text.lstrip(_IGNORED_BEFORE)[:1] in _FORMULA_STARTS


def _escape_character(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _json_escape(char: str) -> str:
    data = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{data[i] << 8 | data[i + 1]:04x}" for i in range(0, len(data), 2))


def is_short_decimal(text: str) -> bool:
    """Whether a text is a whole number of at most 9 digits, without a sign: `int` takes it."""
    return text.isdecimal() and len(text) <= 9
