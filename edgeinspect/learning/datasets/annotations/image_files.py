"""Finds the image files that annotations name, and accounts for those that none names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import read_displayed_size
from edgeinspect.learning.datasets.dataset import LayoutHints, SkippedImage
from edgeinspect.learning.datasets.files import images_below
from edgeinspect.learning.datasets.layouts import class_folder
from edgeinspect.learning.datasets.name_matching import (
    MAX_MISSING_COUNT,
    MAX_MISSING_RATIO,
    MIN_EMPTY_LABEL_FACTOR,
    FileNameIndex,
)
from edgeinspect.learning.datasets.vocabulary import is_annotation_folder, is_defect_class

_MAX_NAMES = 3
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?P<name>.+)")
"""Label Studio puts a random number before the names of uploaded images."""
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
        upload = _UPLOAD.fullmatch(base)
        for each in (plain, base, *([upload["name"]] if upload else [])):
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
        known = set(used)
        names = [
            name
            for name, path in self._by_name.items()
            if path not in known and not self._is_drawn(path)
        ]
        if not names:
            return [], []
        count = number_of(len(names), "image is", "images are")
        skipped = [SkippedImage(name, f"is not in {where.name}", True) for name in names]
        return skipped, [f"{count} not in {where.name}, so not labelled: skipped"]

    def _is_drawn(self, path: Path) -> bool:
        """Return whether a file is in a folder of masks or visualizations."""
        return any(map(is_annotation_folder, path.relative_to(self.root).parts[:-1]))


def skip_unlabelled(
    root: Path, bare: Sequence[Path], empty_count: int, total: int, what: str, hints: LayoutHints
) -> tuple[list[SkippedImage], list[str]]:
    """Return which images without a label file are unlabelled; the others are good.

    They are unlabelled if the set has an empty label file for its good images.

    Args:
        root: Folder of the set.
        bare: Images without a label file.
        empty_count: Number of images whose label file is empty.
        total: Number of all images.
        what: Name of a label file: `JSON file`.
        hints: What the user stated.

    Returns:
        The unlabelled images as skipped, and notes.

    Raises:
        DataError: Those are more than a few, or the folders of images that would count as good
            are classes.
    """
    if not bare:
        return [], []
    some = ", ".join(str(path.relative_to(root)) for path in bare[:_MAX_NAMES])
    some += ", …" if bare[_MAX_NAMES:] else ""
    if empty_count >= MIN_EMPTY_LABEL_FACTOR * len(bare):
        if len(bare) > max(MAX_MISSING_COUNT, MAX_MISSING_RATIO * total):
            raise DataError(
                f"{len(bare)} of {total} images have no {what} ({some}), while {empty_count} "
                "others have an empty one",
                where=str(root),
                remedy="Label them, or remove unlabelled images",
            )
        reason = f"has no {what}, while good images have an empty one"
        return [SkippedImage(str(path.relative_to(root)), reason) for path in bare], []
    check_not_in_class_folders(root, bare, f"no {what}", hints)
    return [], [f"{len(bare)} of {total} images have no {what}: taken as good ({some})"]


def check_not_in_class_folders(
    root: Path, paths: Sequence[Path], what: str, hints: LayoutHints
) -> None:
    """Check that images that would count as good are not labelled by their folders.

    Args:
        root: Folder of the set.
        paths: Images without a label.
        what: What they lack: `no JSON file`.
        hints: If they name the layout, folders are no classes.

    Raises:
        DataError: The folders are classes by their names or number.
    """
    if not paths or hints.layout is not None:
        return
    found = [path for path in paths if any(map(is_defect_class, path.relative_to(root).parts[:-1]))]
    if found or class_folder.recognise(root):
        path = (found or paths)[0].relative_to(root)
        raise DataError(
            f"images such as {path} have {what} and would count as good, but folders seem to be "
            "their classes",
            where=str(root),
            remedy="--layout class_folder reads folders as classes; if they are not, name the "
            "layout of the annotations",
        )
