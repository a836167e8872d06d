"""YOLO's text files: a line per object with its class and a box, or the corners of a polygon.

`images/a.jpg` and `labels/a.txt` (also below `train/`, `val/`, or `images/train/`), or `a.txt`
beside `a.jpg`; names and splits as in `annotations/yolo_files.py`. Coordinates are relative to
the size of the image. An image with an empty label file is good, and so is one without a label
file, unless the good images of the set have one, or no image of its split has one.

Source: "Object Detection Datasets" and "Instance Segmentation Datasets" in the documentation of
Ultralytics
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.imaging import is_image_name
from edgeinspect.learning.datasets.annotations.annotated_set import (
    AnnotatedImage,
    AnnotatedImages,
    dataset_from_annotations,
)
from edgeinspect.learning.datasets.annotations.documents import parse_floats, parse_whole
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.label_files import (
    files_below,
    files_with_suffix,
    own_label_files,
    read_ends,
)
from edgeinspect.learning.datasets.annotations.shapes import Box, LabelledShape, Polygon, Shape
from edgeinspect.learning.datasets.annotations.unlabelled import skip_unlabelled
from edgeinspect.learning.datasets.annotations.yolo_files import (
    NAME_LISTS,
    YoloFiles,
    find_yaml,
    read_yolo_files,
)
from edgeinspect.learning.datasets.annotations.yolo_label_files import (
    LABEL_DEPTH,
    LABEL_SUFFIX,
    find_labels,
    without_label_folder,
)
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.files import files_in, subfolders
from edgeinspect.learning.datasets.layouts._unlabelled import (
    skip_unread,
    skip_without_label,
)
from edgeinspect.learning.datasets.name_matching import (
    are_few,
    normalize_name,
)
from edgeinspect.learning.datasets.tables import read_table_text
from edgeinspect.learning.datasets.vocabulary import find_split_name, split_words

NEEDS = "YOLO's labels (labels/a.txt for images/a.jpg, or beside it); data.yaml or obj.names"
RANK = 18
_MAX_PEEKED = 64
_FILE_BYTES_MAX = 1 << 24
_BOX_VALUES = 4
_MAX_ID = 9999
_CORNERS_OF_BOX = 4
_MIN_POLYGON_VALUES = 6
_BEYOND = 0.01
"""Relative coordinates may exceed 0 to 1 by this much: they were rounded or clipped."""
_UNREADABLE_SIZE = (1000, 1000)
"""Assumed of an image that cannot be read, so that its label is still known."""
_MAX_NAMES = 3


def recognise(path: Path) -> bool:
    """Return whether this is a data.yaml, or a folder with one, or with labels of YOLO."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml") and find_yaml(path.parent) is not None
    if find_yaml(path) or (path / "obj.names").is_file() or (path / "obj.data").is_file():
        return True
    labels = [
        own_label_files(path, LABEL_SUFFIX, "labels", "label", "images"),
        *(
            files_with_suffix(folder, LABEL_SUFFIX)
            for folder in subfolders(path)
            if folder.name.lower().startswith("obj_")
        ),
    ]
    return any(any(map(_is_label, islice(each, _MAX_PEEKED))) for each in labels)


def accepts(path: Path) -> bool:
    """Return whether a folder has labels of YOLO anywhere, or `recognise` says so."""
    return recognise(path) or (
        path.is_dir() and any(map(_is_label, islice(files_below(path, LABEL_SUFFIX), _MAX_PEEKED)))
    )


def _is_label(file: Path) -> bool:
    """Return whether a file has lines of YOLO and is where labels are."""
    if file.name in NAME_LISTS or not _has_label_lines(file):
        return False
    if "labels" in (part.lower() for part in file.parts[-4:-1]):
        return True
    stem = normalize_name(file.stem)
    return any(
        is_image_name(each.name) and stem in (normalize_name(each.stem), normalize_name(each.name))
        for each in files_in(file.parent)
    )


def _has_label_lines(file: Path) -> bool:
    lines = [line.split() for line in read_ends(file).splitlines()[:4] if line.strip()]
    try:
        return bool(lines) and all(
            len(line) > _BOX_VALUES
            and int(line[0][:8]) >= 0
            and all(0 <= float(word[:32]) <= 1 for word in line[1:5])
            for line in lines
        )
    except ValueError:
        return False


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the images that the set lists, or all of them, with their labels.

    Raises:
        DataError: A line is malformed, has an unknown class or coordinates outside of 0 to 1;
            or more than a few labels have no image.
    """
    root = path if path.is_dir() else path.parent
    yaml = path if path.is_file() else find_yaml(root)
    files = ImageFiles(root, yaml or root)
    declared = read_yolo_files(root, yaml, files)
    splits: Mapping[Path, str | None] = declared.splits or {
        image: _split_of(image, root) for image in files.drawable_paths
    }
    labels = find_labels(list(splits), root)
    skipped = skip_unread(root, labels)
    for one in skipped:
        labels.pop(root / one.name)
    unlabelled = without_label_folder(labels, splits, root, hints)
    skipped += skip_unlabelled(root, unlabelled, len(labels))
    for image in unlabelled:
        labels.pop(image)
    images, used_ids = [], set[int]()
    for image, label in labels.items():
        size = files.size_of(image) or _UNREADABLE_SIZE
        shapes = [] if label is None else list(_read_label(label, size, declared))
        used_ids |= {class_id for class_id, _shape in shapes}
        images.append(
            AnnotatedImage(
                image,
                str(label or image),
                tuple(shape for _class_id, shape in shapes),
                split=splits[image],
            )
        )
    if used_ids and declared.source and not declared.names:
        raise DataError(
            f"names no class, but labels have class {min(used_ids)}",
            where=declared.source,
            remedy="Write the names of the classes, from id 0",
        )
    names = dict(declared.names) or {
        index: _unnamed(index) for index in range(max(used_ids, default=-1) + 1)
    }
    skipped += _skip_orphans(root, [label for label in labels.values() if label is not None])
    skipped += [
        SkippedImage(name, f"{line} names it, but the image does not exist")
        for name, line in declared.missing.items()
    ]
    bare, notes = _account_for_bare(root, labels, images, hints)
    skipped += bare
    left_out = {one.name for one in bare}
    images = [each for each in images if str(each.path.relative_to(root)) not in left_out]
    notes = [*declared.notes, *notes]
    if not declared.names and names:
        notes.append(
            "no file names the classes (data.yaml, obj.names, classes.txt): they are called "
            f"{', '.join(names[index] for index in list(names)[:_MAX_NAMES])}"
            + (" …" if len(names) > _MAX_NAMES else "")
        )
    if declared.splits:
        unlisted, more = files.unlisted(splits, yaml or root / "train.txt")
        skipped, notes = skipped + unlisted, notes + more
    images, more = _with_corner_boxes(images)
    found = AnnotatedImages(
        root,
        "yolo",
        files,
        images,
        tuple(names[index] for index in sorted(names)),
        [*notes, *more],
        skipped,
    )
    return dataset_from_annotations(found, hints)


def _unnamed(index: int) -> str:
    return f"class_{index}"


def _split_of(image: Path, root: Path) -> str | None:
    """Return the split of an image by its folders: `images/train/`, `obj_train_data/`."""
    parts = image.relative_to(root).parts[:-1]
    split = find_split_name(parts)
    if split is None:
        split = find_split_name(word for part in parts for word in split_words(part))
    return split


def _read_label(
    path: Path, size: tuple[int, int], declared: YoloFiles
) -> Iterator[tuple[int, LabelledShape]]:
    """Yield the class id and the shape of each line."""
    for line, text in enumerate(read_table_text(path, _FILE_BYTES_MAX).splitlines(), 1):
        words = text.split()
        if not words:
            continue
        where = f"{path}:{line}"
        class_id = parse_whole(words[0], "class", where)
        if not 0 <= class_id <= _MAX_ID or (declared.names and class_id not in declared.names):
            raise DataError(
                f"has class {class_id}, which {Path(declared.source).name or 'YOLO'} does not have",
                where=where,
                remedy=f"It has the classes {', '.join(map(str, sorted(declared.names)[:20]))}"
                if declared.names
                else "",
            )
        values = parse_floats(words[1:], "coordinate", where)
        if declared.has_keypoints:
            values = values[:_BOX_VALUES]
        name = declared.names.get(class_id, _unnamed(class_id))
        yield class_id, LabelledShape(name, _read_shape(values, size, where), where)


def _read_shape(values: Sequence[float], size: tuple[int, int], where: str) -> Shape:
    height, width = size
    if any(not -_BEYOND <= value <= 1 + _BEYOND for value in values):
        raise DataError(
            "has a coordinate that is not between 0 and 1",
            where=where,
            remedy="YOLO's coordinates are relative to the width and height of the image",
        )
    if len(values) == _BOX_VALUES:
        x, y, across, down = values
        if across < 0 or down < 0:
            raise DataError("has a box of negative size", where=where)
        corners = np.array(((x - across / 2, y - down / 2), (x + across / 2, y + down / 2)))
        clipped = np.clip(corners, 0, 1)
        if np.abs(corners - clipped).max() > _BEYOND:
            raise DataError(
                f"has a box from {corners[0, 0]:g}, {corners[0, 1]:g} to {corners[1, 0]:g}, "
                f"{corners[1, 1]:g}, which is outside of its image",
                where=where,
                remedy="A box is its centre, width and height, relative to the size of the image",
            )
        return Box(*map(float, (clipped * (width, height)).ravel()))
    if len(values) < _MIN_POLYGON_VALUES or len(values) % 2:
        raise DataError(
            f"has {len(values)} numbers behind the class; a box has 4, a polygon 6, 8, 10 …",
            where=where,
            remedy="Is the last one a confidence? Labels have none" if len(values) == 5 else "",
        )
    return Polygon((np.clip(np.asarray(values).reshape(-1, 2), 0, 1) * (width, height),))


def _with_corner_boxes(images: list[AnnotatedImage]) -> tuple[list[AnnotatedImage], list[str]]:
    """Return the images with polygons as rotated boxes if each of them has four corners."""
    polygons = [
        one.shape for image in images for one in image.shapes if isinstance(one.shape, Polygon)
    ]
    if not polygons or any(len(one.rings[0]) != _CORNERS_OF_BOX for one in polygons):
        return images, []

    def as_box(one: LabelledShape) -> LabelledShape:
        shape = one.shape
        return (
            replace(one, shape=replace(shape, is_box=True)) if isinstance(shape, Polygon) else one
        )

    boxed = [replace(image, shapes=tuple(map(as_box, image.shapes))) for image in images]
    return boxed, ["each polygon has four corners, so they are taken as rotated boxes"]


def _skip_orphans(root: Path, used: Sequence[Path]) -> list[SkippedImage]:
    """Return label files without an image.

    Raises:
        DataError: They are more than a few.
    """
    known = set(used)
    folders = {label.parent for label in used}
    orphans = [
        file
        for file in files_below(root, LABEL_SUFFIX, depth=LABEL_DEPTH)
        if file not in known
        and file.parent in folders
        and file.name.lower() not in NAME_LISTS
        and _has_label_lines(file)
    ]
    if not are_few(len(orphans), len(orphans) + len(used)):
        some = ", ".join(str(file.relative_to(root)) for file in orphans[:_MAX_NAMES])
        raise DataError(
            f"{len(orphans)} of {len(orphans) + len(used)} label files have no image: {some}, …",
            where=str(root),
            remedy="Add the images, or name them like their labels",
        )
    return [
        SkippedImage(str(file.relative_to(root)), "is a label file without an image")
        for file in orphans
    ]


def _account_for_bare(
    root: Path,
    labels: Mapping[Path, Path | None],
    images: Sequence[AnnotatedImage],
    hints: LayoutHints,
) -> tuple[list[SkippedImage], list[str]]:
    """Return the images without a label file that are not labelled, and notes.

    Raises:
        DataError: These are more than a few, or no image has a label file.
    """
    bare = [image for image, label in labels.items() if label is None]
    if labels and len(bare) == len(labels):
        raise DataError(
            "no image has a label file",
            where=str(root),
            remedy="The label of images/a.jpg is labels/a.txt, or a.txt beside it",
        )
    empty = sum(not image.shapes and labels[image.path] is not None for image in images)
    skipped, notes = skip_without_label(root, bare, empty, len(labels), "label file", hints, "yolo")
    if empty:
        count = number_of(empty, "label file is", "label files are")
        notes.append(f"{count} empty: these images are good")
    return skipped, notes
