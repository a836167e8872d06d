"""Tables and texts for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone

from rich.table import Table
from rich.text import Text

from edgeinspect.cli._terminal import Console
from edgeinspect.system import escape_line

MAX_SKIPPED_SHOWN = 20
_PIPE_WIDTH = 240
"""Wide enough that no column is cut in a pipe or a file."""
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def wide_console() -> Console:
    """Return a console as wide as the terminal, or wide enough for any table in a pipe."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def plain_table(*headings: str) -> Table:
    """Return a table without lines."""
    return Table(*headings, box=None, pad_edge=False)


def plain_text(text: str) -> Text:
    """Return untrusted text without markup or control characters."""
    return Text(escape_line(text))


def format_utc(utc_ns: int | None) -> str:
    """Return a UTC time to the second; `-` for None, the number itself if out of range."""
    if utc_ns is None:
        return "-"
    try:
        at = _EPOCH + timedelta(microseconds=utc_ns // 1000)
    except OverflowError:
        return str(utc_ns)
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def skipped_image_lines(skipped: Iterable[tuple[str, str]], full_list: str) -> Iterator[str]:
    """Yield a bounded number of lines about skipped images.

    Args:
        skipped: Name and reason of each.
        full_list: Where all of them are listed.
    """
    entries = list(skipped)
    if entries:
        yield f"{len(entries)} images are skipped:"
    for name, reason in entries[:MAX_SKIPPED_SHOWN]:
        yield f"skipped: {name}: {reason}"
    if len(entries) > MAX_SKIPPED_SHOWN:
        yield f"... and {len(entries) - MAX_SKIPPED_SHOWN} more, see {full_list}"
