"""Leaves out what a second label file says again of an image: `all.json` beside `train.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from edgeinspect.learning.datasets.annotations.annotated_set import AnnotatedImage
from edgeinspect.learning.datasets.annotations.shapes import LabelledShape


def without_repeats(files: Sequence[Sequence[AnnotatedImage]]) -> list[AnnotatedImage]:
    """Return the images of several label files, without those that another file labels alike.

    What a file with a split says is kept. An image that two files label differently, or that one
    file lists twice, is kept twice: a contradiction that `dataset_from_annotations` refuses.
    """
    found: list[AnnotatedImage] = []
    known: dict[Path, AnnotatedImage] = {}
    for images in sorted(files, key=lambda images: all(one.split is None for one in images)):
        found += (new := [one for one in images if not _is_repeated(one, known)])
        known.update((one.path, one) for one in new)
    return found


def _is_repeated(image: AnnotatedImage, known: Mapping[Path, AnnotatedImage]) -> bool:
    other = known.get(image.path)
    return (
        other is not None
        and image.split in (None, other.split)
        and (image.tags, image.size, image.group) == (other.tags, other.size, other.group)
        and len(image.shapes) == len(other.shapes)
        and all(map(_is_same, image.shapes, other.shapes))
    )


def _is_same(one: LabelledShape, other: LabelledShape) -> bool:
    """Return whether two annotations draw the same shape for the same class."""
    if one.class_name != other.class_name or type(one.shape) is not type(other.shape):
        return False
    names = [field.name for field in fields(one.shape)]
    return all(_is_equal(getattr(one.shape, name), getattr(other.shape, name)) for name in names)


def _is_equal(one: object, other: object) -> bool:
    """Return whether two values of a shape are equal: numbers, points, or several rings of them."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(np.array_equal, one, other))
    return np.array_equal(one, other)  # type: ignore[arg-type]  # a number or an array
