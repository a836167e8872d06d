"""The accuracy in a model's manifest, as names and values for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WORDS = {"pictures": "images"}
"""Keys are part of manifests; people read the word of all other output."""


def accuracy_facts(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the figures of nested tables under names such as `line escape`.

    A figure whose table has its name already, as `recall` in `recall at 1 percent false rejects`,
    gets that of the table.
    """
    for key, value in values.items():
        word = _WORDS.get(key, key).replace("_", " ")
        is_named = prefix == word or prefix.startswith(f"{word} ")
        name = prefix if is_named else f"{prefix} {word}".strip()
        if isinstance(value, Mapping):
            yield from accuracy_facts(value, name)
        elif isinstance(value, (list, tuple)):
            yield name, " to ".join(map(str, value)) if len(value) == 2 else f"{value}"
        else:
            yield name, "undefined" if value is None else str(value)
