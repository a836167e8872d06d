"""CVAT's XML for images (`CVAT for images 1.1`): `annotations.xml` and `images/`.

Classes follow the labels of the file. Shapes are drawn by `z_order`, then in the order of the
file. The subset of an image is its split, else the name of the file (`train.xml`, as Datumaro
writes it). CVAT's masks (`Segmentation mask 1.1`) are read by the layout `mask_folder`.

Source: "CVAT for image" in the documentation of CVAT; `cvat/apps/dataset_manager/formats/cvat.py`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    parse_floats,
    parse_whole,
    read_xml,
)
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.label_files import (
    files_with_suffix,
    has_words,
    label_folders,
)
from edgeinspect.learning.datasets.annotations.repeated_images import without_repeats
from edgeinspect.learning.datasets.annotations.run_lengths import runs_from_counts
from edgeinspect.learning.datasets.annotations.shapes import (
    POINT_RADIUS_PX,
    Box,
    LabelledShape,
    Points,
    Polygon,
    Shape,
    Stroke,
    box_corners,
    ellipse,
    rotated,
)
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.name_matching import check_missing_images
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES, find_split_name, split_words

NEEDS = "CVAT's annotations.xml (CVAT for images 1.1) and the images that it names"
RANK = 13
_WORDS = (b"<annotations>", b"<image ")
_EXPORT_AGAIN = "Export the task again as 'CVAT for images 1.1'"
_MIN_POLYGON = 3


def recognise(path: Path) -> bool:
    """Return whether this is such a file, or a folder with one."""
    return bool(_cvat_files(path))


def _cvat_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".xml" and has_words(path, _WORDS) else []
    return [
        file
        for folder in label_folders(path, "annotations")
        for file in files_with_suffix(folder, ".xml")
        if has_words(file, _WORDS)
    ]


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read the images of all such files of a folder.

    Raises:
        DataError: A file is malformed, has an unknown label or shape, or another size than its
            image; or more than a few images are not there.
    """
    labels = _cvat_files(path)
    root = path if path.is_dir() else path.parent
    files = ImageFiles(root, labels[0])
    read_ones: list[list[AnnotatedImage]] = []
    names: dict[str, None] = {}
    skipped: list[SkippedImage] = []
    for file in labels:
        document = read_xml(file)
        if document.find("track") is not None:
            raise DataError("is CVAT's format for videos", where=str(file), remedy=_EXPORT_AGAIN)
        known = dict.fromkeys(child_text(label, "name") for label in document.iter("label"))
        names.update(known)
        missing: dict[str, str] = {}
        read_ones.append([])
        elements = document.findall("image")
        split = find_split_name(split_words(file.stem))
        split_folders = files.split_folders(split, file.parent, file.parent / "images")
        listed = [(each.get("name", ""), _places(file, each, split_folders)) for each in elements]
        for element, found in zip(elements, files.find_all(listed, split), strict=True):
            name = element.get("name", "")
            if found is None:
                missing[name] = f"image id {element.get('id', '')}"
            else:
                read_ones[-1].append(
                    _read_image(file, element, found, known, split if split_folders else None)
                )
        check_missing_images(missing, len(elements), file, root)
        skipped += [
            SkippedImage(name, f"{file.name} names it, but the image does not exist")
            for name in missing
        ]
    images = without_repeats(read_ones)
    unlisted, notes = files.unlisted((image.path for image in images), labels[0])
    found_set = AnnotatedImages(
        root, "cvat", files, images, tuple(names), notes, [*skipped, *unlisted]
    )
    return dataset_from_annotations(found_set, hints)


def _places(file: Path, element: ElementTree.Element, split_folders: list[Path]) -> list[Path]:
    """Return where an image is looked for first."""
    subset = element.get("subset", "")
    images, folder = file.parent / "images", file.parent
    return [images / subset, images, folder / subset, *split_folders, folder]


def _read_image(
    file: Path,
    element: ElementTree.Element,
    image: Path,
    known: Mapping[str, None],
    split: str | None,
) -> AnnotatedImage:
    at = f"{file}, image {element.get('name', '')}"
    shapes: list[tuple[int, LabelledShape]] = []
    tags = []
    for number, item in enumerate(element, 1):
        where = f"{at}, {item.tag} {number}"
        label = item.get("label", "")
        if not label or (known and label not in known):
            raise DataError(
                f"has the label {label[:60]!r}, which the file does not list",
                where=where,
                remedy=f"It lists {', '.join(list(known)[:10])}",
            )
        if item.tag == "tag":
            tags.append(label)
            continue
        order = parse_whole(item.get("z_order", "0"), "z_order", where)
        shapes += [(order, LabelledShape(label, shape, where)) for shape in _shapes(item, where)]
    shapes.sort(key=lambda one: one[0])  # stable
    return AnnotatedImage(
        image,
        at,
        tuple(shape for _order, shape in shapes),
        tuple(tags),
        (
            parse_whole(element.get("height"), "height", at),
            parse_whole(element.get("width"), "width", at),
        ),
        SPLIT_NAMES.get(element.get("subset", "").lower())
        or find_split_name((*Path(element.get("name", "")).parts[:-1], file.stem))
        or split,
    )


def _shapes(item: ElementTree.Element, where: str) -> Iterator[Shape]:
    """Yield the shapes of one element: `points` may be several."""

    def number(key: str, default: str | None = None) -> float:
        return parse_float(item.get(key, default), key, where)

    if item.tag == "box":
        box = Box(number("xtl"), number("ytl"), number("xbr"), number("ybr"))
        if box.right_px < box.left_px or box.bottom_px < box.top_px:
            raise DataError("has a box of negative size", where=where)
        angle = number("rotation", "0")
        yield _turned_box(box, angle) if angle else box
    elif item.tag == "ellipse":
        radii = number("rx"), number("ry")
        if min(radii) < 0:
            raise DataError("has an ellipse of negative size", where=where)
        yield ellipse(number("cx"), number("cy"), *radii, number("rotation", "0"))
    elif item.tag == "mask":
        counts = [
            parse_whole(word, "rle", where)
            for word in item.get("rle", "").split(",")
            if word.strip()
        ]
        height, width, left, top = (
            parse_whole(item.get(key), key, where) for key in ("height", "width", "left", "top")
        )
        yield runs_from_counts(
            counts, height, width, where, is_column_major=False, left_px=left, top_px=top
        )
    elif item.tag in ("polygon", "polyline", "points"):
        yield from _from_points(item, where)
    else:
        raise DataError(
            f"is a {item.tag[:40]}, which is not supported",
            where=where,
            remedy="Draw it as a polygon or a mask, or remove it",
        )


def _from_points(item: ElementTree.Element, where: str) -> Iterator[Shape]:
    pairs = [pair.split(",") for pair in item.get("points", "").split(";") if pair.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise DataError("has points that are not x,y;x,y;…", where=where)
    points: Points = np.array([parse_floats(pair, "coordinate", where) for pair in pairs])
    if item.tag == "polyline":
        yield Stroke(points)
    elif item.tag == "points":
        for point in points:
            yield Stroke(point[None], 2 * POINT_RADIUS_PX)
    elif len(points) < _MIN_POLYGON:
        raise DataError(f"is a polygon of {len(points)} points", where=where)
    else:
        yield Polygon((points,))


def _turned_box(box: Box, angle_deg: float) -> Polygon:
    center = ((box.left_px + box.right_px) / 2, (box.top_px + box.bottom_px) / 2)
    return Polygon((rotated(box_corners(box) - center, angle_deg) + center,), is_box=True)
