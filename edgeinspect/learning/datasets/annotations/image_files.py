"""Finds the image files that annotations name, and accounts for those that none names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import read_displayed_size
from edgeinspect.learning.datasets.dataset import SkippedImage
from edgeinspect.learning.datasets.files import images_below
from edgeinspect.learning.datasets.name_matching import (
    FileNameIndex,
    mask_stems,
    name_before_label_studio,
    normalize_name,
)
from edgeinspect.learning.datasets.vocabulary import is_annotation_folder

_DRIVE = re.compile(r"^[A-Za-z]:")


class ImageFiles:
    """The image files below a folder; nothing outside of it is ever read.

    Args:
        root: Folder of the set.
        where: The file that names images, for messages.
    """

    def __init__(self, root: Path, where: Path) -> None:
        self.root = root
        self._by_name = {path.relative_to(root).as_posix(): path for path in images_below(root)}
        self._index = FileNameIndex(
            (name for name, path in self._by_name.items() if not self._is_drawn(path)), str(where)
        )
        self._where = str(where)
        self._by_normal: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for path in self._by_name.values():
            self._by_stem.setdefault(path.stem, []).append(path)
        self._sizes: dict[Path, tuple[int, int] | None] = {}

    @property
    def paths(self) -> list[Path]:
        """Every image, in natural order."""
        return list(self._by_name.values())

    @property
    def drawable_paths(self) -> list[Path]:
        """Every image that is not in a folder of masks or visualizations, in natural order."""
        return [path for path in self._by_name.values() if not self._is_drawn(path)]

    def find(self, name: str, folders: Sequence[Path] = ()) -> Path | None:
        """Return the file of a name; None if there is none.

        Args:
            name: A file name or path, maybe of another machine.
            folders: Where an exact match is looked for first, in this order.

        Raises:
            DataError: Several files match, or another name matches the same file.
        """
        plain = _DRIVE.sub("", name.replace("\\", "/"))
        base = posixpath.basename(plain)
        original = name_before_label_studio(base)
        for each in (plain, base, *([original] if original else [])):
            if (found := self.find_exact(each, folders)) is not None:
                return found
            if (similar := self._index.find(each)) is not None:
                return self._by_name[similar]
        return None

    def find_exact(self, name: str, folders: Sequence[Path]) -> Path | None:
        """Return the file of a name relative to one of some folders; None if there is none."""
        plain = _DRIVE.sub("", name.replace("\\", "/")).lstrip("/")
        for folder in folders:
            if folder.is_relative_to(self.root):
                base = folder.relative_to(self.root).as_posix()
                if path := self._by_name.get(posixpath.normpath(posixpath.join(base, plain))):
                    return path
        return None

    def find_alike(self, name: str, folders: Sequence[Path]) -> Path | None:
        """Return the file of a name in one of some folders; None if there is none.

        Unlike `find_exact`, names may differ in case and Unicode form, also those of the folders.

        Raises:
            DataError: Several files of a folder match.
        """
        if (exact := self.find_exact(name, folders)) is not None:
            return exact
        if not self._by_normal:
            for place, path in self._by_name.items():
                self._by_normal.setdefault(normalize_name(place), []).append(path)
        for folder in folders:
            if folder.is_relative_to(self.root):
                base = folder.relative_to(self.root).as_posix()
                found = self._by_normal.get(normalize_name(posixpath.join(base, name)), [])
                if len(found) > 1:
                    raise DataError(
                        f"{name!r} matches {' and '.join(path.name for path in found[:3])}",
                        where=self._where,
                        remedy="Write the name exactly as the file is named",
                    )
                if found:
                    return found[0]
        return None

    def find_stem(self, label: Path, name: str = "") -> Path | None:
        """Return the image of a label file: of the same stem beside it, or elsewhere in the set.

        Args:
            label: The label file without its suffix.
            name: Name of the image that the label file states.
        """
        beside = [path for path in self._by_stem.get(label.name, ()) if path.parent == label.parent]
        if beside:
            return beside[0]
        return self.find(name or label.name)

    def size_of(self, path: Path) -> tuple[int, int] | None:
        """Return (height_px, width_px) of an image as displayed; None if it is unreadable."""
        if path not in self._sizes:
            size = read_displayed_size(path)
            self._sizes[path] = None if size is None else (size.height_px, size.width_px)
        return self._sizes[path]

    def unlisted(self, used: Iterable[Path], where: Path) -> tuple[list[SkippedImage], list[str]]:
        """Return the images that no annotation file names, as skipped, and a note on them."""
        labelled = {name: path for name, path in self._by_name.items() if not self._is_drawn(path)}
        skipped = skip_unlisted(labelled, used, f"is not in {where.name}")
        if not skipped:
            return [], []
        count = number_of(len(skipped), "image is", "images are")
        return skipped, [f"{count} not in {where.name}, so not labelled: skipped"]

    def _is_drawn(self, path: Path) -> bool:
        """Return whether a file is in a folder of masks or visualizations."""
        return any(map(is_annotation_folder, path.relative_to(self.root).parts[:-1]))


def skip_unlisted(
    names: Mapping[str, Path], used: Iterable[Path], reason: str
) -> list[SkippedImage]:
    """Return the images that a file with labels does not name, as skipped.

    Args:
        names: Every image of the set, by name.
        used: Those that the file names.
        reason: Why the others are skipped.
    """
    known = set(used)
    stems = {(path.parent, normalize_name(path.stem)) for path in known}
    return [
        SkippedImage(
            name,
            reason,
            is_intentional=True,
            is_unlisted=not any((path.parent, stem) in stems for stem in mask_stems(path)),
        )
        for name, path in names.items()
        if path not in known
    ]
