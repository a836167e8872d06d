"""Names as bytes: a name that does not fit is not cut, for half of it is another's."""

from __future__ import annotations


def fits_utf8(name: str, bytes_max: int | None = None) -> bool:
    """Whether a text can be told whole: UTF-8 of at most so many bytes, without a zero."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return 0 not in raw and (bytes_max is None or len(raw) <= bytes_max)
