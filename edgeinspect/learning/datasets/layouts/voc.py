"""Pascal VOC's XML files of boxes: `Annotations/a.xml` and `JPEGImages/a.jpg`, or side by side.

The lists in `ImageSets/Main/` (`train.txt`, `val.txt`, `test.txt`) are the split. An image
without an XML file is good, unless the good images of the set have one. Boxes are corners,
counted from 1, and both belong to the box. A polygon beside a box is what counts.

Source: the VOC2012 development kit, `VOCdevkit/devkit_doc`, section 4; for polygons
`supervision/dataset/formats/pascal_voc.py`
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.annotated_set import (
    AnnotatedImage,
    AnnotatedImages,
    dataset_from_annotations,
)
from edgeinspect.learning.datasets.annotations.documents import (
    child_text,
    parse_float,
    parse_whole,
    read_xml,
)
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.label_files import (
    files_below,
    own_label_files,
    read_ends,
)
from edgeinspect.learning.datasets.annotations.shapes import Box, LabelledShape, Polygon
from edgeinspect.learning.datasets.annotations.voc_images import VocImageFinder
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.files import contains_images
from edgeinspect.learning.datasets.image_sets import read_image_sets
from edgeinspect.learning.datasets.layouts._unlabelled import LabelFiles, with_unlabelled
from edgeinspect.learning.datasets.masks.label_maps import read_class_names
from edgeinspect.learning.datasets.name_matching import check_missing_images
from edgeinspect.learning.datasets.vocabulary import find_split_name

NEEDS = "Pascal VOC's XML files (Annotations/*.xml) and their images (JPEGImages/, or beside)"
RANK = 16
LABEL_SUFFIX = ".xml"
_FILE_BYTES_MAX = 1 << 24
_MAX_PEEKED = 64
_LABEL_FOLDERS = ("annotations", "annotation", "labels", "jpegimages", "images", "xml", "xmls")
_MASK_FOLDERS = ("SegmentationClass", "SegmentationClassPNG", "SegmentationClassRaw")
_MIN_CORNERS = 3
_END = b"</annotation>"
_OTHER_FORMAT = b"<imagesize>"
"""LabelMe's XML has the same elements otherwise."""


def recognise(path: Path) -> bool:
    """Return whether a folder has such files, and no masks beside them."""
    if not path.is_dir() or any(contains_images(path / name) for name in _MASK_FOLDERS):
        return False
    files = own_label_files(path, LABEL_SUFFIX, *_LABEL_FOLDERS)
    return any(map(_is_voc, islice(files, _MAX_PEEKED)))


def accepts(path: Path) -> bool:
    """Return whether a folder has such files anywhere, also if it has masks too."""
    return path.is_dir() and any(_is_voc(file) for file in files_below(path, ".xml")[:_MAX_PEEKED])


def _is_voc(file: Path) -> bool:
    ends = read_ends(file)
    return _END in ends and _OTHER_FORMAT not in ends


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read every XML file below a folder; the images may be in the folder beside it.

    Raises:
        DataError: A file is malformed, states another size than its image has, has a box
            outside of it, or may be of two images; or more than a few files have no image.
    """
    labels = [file for file in files_below(path, ".xml") if _is_voc(file)]
    root = path if contains_images(path) or not contains_images(path.parent) else path.parent
    files = ImageFiles(root, path)
    finder = VocImageFinder(files, labels)
    splits = read_image_sets(path)
    images: list[AnnotatedImage] = []
    missing: dict[str, str] = {}
    for file in labels:
        element = read_xml(file, _FILE_BYTES_MAX)
        name = child_text(element, "filename").replace("\\", "/")
        found = finder.find(file, name, child_text(element, "folder"))
        if found is None:
            key = name or file.stem
            place = str(file.relative_to(path))
            missing[place if key in missing else key] = place
        else:
            images.append(_read_annotation(file, element, found, splits, root))
    check_missing_images(missing, len(labels), path, root)
    skipped = [
        SkippedImage(name, f"{label} names it, but the image does not exist")
        for name, label in missing.items()
    ]
    found_set = with_unlabelled(
        AnnotatedImages(root, "voc", files, images, read_class_names(path), (), skipped),
        LabelFiles(path, labels, LABEL_SUFFIX, "XML file", "Pascal VOC's XML"),
        hints,
        lambda image: _split_of(image, image.stem, splits, root),
    )
    return dataset_from_annotations(found_set, hints)


def _split_of(image: Path, stem: str, splits: dict[str, str], root: Path) -> str | None:
    return splits.get(stem) or find_split_name(image.relative_to(root).parts[:-1])


def _read_annotation(
    file: Path, element: ElementTree.Element, image: Path, splits: dict[str, str], root: Path
) -> AnnotatedImage:
    size = element.find("size")
    stated: tuple[int, int] | None = None
    if size is not None:
        stated = (
            parse_whole(child_text(size, "height"), "height", str(file)),
            parse_whole(child_text(size, "width"), "width", str(file)),
        )
        if min(stated) < 0:
            raise DataError("states a negative size", where=str(file))
    return AnnotatedImage(
        image,
        str(file),
        tuple(_read_objects(file, element)),
        (),
        stated if stated and min(stated) > 0 else None,
        _split_of(image, file.stem, splits, root),
    )


def _read_objects(file: Path, element: ElementTree.Element) -> Iterator[LabelledShape]:
    for number, item in enumerate(element.findall("object"), 1):
        name = child_text(item, "name")
        where = f"{file}, object {number} ({name})"
        box = item.find("bndbox")
        if not name or box is None:
            raise DataError("has no name or no bndbox", where=where)
        left, top, right, bottom = (
            parse_float(child_text(box, key), key, where)
            for key in ("xmin", "ymin", "xmax", "ymax")
        )
        if right < left or bottom < top:
            raise DataError(
                f"has a box from {left:g}, {top:g} to {right:g}, {bottom:g}",
                where=where,
                remedy="xmin and ymin must be the smaller ones",
            )
        outline = item.find("polygon")
        yield LabelledShape(
            name,
            Box(max(left - 1, 0.0), max(top - 1, 0.0), right, bottom)
            if outline is None or not len(outline)
            else _read_polygon(outline, where),
            where,
        )


def _read_polygon(element: ElementTree.Element, where: str) -> Polygon:
    """Return the polygon that Roboflow writes beside a box: x1, y1, x2, y2 …, from 1."""
    count = len(element) // 2
    values = [
        parse_float(child_text(element, f"{axis}{number}"), f"{axis}{number}", where)
        for number in range(1, count + 1)
        for axis in "xy"
    ]
    if count < _MIN_CORNERS or len(element) % 2:
        raise DataError(
            f"has a polygon of {len(element)} numbers; x and y of three corners are the least",
            where=where,
        )
    return Polygon((np.array(values).reshape(-1, 2) - 1,))
