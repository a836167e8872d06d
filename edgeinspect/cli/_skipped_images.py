"""Pictures that a command left out, on the screen: some by name, the others by their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

MAX_SHOWN = 20


def skipped_image_lines(found: Iterable[tuple[str, str]], more_in: str) -> Iterator[str]:
    """A line per picture, bounded.

    Args:
        found: Name and reason of each.
        more_in: Where all of them are listed.
    """
    every = list(found)
    if every:
        yield f"{len(every)} pictures are left out:"
    for name, why in every[:MAX_SHOWN]:
        yield f"left out: {name}: {why}"
    if len(every) > MAX_SHOWN:
        yield f"... and {len(every) - MAX_SHOWN} more, see {more_in}"
