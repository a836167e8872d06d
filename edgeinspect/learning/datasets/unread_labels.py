"""Finds images with a label file of another format than the one that was read.

A set that was labelled with two tools has two formats. A layout reads one of them, and the images
of the other would count as good. Where folders are read as classes, any such file may be the
label instead: the folders can be days or parts, or say less than the files (`NG/`), or something
else.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.label_files import files_below, read_ends
from edgeinspect.learning.datasets.annotations.yolo_files import find_yaml, read_yolo_files
from edgeinspect.learning.datasets.class_names import (
    is_defect_class,
    is_good_class,
    says_only_defective,
)
from edgeinspect.learning.datasets.dataset import Dataset, Sample
from edgeinspect.learning.datasets.masks.label_maps import BACKGROUND_NAMES, IGNORED_NAMES
from edgeinspect.learning.datasets.name_matching import normalize_name
from edgeinspect.learning.datasets.vocabulary import (
    IMAGE_FOLDER_NAMES,
    is_annotation_folder,
    split_words,
)
from edgeinspect.system import escape_name

_SUFFIXES = (".json", ".xml", ".txt")
_DEPTH = 6
_FILE_PER_IMAGE = frozenset(("labelme", "labelme_xml", "voc", "yolo"))
"""Layouts in which an image without a label file is good: naming one does not label the others."""
_YOLO_LINE = re.compile(r"(\d{1,5})((?:\s+[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?){4,})")
_MAX_RELATIVE = 1.01
"""YOLO's coordinates are fractions of the image."""


@dataclass(frozen=True, slots=True)
class _Format:
    """A format with a label file per image."""

    layout: str
    suffix: str
    name: str
    words: tuple[bytes, ...]
    without: tuple[bytes, ...]
    class_name: re.Pattern[bytes]
    """Finds the class of each object."""


_Label = tuple[str, str, Sequence[str | int]]
"""Layout and name of a label file's format, and the classes of its objects."""

_OBJECT_NAME = re.compile(rb"<object>.*?<name>([^<]*)</name>", re.DOTALL)
_FORMATS = (
    _Format(
        "labelme",
        ".json",
        "labelme's JSON",
        (b'"shapes"', b'"imagePath"'),
        (),
        re.compile(rb'"label"\s*:\s*"([^"]*)"'),
    ),
    _Format(
        "supervisely",
        ".json",
        "Supervisely's JSON",
        (b'"objects"', b'"classTitle"'),
        (),
        re.compile(rb'"classTitle"\s*:\s*"([^"]*)"'),
    ),
    _Format(
        "voc", ".xml", "Pascal VOC's XML", (b"</annotation>",), (b"<imagesize>",), _OBJECT_NAME
    ),
    _Format(
        "labelme_xml", ".xml", "LabelMe's XML", (b"</annotation>", b"<imagesize>"), (), _OBJECT_NAME
    ),
)


def with_unread_labels(
    data: Dataset, root: Path, good_classes: tuple[str, ...], *, is_layout_given: bool
) -> Dataset:
    """Return the set if no image has a label that its layout does not read and contradicts it.

    Args:
        data: As read by its layout.
        root: The folder that the user gave, or the file.
        good_classes: As the user named them.
        is_layout_given: The user named the layout: labels of other formats are noted then,
            except for layouts in which an image without a label file is good.

    Raises:
        DataError: There are such images.
    """
    if not root.is_dir():
        return data
    labels = _LabelIndex(data, root, good_classes)
    by_folders = data.layout == "class_folder"
    found = [
        (sample, *label)
        for sample in data.samples
        if (by_folders or not sample.is_defective)
        and (label := labels.unread_of(sample)) is not None
    ]
    if not found:
        return data if is_layout_given or not by_folders else _with_agreeing_labels(data, labels)
    sample, path, layout, name = found[0]
    defective = sum(each.is_defective for each, *_label in found)
    kind = "image" if defective else "good image"
    count = number_of(len(found), f"{kind} has", f"{kind}s have")
    what = (
        f"{count} a label in {name}, which layout {data.layout} does not read, such as "
        f"{sample.name}: {escape_name(path.relative_to(root))}"
    )
    only_note = data.layout not in _FILE_PER_IMAGE
    if only_note and is_layout_given:
        return data.with_notes(what)
    remedies = []
    if not by_folders:
        remedies.append(
            "Convert these labels to the format of the others, or move their images into a set of "
            "their own"
        )
    if only_note:
        remedies.append(
            f"--layout {layout} reads the labels, --layout {data.layout} "
            + ("the folders" if by_folders else "ignores them")
        )
    raise DataError(what, where=escape_name(root), remedy="; ".join(remedies))


def _with_agreeing_labels(data: Dataset, labels: _LabelIndex) -> Dataset:
    """Return a set read by its folders with a note on label files that name the same classes."""
    found = Counter(
        label
        for sample in data.samples
        if sample.is_defective
        for label in {each[:2] for each in labels.labels_of(sample).values() if each[2]}
    )
    return data.with_notes(
        *(
            f"{number_of(count, 'image has', 'images have')} a label in {name} that agrees with "
            f"the folder: it is not read; --layout {layout} reads it"
            for (layout, name), count in sorted(found.items())
        )
    )


class _LabelIndex:
    """The label files below a folder, by the stem of their images."""

    def __init__(self, data: Dataset, root: Path, good_classes: tuple[str, ...]) -> None:
        self._root = root
        self._layout = data.layout
        self._good_classes = good_classes
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for suffix in _SUFFIXES:
            for path in files_below(root, suffix, _DEPTH):
                self._by_stem[_image_stem(path)].append(path)
        self._count = Counter(normalize_name(sample.path.stem) for sample in data.samples)
        self._exact = {sample.path.stem for sample in data.samples}
        self._yolo_names: Mapping[int, str] | None = None
        self._read: dict[Path, _Label | None] = {}

    def labels_of(self, sample: Sample) -> dict[Path, _Label]:
        """Return the label files of an image in any of the formats."""
        found = {}
        for path in self._by_stem.get(normalize_name(sample.path.stem), ()):
            if self._is_label_of(path, sample.path):
                if path not in self._read:
                    self._read[path] = _read_classes(path)
                if (label := self._read[path]) is not None:
                    found[path] = label
        return found

    def unread_of(self, sample: Sample) -> tuple[Path, str, str] | None:
        """Return a label of a defect that was not read, its layout and the name of its format.

        None if there is none.

        For an image with a label file in the format that was read, others of that format alone
        count: they contradict it. A label that names the class of its image says nothing else.
        """
        formats = self.labels_of(sample)
        own = {path for path, found in formats.items() if found[0] == self._layout}
        for path, found in formats.items():
            if own and path not in own:
                continue
            names = [self._name_of(one) if isinstance(one, int) else one for one in found[2]]
            if any(
                self._is_defect(name) and not _agrees(name, sample.class_name or "")
                for name in names
            ):
                return path, found[0], found[1]
        return None

    def _is_defect(self, name: str) -> bool:
        """Return whether an object of a class is a defect."""
        return not is_good_class(name, self._good_classes) and (
            name.strip().casefold() not in BACKGROUND_NAMES | IGNORED_NAMES
        )

    def _name_of(self, class_id: int) -> str:
        if self._yolo_names is None:
            try:
                files = ImageFiles(self._root, self._root)
                self._yolo_names = read_yolo_files(self._root, find_yaml(self._root), files).names
            except DataError:
                self._yolo_names = {}
        return self._yolo_names.get(class_id, "defect")

    def _is_label_of(self, label: Path, image: Path) -> bool:
        """Return whether a file of the same stem belongs to an image: beside it, or its twin."""
        stem = Path(label.stem).stem if is_image_name(label.stem) else label.stem
        if stem != image.stem and stem in self._exact:
            return False  # of an image whose name differs in case
        if label.parent == image.parent or self._count[normalize_name(image.stem)] == 1:
            return True
        return image.is_relative_to(self._root) and label_place(label, self._root) == label_place(
            image, self._root
        )


def _agrees(name: str, folder_class: str) -> bool:
    """Return whether an object's class says no more than the class of its image, or the same.

    If the folder says defective, a name that says no more agrees (`defect`), and one that shares
    a word: `Kratzer` and `NIO_Kratzer`, `scratches` and `NG/scratch`.
    """
    if name == folder_class:
        return True
    if not is_defect_class(folder_class):
        return False
    words = set(split_words(folder_class.rpartition("/")[2]))
    return says_only_defective(name) or any(
        one == other
        or (min(map(len, (one, other))) > 2 and (one.startswith(other) or other.startswith(one)))
        for one in split_words(name)
        for other in words
    )


def _image_stem(label: Path) -> str:
    """Return the stem of the image of a label file: of `a.json`, or Supervisely's `a.png.json`."""
    stem = Path(label.stem)
    return normalize_name(stem.stem if is_image_name(label.stem) else label.stem)


def label_place(path: Path, root: Path) -> list[str]:
    """Return the folders of a file without those for images and labels."""
    return [
        part.lower()
        for part in path.relative_to(root).parts[:-1]
        if part.lower() not in IMAGE_FOLDER_NAMES and not is_annotation_folder(part)
    ]


def _read_classes(path: Path) -> _Label | None:
    """Return the layout and the name of a label file's format, and the classes of its objects.

    None if it is in none of the formats. YOLO's classes are ids.
    """
    data = read_ends(path)
    if path.suffix.lower() == ".txt":
        ids = _yolo_ids(data.decode("utf-8", "replace").splitlines())
        return None if ids is None else ("yolo", "YOLO's format", ids)
    for each in _FORMATS:
        if (
            path.suffix.lower() == each.suffix
            and all(word in data for word in each.words)
            and not any(word in data for word in each.without)
        ):
            names = [name.decode("utf-8", "replace") for name in each.class_name.findall(data)]
            return each.layout, each.name, names
    return None


def _yolo_ids(lines: Iterable[str]) -> list[int] | None:
    """Return the ids of YOLO's lines; None if a line is none."""
    ids = []
    for line in lines:
        if not line.strip():
            continue
        found = _YOLO_LINE.fullmatch(line.strip())
        if found is None or max(map(abs, map(float, found[2].split()))) > _MAX_RELATIVE:
            return None
        ids.append(int(found[1]))
    return ids
