"""Makes a data set of annotated images, alike for every format.

- An image is defective if it has an annotation of a class that is not good (`class_names.py`).
- Names for background draw background, names such as `__ignore__` draw unlabelled areas.
- Boxes are not masks: a set of boxes has no masks, and in a set that also has areas, what only a
  box covers is unlabelled. The user may have boxes filled (`LayoutHints.draws_boxes`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgeinspect.domain import number_of
from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.image_files import ImageFiles
from edgeinspect.learning.datasets.annotations.mask import Annotation, AnnotationMask, size_error
from edgeinspect.learning.datasets.annotations.rasterise import uses_pixel_positions
from edgeinspect.learning.datasets.annotations.shapes import (
    LabelledShape,
    Polygon,
    Shape,
    Stroke,
    extent,
    has_area,
    is_box,
)
from edgeinspect.learning.datasets.annotations.unlabelled import skip_unlabelled
from edgeinspect.learning.datasets.class_names import check_clear_names, is_good_class
from edgeinspect.learning.datasets.dataset import (
    VOID,
    Dataset,
    LabelledBox,
    LayoutHints,
    Sample,
    SkippedImage,
)
from edgeinspect.learning.datasets.files import natural_key, unique_names
from edgeinspect.learning.datasets.masks.label_maps import (
    BACKGROUND_NAMES,
    IGNORED_NAMES,
    read_class_names,
)
from edgeinspect.learning.datasets.masks.sources import MAX_CLASSES

_OUTSIDE_PX = 1.0
_OUTSIDE_RATIO = 0.005
"""Coordinates may lie outside of the image by this much: tools round, and clip to its border."""
_MIN_POLYGON = 3
_SAME_EDGE_PX = 1.0
"""A box whose edges are this near to those of an area belongs to it."""
_MAX_NAMES = 3


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image and what its annotation file says of it."""

    path: Path
    where: str
    """File and entry, for messages."""
    shapes: tuple[LabelledShape, ...] = ()
    """From the lowest to the topmost."""
    tags: tuple[str, ...] = ()
    """Classes of the image as a whole."""
    size: tuple[int, int] | None = None
    """(height_px, width_px) that the file states."""
    split: str | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class AnnotatedImages:
    """What a parser found in a folder."""

    root: Path
    layout: str
    files: ImageFiles
    images: Sequence[AnnotatedImage]
    classes: tuple[str, ...] = ()
    """Declared by the format, in the order of ids; empty if it declares none."""
    notes: Sequence[str] = field(default=())
    skipped: Sequence[SkippedImage] = field(default=())


def dataset_from_annotations(found: AnnotatedImages, hints: LayoutHints) -> Dataset:
    """Return the data set of annotated images.

    Raises:
        DataError: An image is annotated twice, has another size than stated, coordinates outside
            of it or a box without an area, or there are too many classes.
    """
    _check_images(found)
    found = replace(found, images=[_without_boxes_of_areas(image) for image in found.images])
    ids, classes = _class_ids(found, hints)
    found = _without_untagged(found, ids)
    shapes = [one for image in found.images for one in image.shapes if ids[one.class_name] > 0]
    boxes = sum(is_box(one.shape) for one in shapes if ids[one.class_name] != VOID)
    areas = sum(not is_box(one.shape) for one in shapes if ids[one.class_name] != VOID)
    has_masks = bool(areas or (boxes and hints.draws_boxes))
    names = unique_names(found.root, [image.path for image in found.images])
    reader = _SampleReader(
        ids,
        classes,
        has_masks,
        uses_pixel_positions(one.shape for image in found.images for one in image.shapes),
        hints,
    )
    samples = [reader.make_sample(image, names[image.path]) for image in found.images]
    if not classes and any(sample.is_defective for sample in samples):
        classes = ("defect",)
    samples.sort(key=lambda sample: natural_key(Path(sample.name)))
    return Dataset(
        found.root,
        found.layout,
        classes,
        tuple(samples),
        has_masks,
        notes=(*found.notes, *_shape_notes(boxes, areas, (one.shape for one in shapes), hints)),
        skipped=tuple(found.skipped),
    )


def _without_untagged(found: AnnotatedImages, ids: Mapping[str, int]) -> AnnotatedImages:
    """Return the set without untagged images if all labels are tags and good images have one.

    Raises:
        DataError: They are more than a few.
    """
    good = next((tag for image in found.images for tag in image.tags if ids.get(tag) == -1), None)
    bare = [image for image in found.images if not image.tags]
    if good is None or not bare or any(image.shapes for image in found.images):
        return found
    reason = f"has no tag, while good images have the tag {good!r}"
    reasons = {image.path: reason for image in bare}
    skipped = skip_unlabelled(found.root, reasons, len(found.images))
    return replace(
        found,
        images=[image for image in found.images if image.path not in reasons],
        skipped=[*found.skipped, *skipped],
    )


def _without_boxes_of_areas(image: AnnotatedImage) -> AnnotatedImage:
    """Return an image without boxes that only enclose an area of their class.

    Label Studio's import of COCO writes the box and the polygon of one object as two regions.
    """
    areas: dict[str, list[tuple[float, float, float, float]]] = {}
    for one in image.shapes:
        if not is_box(one.shape):
            areas.setdefault(one.class_name, []).append(extent(one.shape))
    edges = {name: np.array(extents) for name, extents in areas.items()}

    def encloses_area(one: LabelledShape) -> bool:
        if not is_box(one.shape) or one.class_name not in edges:
            return False
        distance = np.abs(edges[one.class_name] - extent(one.shape)).max(axis=1)
        return bool((distance <= _SAME_EDGE_PX).any())

    if not edges:
        return image
    return replace(image, shapes=tuple(one for one in image.shapes if not encloses_area(one)))


def _shape_notes(
    boxes: int, areas: int, shapes: Iterable[Shape], hints: LayoutHints
) -> Iterable[str]:
    """Yield notes on boxes and lines."""
    count = number_of(boxes, "annotation is a box", "annotations are boxes")
    if boxes and hints.draws_boxes:
        yield (
            f"{count} and filled as a mask: the pixels around the defect in each box are "
            "wrongly taken as defect"
        )
    elif boxes and areas:
        yield (
            f"{count}, {areas} are areas: what only a box covers is unlabelled, neither defect "
            "nor background (--boxes masks fills boxes)"
        )
    elif boxes:
        yield (
            f"{count}: they serve a gate, not a segmenter (--boxes masks makes rough masks of them)"
        )
    listed = list(shapes)
    thin = sum(isinstance(one, Polygon) and len(one.rings[0]) < _MIN_POLYGON for one in listed)
    if thin:
        yield (
            f"{number_of(thin, 'polygon has', 'polygons have')} fewer than 3 points: "
            "read as a line or a point of 1 px, like the contour of a thin mask"
        )
    if any(isinstance(shape, Stroke) for shape in listed):
        yield "lines are drawn 10 px wide, points as discs of 10 px, as labelme exports them"


def _check_images(found: AnnotatedImages) -> None:
    """Check that each image is annotated once, has the stated size, and holds its shapes."""
    first: dict[Path, AnnotatedImage] = {}
    resized = []
    for image in found.images:
        other = first.setdefault(image.path, image)
        if other is not image:
            raise DataError(
                f"annotates {image.path.relative_to(found.root)} again, after {other.where}",
                where=image.where,
                remedy="Keep one of the two",
            )
        real = found.files.size_of(image.path)
        if image.size is not None and real is not None and image.size != real:
            resized.append((image, size_error(image.size, real, image.where)))
            continue
        _check_inside(image, real or image.size)
        _check_boxes(image)
    if resized:
        some = ", ".join(image.path.name for image, _error in resized[:_MAX_NAMES])
        some += ", …" if resized[_MAX_NAMES:] else ""
        count = number_of(len(resized), "image", "images")
        error = resized[0][1]
        raise DataError(
            f"{error.what}; {count} of {len(found.images)} are of another size than their "
            f"annotations ({some})",
            where=error.where,
            remedy=error.remedy,
        )


def _check_boxes(image: AnnotatedImage) -> None:
    """Check that no box is a line or a point, as a click makes it, or a size rounded to 0."""
    for one in image.shapes:
        if is_box(one.shape) and not has_area(one.shape):
            left, top, right, bottom = extent(one.shape)
            raise DataError(
                f"has a box without an area: {right - left:g} x {bottom - top:g} px at "
                f"{left:g}, {top:g}",
                where=one.where,
                remedy="Was it a click, or was its size rounded to 0? Draw it again, or remove it",
            )


def _check_inside(image: AnnotatedImage, size: tuple[int, int] | None) -> None:
    """Check that all shapes are in an image of (height_px, width_px), up to rounding."""
    if size is None:
        return
    height, width = size
    beyond_y = max(_OUTSIDE_PX, _OUTSIDE_RATIO * height)
    beyond_x = max(_OUTSIDE_PX, _OUTSIDE_RATIO * width)
    for one in image.shapes:
        left, top, right, bottom = edges = extent(one.shape)
        if not all(map(math.isfinite, edges)):
            raise DataError("has a coordinate that is not a number", where=one.where)
        if isinstance(one.shape, Polygon) and (one.shape.is_sampled or one.shape.is_box):
            left = right = (left + right) / 2  # turned boxes and ellipses are cut at the border
            top = bottom = (top + bottom) / 2
        if (
            left < -beyond_x
            or top < -beyond_y
            or right > width + beyond_x
            or bottom > height + beyond_y
        ):
            raise DataError(
                f"is outside of its image: x {left:g} to {right:g}, y {top:g} to {bottom:g}, but "
                f"{image.path.name} has {width} x {height} px (width x height)",
                where=one.where,
                remedy="Was the image cropped or resized after it was labelled? Correct or remove "
                "the annotation",
            )


def _class_ids(
    found: AnnotatedImages, hints: LayoutHints
) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Return the id of each name, and the names of classes 1..K.

    The id of a good class is -1, of background 0, of unlabelled areas `VOID`.
    """
    used = Counter(one.class_name for image in found.images for one in image.shapes)
    tags = Counter(tag for image in found.images for tag in image.tags)
    listed = found.classes or read_class_names(found.root, may_be_empty=not used and not tags)
    ordered = list(
        dict.fromkeys((*listed, *sorted(used, key=lambda name: natural_key(Path(name)))))
    )
    if not any(_special_id(name, hints) is None for name in ordered):
        ordered += sorted(tags)  # labels of whole images only
    check_clear_names(tags, str(found.root), hints.good_classes)
    ids: dict[str, int] = {}
    classes: list[str] = []
    for name in (*ordered, *tags):
        special = _special_id(name, hints)
        if special is not None:
            ids[name] = special
        elif name in ordered and name not in ids:
            classes.append(name)
            ids[name] = len(classes)
    if len(classes) > MAX_CLASSES:
        raise DataError(
            f"has {len(classes)} classes; at most {MAX_CLASSES} are possible",
            where=str(found.root),
            remedy="Are they names of single objects? Give each kind of defect one name",
        )
    return ids, tuple(classes)


def _special_id(name: str, hints: LayoutHints) -> int | None:
    low = name.strip().casefold()
    if is_good_class(name, hints.good_classes):
        return -1
    if low in BACKGROUND_NAMES:
        return 0
    return VOID if low in IGNORED_NAMES else None


@dataclass(frozen=True, slots=True)
class _SampleReader:
    """Makes samples once the classes of the set are known."""

    ids: Mapping[str, int]
    classes: tuple[str, ...]
    has_masks: bool
    as_positions: bool
    hints: LayoutHints

    def make_sample(self, image: AnnotatedImage, name: str) -> Sample:
        annotations = [
            Annotation(self.ids[one.class_name], one.shape, one.where)
            for one in image.shapes
            if self.ids[one.class_name] >= 0
        ]
        drawn = {one.class_id for one in annotations} - {0, VOID}
        bad_tags = [tag for tag in image.tags if self.ids.get(tag, 1) not in (-1, 0, VOID)]
        class_ids = tuple(sorted(drawn | {self.ids[tag] for tag in bad_tags if tag in self.ids}))
        is_defective = bool(drawn or bad_tags)
        good = next((tag for tag in image.tags if self.ids.get(tag) == -1), None)
        word = self.classes[class_ids[0] - 1] if len(class_ids) == 1 else None
        mask = None
        if self.has_masks and (annotations or is_defective):
            mask = AnnotationMask(
                tuple(annotations),
                self.as_positions,
                self.hints.draws_boxes,
                is_defective and not drawn,
                image.size,
            )
        return Sample(
            name,
            image.path,
            is_defective,
            word if is_defective else good,
            image.group or name,
            image.split,
            mask,
            class_ids,
            _boxes(annotations) if not self.hints.draws_boxes else (),
        )


def _boxes(annotations: Sequence[Annotation]) -> tuple[LabelledBox, ...]:
    """Return the class id and the upright box of each annotation that is a box."""
    return tuple(
        LabelledBox(one.class_id, *extent(one.shape))
        for one in annotations
        if is_box(one.shape) and one.class_id not in (0, VOID)
    )
