"""Supervisely's projects: `meta.json`, and per data set `img/a.jpg` and `ann/a.jpg.json`.

Classes follow `meta.json`. Objects are polygons (with holes), bitmaps, rectangles, lines and
points, drawn in their order. The tags `train`, `val` and `test` of an image are its split, else
the name of its data set; its other tags are classes of the whole image (a tag that is one of
several words: the word). Tags of free text or numbers are not read. A file without `objects` is
no label.

Source: "Supervisely annotation format" in its documentation
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.annotated_set import (
    AnnotatedImage,
    AnnotatedImages,
    dataset_from_annotations,
)
from edgeinspect.learning.datasets.annotations.documents import read_json
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.label_files import files_with_suffix, has_words
from edgeinspect.learning.datasets.annotations.run_lengths import (
    decode_base64,
    decode_mask_png,
    inflate,
    runs_from_mask,
)
from edgeinspect.learning.datasets.annotations.shapes import (
    POINT_RADIUS_PX,
    Box,
    LabelledShape,
    Points,
    Polygon,
    Shape,
    Stroke,
)
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.files import subfolders
from edgeinspect.learning.datasets.layouts._unlabelled import LabelFiles, with_unlabelled
from edgeinspect.learning.datasets.name_matching import check_missing_images
from edgeinspect.learning.datasets.vocabulary import SPLIT_NAMES, find_split_name

NEEDS = "Supervisely's meta.json, and folders img/ and ann/ per data set"
RANK = 11
LABEL_SUFFIX = ".json"
_META = "meta.json"
_FILE_BYTES_MAX = 1 << 28
_MIN_POLYGON = 3


class _Class(msgspec.Struct):
    title: str


class _MetaTag(msgspec.Struct):
    name: str
    value_type: str = "none"
    applicable_type: str = "all"


class _Meta(msgspec.Struct):
    classes: list[_Class]
    tags: list[_MetaTag | str] = []
    """Older projects list names alone."""


class _Tag(msgspec.Struct):
    name: str = ""
    value: str | float | bool | None = None


class _Size(msgspec.Struct):
    height: int
    width: int


class _PointLists(msgspec.Struct):
    exterior: list[list[float]] = []
    interior: list[list[list[float]]] = []


class _Bitmap(msgspec.Struct):
    data: str
    origin: list[int]


class _Object(msgspec.Struct, rename="camel"):
    class_title: str
    geometry_type: str = ""
    points: _PointLists | None = None
    bitmap: _Bitmap | None = None


class _Document(msgspec.Struct):
    size: _Size
    objects: list[_Object] | msgspec.UnsetType = msgspec.UNSET
    tags: list[_Tag] = []


def recognise(path: Path) -> bool:
    """Return whether a folder has Supervisely's `meta.json` and annotations."""
    return (
        path.is_dir()
        and has_words(path / _META, (b'"classes"', b'"title"'))
        and bool(_label_folders(path))
    )


def _label_folders(path: Path) -> list[Path]:
    return [
        each
        for folder in (path, *subfolders(path))
        for each in subfolders(folder)
        if each.name.lower() == "ann"
    ]


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read every data set of a project.

    Raises:
        DataError: A file is malformed, has an unknown class or shape, or another size than its
            image; or more than a few files have no image.
    """
    meta = read_json(path / _META, _Meta, "Supervisely's meta.json")
    classes = tuple(each.title for each in meta.classes)
    tags = {each.name: each for each in map(_as_meta_tag, meta.tags)}
    files = ImageFiles(path, path / _META)
    images: list[AnnotatedImage] = []
    missing: dict[str, str] = {}
    unread: dict[Path, str] = {}
    labels = [
        file for folder in _label_folders(path) for file in files_with_suffix(folder, ".json")
    ]
    for file in labels:
        name = file.name[: -len(".json")]
        found = files.find_alike(name, (file.parent.parent / "img", file.parent.parent))
        if found is None:
            missing[f"{file.parent.parent.name}/{name}"] = file.name
            continue
        document = read_json(file, _Document, "Supervisely's JSON", _FILE_BYTES_MAX)
        if isinstance(document.objects, msgspec.UnsetType):
            unread[found] = f"{file.relative_to(path)} has no list of objects"
            continue
        shapes = _read_objects(file, document.objects, classes)
        images.append(_annotated_image(file, document, found, shapes, tags))
    check_missing_images(missing, len(labels), path, path)
    skipped = [
        SkippedImage(name, f"{label} is of this image, which does not exist")
        for name, label in missing.items()
    ]
    found_set = with_unlabelled(
        AnnotatedImages(path, "supervisely", files, images, classes, (), skipped),
        LabelFiles(
            path, labels, LABEL_SUFFIX, "JSON file", "Supervisely's JSON", image_folder="img"
        ),
        hints,
        unread=unread,
    )
    return dataset_from_annotations(found_set, hints)


def _as_meta_tag(tag: _MetaTag | str) -> _MetaTag:
    return _MetaTag(tag) if isinstance(tag, str) else tag


def _read_objects(
    file: Path, objects: list[_Object], classes: tuple[str, ...]
) -> Iterator[LabelledShape]:
    """Yield the shapes of a document."""
    for number, each in enumerate(objects, 1):
        where = f"{file}, object {number}"
        if each.class_title not in classes:
            raise DataError(
                f"has the class {each.class_title[:60]!r}, which {_META} does not list",
                where=where,
                remedy=f"It lists {', '.join(classes[:10])}",
            )
        for shape in _read_object(each, where):
            yield LabelledShape(each.class_title, shape, where)


def _annotated_image(
    file: Path,
    document: _Document,
    image: Path,
    shapes: Iterator[LabelledShape],
    tags: Mapping[str, _MetaTag],
) -> AnnotatedImage:
    splits = [tag for tag in document.tags if tag.name.lower() in SPLIT_NAMES]
    names = [
        name
        for tag in document.tags
        if tag not in splits and (name := _class_of_tag(tag, tags, file))
    ]
    return AnnotatedImage(
        image,
        str(file),
        tuple(shapes),
        tuple(dict.fromkeys(names)),
        (document.size.height, document.size.width),
        SPLIT_NAMES[splits[0].name.lower()]
        if splits
        else find_split_name((file.parent.parent.name,)),
    )


def _class_of_tag(tag: _Tag, tags: Mapping[str, _MetaTag], file: Path) -> str:
    """Return the class that a tag gives an image; empty if it is free text or a number.

    Raises:
        DataError: `meta.json` does not list it, or lists it as a tag of objects alone.
    """
    known = tags.get(tag.name)
    if known is None or known.applicable_type == "objectsOnly":
        raise DataError(
            f"has the tag {tag.name[:60]!r}, which {_META} does not list for images",
            where=str(file),
            remedy=f"Add it to the tags of {_META}, or remove it from the image",
        )
    if known.value_type == "none":
        return tag.name
    return str(tag.value or tag.name) if known.value_type == "oneof_string" else ""


def _read_object(each: _Object, where: str) -> Iterator[Shape]:
    """Yield the shapes of an object."""
    if each.geometry_type == "bitmap" and each.bitmap is not None:
        if len(each.bitmap.origin) != 2:
            raise DataError("has a bitmap without an origin [x, y]", where=where)
        data = decode_base64(each.bitmap.data, where)
        if not data.startswith(b"\x89PNG"):
            data = inflate(data, where)
        yield runs_from_mask(decode_mask_png(data, where), where, *each.bitmap.origin)
        return
    lists = each.points or _PointLists()
    outer = _as_points(lists.exterior, where)
    if each.geometry_type == "rectangle" and len(outer) == 2:
        low, high = outer.min(axis=0), outer.max(axis=0)
        yield Box(*map(float, (*low, *(high + 1))))  # both corners belong to it
    elif each.geometry_type == "polygon" and len(outer) >= _MIN_POLYGON:
        holes = [_as_points(ring, where) for ring in lists.interior]
        yield Polygon((outer, *(ring for ring in holes if len(ring) >= _MIN_POLYGON)))
    elif each.geometry_type == "line" and len(outer) > 1:
        yield Stroke(outer)
    elif each.geometry_type == "point" and len(outer):
        for point in outer:
            yield Stroke(point[None], 2 * POINT_RADIUS_PX)
    else:
        raise DataError(
            f"is a {each.geometry_type[:40] or 'shape'} of {len(outer)} points, which is not "
            "supported",
            where=where,
            remedy="Draw it as a polygon or a bitmap, or remove it",
        )


def _as_points(values: list[list[float]], where: str) -> Points:
    if any(len(point) != 2 for point in values):
        raise DataError("has a point that is not [x, y]", where=where)
    return np.asarray(values, np.float64).reshape(-1, 2)
