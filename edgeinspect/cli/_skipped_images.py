"""Pictures that a command left out, on the screen: some by name, the others by their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

SHOWN = 20


def lines(found: Iterable[tuple[str, str]], more_in: str) -> Iterator[str]:
    """A line per picture, bounded.

    Args:
        found: Name and reason of each.
        more_in: Where all of them are listed.
    """
    every = list(found)
    if every:
        yield f"{len(every)} pictures are left out:"
    for name, why in every[:SHOWN]:
        yield f"left out: {name}: {why}"
    if len(every) > SHOWN:
        yield f"... and {len(every) - SHOWN} more, see {more_in}"
