r"""Matches names in a table to files on disk.

Tables are often written on another machine than the one that reads the images. Names that differ
in case, Unicode form (NFC, NFD), surrounding blanks, `\` for `/`, leading folders or suffix
match if exactly one file fits.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from edgeinspect.errors import DataError
from edgeinspect.imaging import IMAGE_SUFFIXES

MAX_MISSING_COUNT = 2
"""This many names without an image are accepted in any set, however small."""
MAX_MISSING_RATIO = 0.2
"""With a higher ratio of names without an image, the table belongs to other images."""
MIN_EMPTY_LABEL_FACTOR = 3
"""If the images labelled as empty outnumber those without a label by this factor, the set labels
its good images, and an image without a label is unlabelled instead of good."""
_MAX_NAMES = 3


MASK_WORDS = r"(?:mask|gt|label|seg|annotation|ground_?truth)s?"
"""A regular expression for a word at the end of a mask's name."""
_MASK_BEFORE = re.compile(rf"{MASK_WORDS}[_\-. ]*(?P<stem>(?<=[_\-. ]).+|\d.*)", re.IGNORECASE)
"""`mask_NAME`, `gt-NAME`, `mask12`."""
_IMAGE_NAME = re.compile(
    r"(?:image|img|input)[_\-. ]*(?P<behind>(?<=[_\-. ]).+|\d.*)"
    r"|(?P<before>.+)[_\-. ](?:image|img|input|leftimg8bit)",
    re.IGNORECASE,
)
"""`image_NAME`, `img12`, `NAME_img`: the masks of these may have the rest of the name."""
MASK_NAME = re.compile(rf"(?P<stem>.+?)[_\-. ]?{MASK_WORDS}", re.IGNORECASE)
"""`NAME_mask`, `NAME_GT`, `NAME_label`: the mask of NAME."""
_LABEL_STUDIO_NAME = re.compile(r"[0-9a-f]{8}(?:-|__)(?P<name>.+)")
"""`19d7df64-NAME` of uploaded images, `19d7df64__NAME` of its exports."""


def normalize_name(name: str) -> str:
    """Return a name as it is compared: NFC, case-folded, without surrounding blanks."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    parts = [part.strip() for part in unicodedata.normalize("NFC", name).split("/")]
    return "/".join(part for part in parts if part not in ("", "."))


@lru_cache(maxsize=1 << 16)
def split_suffix(name: str) -> tuple[str, str]:
    """Return a normalised name without its image suffix, and the suffix."""
    stem, dot, suffix = normalize_name(name).rpartition(".")
    return (
        (stem, dot + suffix)
        if dot and dot + suffix in IMAGE_SUFFIXES
        else (normalize_name(name), "")
    )


def name_before_label_studio(name: str) -> str | None:
    """Return the name of an image before Label Studio put a number in front of it.

    None if there is no such number.
    """
    found = _LABEL_STUDIO_NAME.fullmatch(name)
    return found["name"] if found else None


def mask_stems(path: Path) -> list[str]:
    """Return the normalised stems of images that a file can be the mask of, the likeliest first.

    `a.png`, `a.jpg.png`, `a_mask.png`, `a.jpg_mask.png` and `mask_a.png` are masks of `a.jpg`.
    """
    stem = normalize_name(path.stem)
    matches = (MASK_NAME.fullmatch(stem), _MASK_BEFORE.fullmatch(stem))
    named = [found["stem"] for found in matches if found]
    stems = [stem, *named]
    return list(dict.fromkeys(each for one in stems for each in (one, split_suffix(one)[0])))


def bare_image_stem(stem: str) -> str | None:
    """Return a normalised stem without a word for images: `3` of `image_3`; None without one.

    Masks may be named so (`mask_3`, `3_mask`), if no image has the whole name.
    """
    found = _IMAGE_NAME.fullmatch(stem)
    return (found["behind"] or found["before"]) if found else None


def class_first_remedy(masks: Iterable[Path], images: Iterable[Path]) -> str:
    """Return how to name masks whose class is before the name of the image; empty if none is."""
    stems = {normalize_name(image.stem) for image in images}
    for mask in masks:
        for cut in re.finditer(r"[_\-. ]", mask.stem):
            word, stem = mask.stem[: cut.start()], mask.stem[cut.end() :]
            if word and normalize_name(stem) in stems:
                return (
                    f"Write the class after the name of the image: {stem}_{word}{mask.suffix} "
                    f"instead of {mask.name}"
                )
    return ""


class FileNameIndex:
    """Finds the image files of a folder by approximate name.

    Args:
        files: File names relative to their folder, with `/`.
        where: The table, for error messages.
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
        """Return the file that a name in the table refers to; None if there is none.

        Raises:
            DataError: Several files match, or two names of the table match the same file.
        """
        found = name if name in self._exact else self._find_similar(name)
        if found is not None:
            first = self._matched.setdefault(found, name)
            if not _is_same_name(first, name):
                raise DataError(
                    f"names {first} and {name}, which both match only {found}",
                    where=self._where,
                    remedy="Write the names exactly as the files are named",
                )
        return found

    def with_stem(self, name: str) -> list[str]:
        """Return the files in any folder whose name is that of a path, up to case and suffix."""
        return self._by_stem.get(split_suffix(name)[0].rpartition("/")[2], [])

    def _find_similar(self, name: str) -> str | None:
        stem, suffix = split_suffix(name)
        parts = stem.split("/")
        found = [
            each for each in self._by_stem.get(parts[-1], ()) if _is_same_path_end(each, parts)
        ]
        exact = [each for each in found if split_suffix(each)[1] == suffix]
        found = exact or found
        if len(found) > 1:
            raise DataError(
                f"'{name}' matches {' and '.join(found[:_MAX_NAMES])}",
                where=self._where,
                remedy="Write the name exactly as the file is named",
            )
        return found[0] if found else None


def _is_same_name(first: str, second: str) -> bool:
    """Return whether two names are spellings of one name."""
    one, other = split_suffix(first), split_suffix(second)
    return one[0] == other[0] and (one[1] == other[1] or "" in (one[1], other[1]))


def _is_same_path_end(file: str, parts: Sequence[str]) -> bool:
    """Return whether one of two paths ends in the other."""
    has = split_suffix(file)[0].split("/")
    count = min(len(has), len(parts))
    return has[-count:] == list(parts[-count:])


def are_few(count: int, total: int) -> bool:
    """Return whether so many files or names of a set may be left out, with a word on each."""
    return count <= max(MAX_MISSING_COUNT, MAX_MISSING_RATIO * total)


def check_missing_images(missing: Mapping[str, str], total: int, where: Path, folder: Path) -> None:
    """Check that a table belongs to the images of a folder.

    Args:
        missing: Names without an image, and the row of each.
        total: Number of names in the table.
        where: The table.
        folder: Folder of the images.

    Raises:
        DataError: More than a few names have no image.
    """
    if are_few(len(missing), total):
        return
    some = ", ".join(f"{name[:60]} ({row})" for name, row in list(missing.items())[:_MAX_NAMES])
    raise DataError(
        f"{len(missing)} of the {total} images that it names are not in {folder.name}/: {some}"
        + (", …" if len(missing) > _MAX_NAMES else ""),
        where=str(where),
        remedy="Put its images beside it, or correct the names",
    )
