r"""Names in a table against the files on disk: matched to exactly one, or said to be none.

A table is often written on another machine than the pictures are read on. Names that differ
in case, in the form of their accents (NFC, NFD), in blanks at an end, in `\` for `/`, in the
folders before them or in their ending are the same name, as long as one file alone has it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging import IMAGE_SUFFIXES

MAX_MISSING_COUNT = 2
"""So many names without a picture are a few in any set, however small."""
MAX_MISSING_RATIO = 0.2
"""More names without a picture than this: the table is of other pictures."""
MIN_CLEAN_FACTOR = 3
"""So many times more clean pictures with an empty label than pictures without one, and the set
labels its clean pictures: of those without a label nothing is known."""
_MAX_NAMES = 3


def normalize_name(name: str) -> str:
    """A name as it compares: one form of its letters, no capitals, no blanks at its ends."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    parts = [part.strip() for part in unicodedata.normalize("NFC", name).split("/")]
    return "/".join(part for part in parts if part not in ("", "."))


def split_suffix(name: str) -> tuple[str, str]:
    """A folded name without a picture's ending, and that ending."""
    stem, dot, suffix = normalize_name(name).rpartition(".")
    return (
        (stem, dot + suffix)
        if dot and dot + suffix in IMAGE_SUFFIXES
        else (normalize_name(name), "")
    )


class FileNameIndex:
    """The pictures of a folder by name.

    Args:
        files: By the name that is theirs: relative to their folder, with `/`.
        where: The table, for messages.
    """

    def __init__(self, files: Iterable[str], where: str) -> None:
        self._where = where
        self._exact = set(files)
        self._by_stem: dict[str, list[str]] = {}
        for name in sorted(self._exact):
            stem = split_suffix(name)[0].rpartition("/")[2]
            self._by_stem.setdefault(stem, []).append(name)
        self._matched: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        """The file that a table means; None if there is none.

        Raises:
            DataError: Several could be meant, or another name of the table means the same file.
        """
        found = name if name in self._exact else self._find_similar(name)
        if found is not None:
            first = self._matched.setdefault(found, name)
            if not _is_same_name(first, name):
                raise DataError(
                    f"names {first} and {name}, and both can only be {found}",
                    where=self._where,
                    remedy="Write the names as the files have them",
                )
        return found

    def _find_similar(self, name: str) -> str | None:
        stem, suffix = split_suffix(name)
        wanted = stem.split("/")
        found = [
            each for each in self._by_stem.get(wanted[-1], ()) if _is_same_path_end(each, wanted)
        ]
        exact = [each for each in found if split_suffix(each)[1] == suffix]
        found = exact or found
        if len(found) > 1:
            raise DataError(
                f"'{name}' could be {' or '.join(found[:_MAX_NAMES])}",
                where=self._where,
                remedy="Write the name as the file has it",
            )
        return found[0] if found else None


def _is_same_name(first: str, second: str) -> bool:
    """True for two spellings of one name."""
    one, other = split_suffix(first), split_suffix(second)
    return one[0] == other[0] and (one[1] == other[1] or "" in (one[1], other[1]))


def _is_same_path_end(file: str, wanted: Sequence[str]) -> bool:
    """True if one of two paths ends in the other."""
    has = split_suffix(file)[0].split("/")
    count = min(len(has), len(wanted))
    return has[-count:] == list(wanted[-count:])


def check_missing_images(missing: Mapping[str, str], total: int, where: Path, folder: Path) -> None:
    """Refuse a table that is of other pictures.

    Args:
        missing: Names without a picture, and the row of each.
        total: Names in the table.
        where: The table.
        folder: Of the pictures.

    Raises:
        DataError: More than a few names have no picture.
    """
    if len(missing) <= max(MAX_MISSING_COUNT, MAX_MISSING_RATIO * total):
        return
    some = ", ".join(f"{name[:60]} ({row})" for name, row in list(missing.items())[:_MAX_NAMES])
    raise DataError(
        f"{len(missing)} of the {total} pictures that it names are not in {folder.name}/: {some}"
        + (", …" if len(missing) > _MAX_NAMES else ""),
        where=str(where),
        remedy="Put its own pictures beside it, or correct the names",
    )
