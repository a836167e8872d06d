"""Checks of names, and counts with their nouns.

A name that does not fit is refused: cut, it could be another name.
"""

from __future__ import annotations

import unicodedata

_CONTROLS = ("Cc", "Zl", "Zp")
"""Unicode's control characters, and separators of lines and paragraphs."""


def fits_utf8(name: str, bytes_max: int | None = None) -> bool:
    """Return whether a text is UTF-8 of at most `bytes_max` bytes, without a zero."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return 0 not in raw and (bytes_max is None or len(raw) <= bytes_max)


def has_control_characters(name: str) -> bool:
    """Return whether a text has characters that are invisible, end a line or move a cursor.

    A scanner may add CR and LF: with and without them, one part would have two names.
    """
    if name.isprintable():
        return False
    return any(unicodedata.category(each) in _CONTROLS for each in name)


def number_of(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun, and its verb if given: `1 image is`, `2 images are`."""
    return f"{count} {singular if count == 1 else plural or f'{singular}s'}"
