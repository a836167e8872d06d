"""Escaping of untrusted text (part ids, file names, alarms, device names) for output.

On a terminal a control sequence can move the cursor or disguise other text; in a table a
spreadsheet evaluates a cell as a formula. Text is published and stored unchanged and escaped
only for output, so that a reader sees what it contained.
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
"""Characters that start a formula or a command in a spreadsheet, in all Unicode widths."""
_IGNORED_BEFORE = " '\"`\u2018\u2019\u201c\u201d\uff07\uff02\\"
"""Characters that spreadsheets skip before a formula."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan", re.ASCII)

_FORMULA_START = "[" + re.escape("".join(sorted(_FORMULA_STARTS))) + "]"
_FORMULA_AFTER_SEPARATOR = re.compile(f";(?=[{re.escape(_IGNORED_BEFORE)}]*{_FORMULA_START})")
"""With a semicolon as the separator, as in much of Europe, a cell starts after each."""
_ESCAPED_AFTER_SEPARATOR = re.compile(f";'(?=[{re.escape(_IGNORED_BEFORE)}]*{_FORMULA_START})")


def escape_line(text: str) -> str:
    r"""Escape all characters that are not printable (`\x1b`, `\u202e`, `\n`).

    Control characters, line ends, bidirectional controls, invisible and unassigned characters,
    and the lone surrogates of file names that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape_character(c) for c in text)


def escape_lines(text: str) -> str:
    """Escape as `escape_line`, but keep line ends and tabs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escape_character(c) for c in text)


def escape_json(text: str) -> str:
    """Escape characters that are not printable in JSON text; it decodes to the same value."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)


def escape_cell(value: Any) -> Any:
    """Return a value for a CSV cell: not a formula, on one line; numbers are unchanged."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    text = escape_line(value)
    text = f"'{text}" if _is_formula(text) or _is_formula(value.lstrip()) else text
    return _FORMULA_AFTER_SEPARATOR.sub(";'", text) if ";" in text else text


def unescape_cell(text: str) -> str:
    """Remove the apostrophes that `escape_cell` added."""
    text = _ESCAPED_AFTER_SEPARATOR.sub(";", text) if ";'" in text else text
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


class TableWriter:
    """Writes a CSV file, each cell escaped by `escape_cell`.

    Args:
        file: Opened with `newline=""`.
        lineterminator: Line end of each row.
    """

    def __init__(self, file: TextIO, lineterminator: str = "\n") -> None:
        self._rows = csv.writer(file, lineterminator=lineterminator)

    def writerow(self, row: Iterable[Any]) -> None:
        """Write one row."""
        self._rows.writerow([escape_cell(value) for value in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several rows."""
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
    """True for an unsigned integer of at most 9 digits, which `int` can parse."""
    return text.isdecimal() and len(text) <= 9
