"""Names as bytes: a name that does not fit is not cut, for half of it is another's."""

from __future__ import annotations

import unicodedata

_CONTROLS = ("Cc", "Zl", "Zp")
"""Unicode's control characters, and its ends of lines and paragraphs."""


def fits_utf8(name: str, bytes_max: int | None = None) -> bool:
    """Whether a text can be told whole: UTF-8 of at most so many bytes, without a zero."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return 0 not in raw and (bytes_max is None or len(raw) <= bytes_max)


def has_control_characters(name: str) -> bool:
    """Whether a text has characters that nobody sees and that end a line or move a cursor.

    A scanner's CR and LF are such: with them and without them one part would have two names.
    """
    if name.isprintable():
        return False
    return any(unicodedata.category(each) in _CONTROLS for each in name)
