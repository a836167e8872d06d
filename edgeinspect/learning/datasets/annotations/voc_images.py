"""Finds the image of an XML file of Pascal VOC.

It is beside the file or in `JPEGImages/`, of the stem of the file or the name in it; or anywhere in
the set, if one image has that name, or one of them is in the folders of the file
(`Annotations/day1/a.xml`, `JPEGImages/day1/a.jpg`) or the folder that the file names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.name_matching import normalize_name
from edgeinspect.learning.datasets.vocabulary import (
    IMAGE_FOLDER_NAMES,
    SPLIT_NAMES,
    is_annotation_folder,
)

_LABEL_FOLDERS = frozenset(("xml", "xmls"))
_REMEDY = "Give each image a name that no other has, and its XML file the same"


class VocImageFinder:
    """Finds the images of XML files.

    Args:
        files: The images of the set.
        labels: All XML files of the set.
    """

    def __init__(self, files: ImageFiles, labels: Iterable[Path]) -> None:
        self._files = files
        labels = list(labels)
        self._stems = {normalize_name(label.stem) for label in labels}
        self._places = {self._place(path) for path in files.drawable_paths}
        self._are_alike = not self._places.isdisjoint({*map(self._place, labels)} - {()})
        """Some images and XML files are in folders of the same names."""
        self._parents = {normalize_name(path.parent.name) for path in files.drawable_paths}

    def find(self, label: Path, name: str, folder: str) -> Path | None:
        """Return the image of an XML file; None if the set does not have it.

        Args:
            label: The XML file.
            name: The name of the image in it, with `/`.
            folder: The folder in it; that of another machine says nothing.

        Raises:
            DataError: It may be of two images.
        """
        tag = normalize_name(folder).rpartition("/")[2]
        stem_name = f"{label.stem}{Path(name).suffix}"
        beside = self._files.find_beside(label.with_suffix(""))
        by_stem = self._near(label, stem_name, tag) or beside
        by_name = self._near(label, Path(name).name, tag)
        if by_stem is None or by_name is None:
            return by_stem or by_name or self._find_elsewhere(label, stem_name, tag)
        if by_stem != by_name and normalize_name(by_name.stem) not in self._stems:
            self._refuse(label, (by_stem, by_name))
        return by_stem

    def _near(self, label: Path, name: str, tag: str) -> Path | None:
        """Return the image of a name in one of the usual folders; None if there is none."""
        above = label.parent.parent
        folders = [above / "JPEGImages", label.parent, above / "images", above]
        found = [self._files.find_exact(name, [folder]) for folder in folders]
        images = list(dict.fromkeys(path for path in found if path is not None))
        if not images or not is_image_name(name):
            return None
        if len(images) > 1:
            images = [path for path in images if normalize_name(path.parent.name) == tag] or images
        if len(images) > 1:
            self._refuse(label, images)
        return images[0]

    def _find_elsewhere(self, label: Path, name: str, tag: str) -> Path | None:
        place = self._place(label)
        alike = self._files.named_alike(name)
        has_place = bool(place) and self._are_alike
        has_tag = tag in self._parents and tag not in SPLIT_NAMES
        if has_place:
            alike = [path for path in alike if self._place(path) == place]
        elif has_tag:
            alike = [path for path in alike if normalize_name(path.parent.name) == tag]
        if has_place or has_tag:
            if len(alike) > 1:
                self._refuse(label, alike)
            return alike[0] if alike else None
        return self._files.find(name)

    def _place(self, path: Path) -> tuple[str, ...]:
        """Return the folders of a file without those for images and labels."""
        return tuple(
            normalize_name(part)
            for part in path.relative_to(self._files.root).parts[:-1]
            if part.lower() not in IMAGE_FOLDER_NAMES | _LABEL_FOLDERS
            and not is_annotation_folder(part)
        )

    def _refuse(self, label: Path, images: Sequence[Path]) -> NoReturn:
        first, second = (str(path.relative_to(self._files.root)) for path in images[:2])
        raise DataError(
            f"may be of two images, {first} and {second}", where=str(label), remedy=_REMEDY
        )
