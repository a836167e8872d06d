"""labelme's JSON files: `a.json` beside `a.jpg`, or in a folder of its own.

Shapes are polygon, rectangle, circle, line, linestrip, point, points and mask. An image without
a JSON file is good, unless the good images of the set have one. An embedded image (`imageData`)
is used if the image file is not there. If the set has no shape at all, the flags of its images
are their classes.

Source: `labelme/_label_file.py` and `labelme/utils/shape.py` of labelme
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from edgeinspect.learning.datasets.annotations.embedded_images import EmbeddedImages
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.label_files import files_below, has_words
from edgeinspect.learning.datasets.annotations.run_lengths import (
    decode_base64,
    decode_mask_png,
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
    ellipse,
)
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.layouts._unlabelled import LabelFiles, with_unlabelled
from edgeinspect.learning.datasets.name_matching import check_missing_images
from edgeinspect.learning.datasets.vocabulary import find_split_name

NEEDS = "labelme's JSON files beside the images that they name (imagePath)"
RANK = 14
LABEL_SUFFIX = ".json"
_WORDS = (b'"shapes"', b'"imagePath"')
_FILE_BYTES_MAX = 1 << 29
_MAX_PEEKED = 64
_MIN_POLYGON = 3


class _Shape(msgspec.Struct):
    label: str
    points: list[list[float]] = []
    shape_type: str | None = None
    mask: str | None = None


class _Document(msgspec.Struct, rename="camel"):
    shapes: list[_Shape]
    image_path: str = ""
    image_data: str | None = None
    image_height: int | None = None
    image_width: int | None = None
    flags: dict[str, bool | None] | None = None


def recognise(path: Path) -> bool:
    """Return whether a folder has such a file."""
    return path.is_dir() and any(
        has_words(file, _WORDS) for file in files_below(path, ".json")[:_MAX_PEEKED]
    )


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read every JSON file of labelme below a folder, and the images beside them.

    Raises:
        DataError: A file is malformed or may be of two images, more than a few have no image, or
            an image has two.
    """
    labels = [file for file in files_below(path, ".json") if has_words(file, _WORDS)]
    files, embedded = ImageFiles(path, path), EmbeddedImages()
    documents = [read_json(file, _Document, "labelme's JSON", _FILE_BYTES_MAX) for file in labels]
    is_flagged = not any(document.shapes for document in documents)
    images: list[AnnotatedImage] = []
    missing: dict[str, str] = {}
    embedded_count = 0
    for file, document, found in zip(
        labels, documents, _find_images(labels, documents, files), strict=True
    ):
        if found is not None:
            files.check_own_name(file, found)
        elif document.image_data:
            name = file.relative_to(path).with_suffix(
                Path(_plain(document.image_path)).suffix or ".png"
            )
            data = decode_base64(document.image_data, str(file))
            found = embedded.write(str(name), data, str(file))
            embedded_count += 1
        if found is None:
            missing[_plain(document.image_path) or file.name] = file.name
        else:
            images.append(_read_document(file, document, found, is_flagged))
    check_missing_images(missing, len(labels), path, path)
    notes = []
    if embedded_count:
        notes.append(f"{embedded_count} of {len(labels)} images are those embedded in JSON files")
    skipped = [
        SkippedImage(name, f"{label} names it, but the image does not exist")
        for name, label in missing.items()
    ]
    found_set = with_unlabelled(
        AnnotatedImages(path, "labelme", files, images, (), notes, skipped),
        LabelFiles(path, labels, LABEL_SUFFIX, "JSON file", "labelme's JSON"),
        hints,
    )
    return dataset_from_annotations(found_set, hints)


def _plain(name: str) -> str:
    return name.replace("\\", "/")


def _find_images(
    labels: Sequence[Path], documents: Sequence[_Document], files: ImageFiles
) -> list[Path | None]:
    """Return each image: that of `imagePath` relative to the JSON file, or that of its stem."""
    names = [_plain(each.image_path) for each in documents]
    beside = [_find_beside(file, name, files) for file, name in zip(labels, names, strict=True)]
    # A name without folders that is found beside its file says nothing of where others are.
    listed = {
        index: (name or file.stem, [file.parent])
        for index, (file, name) in enumerate(zip(labels, names, strict=True))
        if "/" in name or beside[index] is None
    }
    found = dict(zip(listed, files.find_all([*listed.values()]), strict=True))
    return [path or found[index] for index, path in enumerate(beside)]


def _find_beside(file: Path, name: str, files: ImageFiles) -> Path | None:
    for each in (name, Path(name).name, file.stem):
        if each and (found := files.find_exact(each, [file.parent])):
            return found
    return files.find_beside(file.with_suffix(""))


def _read_document(
    file: Path, document: _Document, image: Path, is_flagged: bool
) -> AnnotatedImage:
    stated = (document.image_height or 0, document.image_width or 0)
    shapes = [
        LabelledShape(shape.label, each, where)
        for number, shape in enumerate(document.shapes, 1)
        for where in [f"{file}, shape {number} ({shape.label})"]
        for each in _read_shape(shape, where)
    ]
    flags = [name for name, is_set in (document.flags or {}).items() if is_set]
    return AnnotatedImage(
        image,
        str(file),
        tuple(shapes),
        tuple(flags) if is_flagged else (),
        stated if min(stated) > 0 else None,
        find_split_name(file.parts[-4:-1]),
    )


def _read_shape(shape: _Shape, where: str) -> Iterator[Shape]:
    """Yield the shapes of one entry: `points` are several."""
    kind = shape.shape_type or "polygon"
    if not shape.label.strip():
        raise DataError("has no label", where=where, remedy="Name its class, or remove it")
    if any(len(point) != 2 for point in shape.points):
        raise DataError("has a point that is not [x, y]", where=where)
    points = _as_array(shape.points)
    needed = _NEEDED_POINTS.get(kind)
    if needed is None:
        raise DataError(
            f"has the shape_type {kind[:40]!r}, which is not known",
            where=where,
            remedy=f"Known are {', '.join(_NEEDED_POINTS)}",
        )
    if len(points) < needed:
        raise DataError(
            f"is a {kind} of {len(points)} points; it needs {needed}",
            where=where,
            remedy="Remove or complete it",
        )
    if kind in ("rectangle", "mask"):
        low, high = points.min(axis=0), points.max(axis=0)
        if kind == "rectangle":
            yield Box(*map(float, (*low, *high)))
            return
        mask = decode_mask_png(decode_base64(shape.mask or "", where), where)
        across, down = high - low + 1
        if abs(mask.shape[1] - across) > 1 or abs(mask.shape[0] - down) > 1:
            raise DataError(
                f"has a mask of {mask.shape[1]} x {mask.shape[0]} px (width x height) in a box of "
                f"{across:g} x {down:g} px",
                where=where,
                remedy="Draw it again: the two do not belong together",
            )
        yield runs_from_mask(mask, where, round(float(low[0])), round(float(low[1])))
    elif kind == "circle":
        radius = float(((points[0] - points[1]) ** 2).sum() ** 0.5)
        yield ellipse(float(points[0, 0]), float(points[0, 1]), radius, radius)
    elif kind in ("line", "linestrip"):
        yield Stroke(points)
    elif kind in ("point", "points"):
        for point in points:
            yield Stroke(point[None], 2 * POINT_RADIUS_PX)
    else:
        yield Polygon((points,))


def _as_array(points: list[list[float]]) -> Points:
    return np.asarray(points, np.float64).reshape(-1, 2)


_NEEDED_POINTS = {
    "polygon": _MIN_POLYGON,
    "rectangle": 2,
    "circle": 2,
    "line": 2,
    "linestrip": 2,
    "point": 1,
    "points": 1,
    "mask": 2,
}
