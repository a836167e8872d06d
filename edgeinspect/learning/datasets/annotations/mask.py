"""The mask of an image that has annotations instead of a mask file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.learning.datasets.annotations.rasterise import draw_shape
from edgeinspect.learning.datasets.annotations.shapes import Shape, is_box, shape_key
from edgeinspect.learning.datasets.dataset import VOID, ClassMap


@dataclass(frozen=True, slots=True)
class Annotation:
    """One shape of one class."""

    class_id: int
    """0 draws background, `VOID` an unlabelled area."""
    shape: Shape
    where: str


@dataclass(frozen=True, slots=True, repr=False)
class AnnotationMask:
    """Draws annotations when it is read, in order: where two overlap, the later one wins."""

    annotations: tuple[Annotation, ...]
    as_positions: bool
    """See `rasterise.uses_pixel_positions`."""
    draws_boxes: bool = False
    """Boxes count as areas; else what only a box covers is unlabelled."""
    is_unlabelled: bool = False
    """The image is known to be defective, but not where."""
    size: tuple[int, int] | None = None
    """(height_px, width_px) for which the annotations were made, if the file states it."""

    def __repr__(self) -> str:
        """Return a text that differs for different masks: caches of decoded masks rely on it."""
        digest = hashlib.sha256(
            repr((self.as_positions, self.draws_boxes, self.is_unlabelled, self.size)).encode()
        )
        for one in self.annotations:
            digest.update(repr((one.class_id, *shape_key(one.shape))).encode())
        return f"AnnotationMask({digest.hexdigest()})"

    def read(self, height_px: int, width_px: int) -> ClassMap:
        if self.size is not None and self.size != (height_px, width_px):
            where = self.annotations[0].where if self.annotations else ""
            raise size_error(self.size, (height_px, width_px), where)
        out = np.full((height_px, width_px), VOID if self.is_unlabelled else 0, np.uint8)
        boxed = np.zeros(out.shape, np.bool_)
        for annotation in self.annotations:
            try:
                area = draw_shape(
                    annotation.shape, height_px, width_px, as_positions=self.as_positions
                )
            except DataError as error:
                raise DataError(error.what, where=annotation.where, remedy=error.remedy) from error
            if is_box(annotation.shape) and not self.draws_boxes:
                boxed |= area
            else:
                out[area] = annotation.class_id
        out[boxed & (out == 0)] = VOID
        return out


def size_error(stated: tuple[int, int], real: tuple[int, int], where: str) -> DataError:
    """Return the error for annotations of an image of another size."""
    turned = " (rotated: does the image have an EXIF orientation?)"
    return DataError(
        f"states an image of {stated[0]} x {stated[1]} px, but it has {real[0]} x {real[1]} px"
        + (turned if stated == real[::-1] else ""),
        where=where,
        remedy="The images were resized after they were labelled: put the labelled ones there, "
        "or scale the annotations and their stated size",
    )
