"""Finds the image files that annotations name, and accounts for those that none names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import read_displayed_size
from edgeinspect.learning.datasets.dataset import SkippedImage
from edgeinspect.learning.datasets.files import images_below, subfolders
from edgeinspect.learning.datasets.name_matching import (
    FileNameIndex,
    mask_stems,
    name_before_label_studio,
    normalize_name,
)
from edgeinspect.learning.datasets.vocabulary import (
    SPLIT_NAMES,
    find_split_name,
    is_annotation_folder,
)

_DRIVE = re.compile(r"^[A-Za-z]:")
_UPLOAD = re.compile(r"\bupload/\d+/[^/]+$")
"""An image that was uploaded to Label Studio: its folders are those of the server."""


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
        parts = plain.split("/")
        original = name_before_label_studio(parts[-1])
        tails = ["/".join(parts[count:]) for count in range(len(parts))]
        for each in (*tails, *([original] if original else [])):
            if (found := self.find_exact(each, folders)) is not None:
                return found
            if (similar := self._index.find(each)) is not None:
                return self._by_name[similar]
        return None

    def find_all(
        self,
        names: Sequence[tuple[str, Sequence[Path]]],
        split: str | None = None,
        shared: Collection[Path] = (),
    ) -> list[Path | None]:
        """Return the file of each name of a list; None if there is none.

        How folders are read is decided for the whole list. If a name is found in its own folder,
        another below the same start is not found in a folder that it does not name: that image
        has the same name, but is another one.

        Args:
            names: Each name, and the folders where an exact match is looked for first.
            split: That of the list. If its folder has images of the list, those of the folders of
                other splits are not its own.
            shared: Images that lists of other splits may name too.

        Raises:
            DataError: Several files match a name, or two names match the same file.
        """
        found = [self.find_exact(name, folders) for name, folders in names]
        if None not in found:
            return found
        rule = _FolderRule(self.root, split, shared)
        for (name, _folders), path in zip(names, found, strict=True):
            for each in self.named_alike(name) if path is None else [path]:
                rule.learn(name, each, is_exact=path is not None)
        for index, (name, folders) in enumerate(names):
            if found[index] is None and (
                not (alike := self.named_alike(name))
                or any(rule.allows(name, each) for each in alike)
            ):
                path = self.find(name, folders)
                found[index] = path if path is None or rule.allows(name, path) else None
        return found

    def named_alike(self, name: str) -> list[Path]:
        """Return the files that a name means if its folders do not count."""
        base = posixpath.basename(name.replace("\\", "/"))
        places = self._index.with_stem(base)
        if not places and (original := name_before_label_studio(base)):
            places = self._index.with_stem(original)
        return [self._by_name[place] for place in places]

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
        return self.find_beside(label) or self.find(name or label.name)

    def find_beside(self, label: Path) -> Path | None:
        """Return the image of the same stem beside a label file (without its suffix)."""
        beside = (path for path in self._by_stem.get(label.name, ()) if path.parent == label.parent)
        return next(beside, None)

    def check_own_name(self, label: Path, image: Path) -> None:
        """Check that a label file that names its image does not have the name of another one.

        Args:
            label: The label file, which may be renamed after it was written, as may the images.
            image: The image that it names.

        Raises:
            DataError: Another image beside either has the name of the label file.
        """
        stem = label.with_suffix("")
        for place in (stem, image.parent / stem.name):
            other = self.find_exact(place.name, [place.parent]) or self.find_beside(place)
            if (
                other is None
                or self._is_drawn(other)
                or (other.parent, other.stem) == (image.parent, image.stem)
            ):
                continue
            named, alike = (each.relative_to(self.root).as_posix() for each in (image, other))
            raise DataError(
                f"may be of two images: it names {named}, and its own name is that of {alike}",
                where=str(label),
                remedy="Which image was labelled? Correct the name in the file, or rename the file",
            )

    def split_folders(self, split: str | None, *bases: Path) -> list[Path]:
        """Return the folders of a split in some folders of the set, and their `images`."""
        found = [
            folder
            for base in bases
            if split is not None and base.is_relative_to(self.root)
            for folder in subfolders(base)
            if SPLIT_NAMES.get(folder.name.lower()) == split
        ]
        return [each for folder in found for each in (folder, folder / "images")]

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


class _FolderRule:
    """Decides for a list of names which files may be meant by names that match none exactly."""

    def __init__(self, root: Path, split: str | None, shared: Collection[Path]) -> None:
        self._root = root
        self._split = split
        self._shared = shared
        self._starts: set[tuple[str, ...]] = set()
        self._places: dict[tuple[str, ...], set[Path]] = {}
        self._has_split = False

    def learn(self, name: str, path: Path, *, is_exact: bool) -> None:
        """Note a file that a name matches, exactly or by its last part."""
        folders = _folders_of(name)
        start = self._start(folders, path)
        if len(start) < len(folders) or (is_exact and folders == (".",)):
            self._starts.add(start)
        if is_exact:
            self._places.setdefault(folders, set()).add(path.parent)
        self._has_split |= self._split is not None and self._split_of(path) == self._split

    def allows(self, name: str, path: Path) -> bool:
        """Return whether a name may mean a file."""
        if self._has_split and path not in self._shared:
            split = self._split_of(path)
            if split is not None and split != self._split:
                return False
        folders = _folders_of(name)
        if len(folders) == 1:
            return True
        start = self._start(folders, path)
        is_kept = not any(start[:count] in self._starts for count in range(1, len(start)))
        return is_kept and path.parent in self._places.get(folders, (path.parent,))

    def _split_of(self, path: Path) -> str | None:
        return find_split_name(path.relative_to(self._root).parts[:-1])

    def _start(self, folders: tuple[str, ...], path: Path) -> tuple[str, ...]:
        """Return the folders of a name without those in which its file lies too."""
        has = _normal_folders(path, self._root)
        count = 0
        while count < min(len(has), len(folders) - 1) and has[-1 - count] == folders[-1 - count]:
            count += 1
        return folders[: len(folders) - count]


@lru_cache(maxsize=1 << 16)
def _normal_folders(path: Path, root: Path) -> list[str]:
    return normalize_name(path.parent.relative_to(root).as_posix()).split("/")


@lru_cache(maxsize=1 << 16)
def _folders_of(name: str) -> tuple[str, ...]:
    """Return the folders of a name after a word for where they start."""
    plain = _DRIVE.sub("", name.replace("\\", "/"))
    is_absolute = plain != name.replace("\\", "/") or plain.startswith("/")
    start = "upload" if _UPLOAD.search(plain) else "/" if is_absolute else "."
    return (start, *(part for part in normalize_name(plain).split("/")[:-1] if part != ".."))


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
