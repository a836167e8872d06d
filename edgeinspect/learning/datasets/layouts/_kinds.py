"""Kinds of defects in folders below one that says only defective: `NG/dent`, `NG/scratch`."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Set

from edgeinspect.learning.datasets.class_names import is_good_class, says_only_defective
from edgeinspect.learning.datasets.folder_names import is_place, is_set_aside_folder, may_be_kind
from edgeinspect.learning.datasets.masks.sources import MAX_CLASSES
from edgeinspect.learning.datasets.name_matching import normalize_name

_MAX_NAMES = 4


def find_kinds(
    groups: Iterable[tuple[str, str]], good: Set[str]
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """Find which folders below the classes of defects are kinds of them.

    Days, cameras and numbers are groups, and so are folders that the good images have too. Names
    that may be either stay groups, and a note names them.

    Args:
        groups: Class and group of each image: `("NG", "NG/2024-01-03/dent")`.
        good: The classes that are good.

    Returns:
        The class of each class and group that has a kind (`NG/dent`), and notes.
    """
    count: dict[str, Counter[str]] = defaultdict(Counter)
    kind_of: dict[tuple[str, str], str] = {}
    shared: set[str] = set()
    for name, group in groups:
        below = group.split("/")[1:]
        if name in good:
            shared.update(map(normalize_name, below))
        elif kind := next(filter(may_be_kind, below), ""):
            kind_of[name, group] = kind
            count[name][kind] += 1
    notes = []
    sure = set()
    for name, kinds in sorted(count.items()):
        if not shared.isdisjoint(map(normalize_name, kinds)):
            continue  # of the part, not of its defect
        if says_only_defective(name) and _are_kinds(kinds):
            sure.add(name)
            continue
        some = ", ".join(sorted(kinds)[:_MAX_NAMES]) + (", …" if len(kinds) > _MAX_NAMES else "")
        notes.append(f"the folders below {name}/ ({some}) are read as one class, {name}")
    classes = {key: f"{key[0]}/{kind}" for key, kind in kind_of.items() if key[0] in sure}
    return classes, notes


def _are_kinds(kinds: Counter[str]) -> bool:
    """Return whether folder names are kinds of defects, not parts, sides or a second opinion."""
    return (
        len(kinds) <= MAX_CLASSES
        and (len(kinds) == 1 or len({re.sub(r"\d+", "#", kind) for kind in kinds}) > 1)
        and (len(kinds) == 1 or max(kinds.values()) > 1)
        and not any(
            is_place(kind) or is_set_aside_folder(kind) or is_good_class(kind) for kind in kinds
        )
    )
