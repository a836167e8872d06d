"""LabelMe's XML files, of the annotation tool on the web that labelme took its name from.

`a.xml` beside `a.jpg`, or `Annotations/` and `Images/` with the same folders below. Objects are
polygons, boxes (`<type>bounding_box`) and masks (`<segm><mask>` names a file); deleted ones are
left out.

Source: Russell et al., "LabelMe: a database and web-based tool for image annotation", IJCV 2008;
the format `LabelMe 3.0` of CVAT
"""

from __future__ import annotations

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
from edgeinspect.learning.datasets.annotations.label_files import files_below, has_words
from edgeinspect.learning.datasets.annotations.run_lengths import decode_mask_png, runs_from_mask
from edgeinspect.learning.datasets.annotations.shapes import (
    Box,
    LabelledShape,
    Points,
    Polygon,
    Shape,
)
from edgeinspect.learning.datasets.dataset import Dataset, LayoutHints, SkippedImage
from edgeinspect.learning.datasets.layouts._unlabelled import LabelFiles, with_unlabelled
from edgeinspect.learning.datasets.name_matching import check_missing_images
from edgeinspect.learning.datasets.vocabulary import find_split_name
from edgeinspect.system import read_regular

NEEDS = "LabelMe's XML files (of the web tool, CVAT's LabelMe 3.0) and the images that they name"
RANK = 17
LABEL_SUFFIX = ".xml"
_WORDS = (b"<annotation>", b"<imagesize>")
_FILE_BYTES_MAX = 1 << 26
_MAX_PEEKED = 64
_MASK_FOLDER = "Masks"
_MIN_POLYGON = 3


def recognise(path: Path) -> bool:
    """Return whether a folder has such a file."""
    return path.is_dir() and any(
        has_words(file, _WORDS) for file in files_below(path, ".xml")[:_MAX_PEEKED]
    )


def read(path: Path, hints: LayoutHints = LayoutHints()) -> Dataset:  # noqa: B008 - frozen
    """Read every such file below a folder.

    Raises:
        DataError: A file is malformed, of another size than its image or may be of two images,
            or more than a few have no image.
    """
    labels = [file for file in files_below(path, ".xml") if has_words(file, _WORDS)]
    files = ImageFiles(path, path)
    images: list[AnnotatedImage] = []
    missing: dict[str, str] = {}
    for file in labels:
        element = read_xml(file, _FILE_BYTES_MAX)
        name = child_text(element, "filename")
        folder = child_text(element, "folder")
        above = file.parent.parent
        places = [file.parent, *(base / "Images" / folder for base in (path, above)), path / folder]
        found = files.find_exact(name, places) or files.find_stem(
            file.with_suffix(""), f"{folder}/{name}"
        )
        if found is None:
            missing[name or file.stem] = file.name
        else:
            files.check_own_name(file, found)
            images.append(_read_annotation(file, element, found, path))
    check_missing_images(missing, len(labels), path, path)
    skipped = [
        SkippedImage(name, f"{label} names it, but the image does not exist")
        for name, label in missing.items()
    ]
    found_set = with_unlabelled(
        AnnotatedImages(path, "labelme_xml", files, images, skipped=skipped),
        LabelFiles(path, labels, LABEL_SUFFIX, "XML file", "LabelMe's XML"),
        hints,
    )
    return dataset_from_annotations(found_set, hints)


def _read_annotation(
    file: Path, element: ElementTree.Element, image: Path, root: Path
) -> AnnotatedImage:
    size = element.find("imagesize")
    stated = (0, 0)
    if size is not None:
        stated = (
            parse_whole(child_text(size, "nrows") or "0", "nrows", str(file)),
            parse_whole(child_text(size, "ncols") or "0", "ncols", str(file)),
        )
    shapes = []
    for number, item in enumerate(element.findall("object"), 1):
        if child_text(item, "deleted") == "1":
            continue
        name = child_text(item, "name")
        where = f"{file}, object {number} ({name})"
        if not name:
            raise DataError("has no name", where=where)
        shapes.append(LabelledShape(name, _read_object(file, item, where), where))
    return AnnotatedImage(
        image,
        str(file),
        tuple(shapes),
        (),
        stated if min(stated) > 0 else None,
        find_split_name(image.relative_to(root).parts[:-1]),
    )


def _read_object(file: Path, item: ElementTree.Element, where: str) -> Shape:
    segment = item.find("segm")
    if segment is not None:
        name = Path(child_text(segment, "mask").replace("\\", "/")).name
        places = (file.parent / _MASK_FOLDER, file.parent)
        found = next((each / name for each in places if name and (each / name).is_file()), None)
        if found is None:
            raise DataError(f"names the mask {name[:60]!r}, which does not exist", where=where)
        mask = decode_mask_png(read_regular(found, _FILE_BYTES_MAX), str(found))
        return runs_from_mask(mask, where)
    points: Points = np.array(
        [
            [parse_float(child_text(point, key), key, where) for key in ("x", "y")]
            for point in item.iterfind("polygon/pt")
        ],
        np.float64,
    ).reshape(-1, 2)
    if len(points) < _MIN_POLYGON:
        raise DataError(f"has {len(points)} points", where=where, remedy="Remove or complete it")
    if child_text(item, "type") == "bounding_box":
        low, high = points.min(axis=0), points.max(axis=0)
        return Box(*map(float, (*low, *high)))
    return Polygon((points,))
