"""A data set and its samples: what is known of each image before it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.imaging import COLOR_AS_STORED, ReadSettings

ClassMap = NDArray[np.uint8]
"""uint8 (h, w), class ids; 0 is background, `VOID` is unlabelled."""
VOID = 255
"""In a class map: an unlabelled pixel, neither a class nor background. Losses and metrics ignore
it."""

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)


class OnlyGoodError(DataError):
    """All images of a folder are good ones: only a training from good parts can use it."""


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that is not used, and why."""

    name: str
    reason: str
    is_intentional: bool = False
    """The set or the user excludes it: not a problem."""
    is_unlisted: bool = False
    """The file that labels the set does not name it, nor an image that it is a copy or mask of."""


def has_class(mask: ClassMap) -> bool:
    """Return whether a class map has a pixel of any class."""
    return bool(((mask != 0) & (mask != VOID)).any())


class MaskReader(Protocol):
    """The source of an image's mask. Nothing is read before `read` is called."""

    def read(self, height_px: int, width_px: int) -> ClassMap:
        """Return the class map of an image of this size, freshly allocated.

        Raises:
            DataError: Unreadable, of another size, or with values that are not a class.
        """
        ...


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """Where an object of a class is; which pixels belong to it is not known."""

    class_id: int
    left_px: float
    top_px: float
    right_px: float
    bottom_px: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set with its label."""

    name: str
    """Unique in the set: the file name, or the path below the set's folder."""
    path: Path
    is_defective: bool
    class_name: str | None = None
    """Image-level class if the layout has one; for a good image, the layout's word for good."""
    group: str = ""
    """Images of one group stay in one split: one coil, one part, one exposure series."""
    split: str | None = None
    """`train`, `val` or `test`; None if the layout has no split."""
    mask: MaskReader | None = None
    """None if there is no mask; for a good image, that is an empty mask."""
    class_ids: tuple[int, ...] = ()
    """Ids of the defect classes known to be in it."""
    boxes: tuple[LabelledBox, ...] = ()
    """Annotated boxes, which are not part of the mask."""

    def read_mask(self, height_px: int, width_px: int) -> ClassMap:
        """Return the class map of the image; all 0 if there is no mask.

        Raises:
            DataError: As `MaskReader.read`.
        """
        if self.mask is None:
            return np.zeros((height_px, width_px), np.uint8)
        return self.mask.read(height_px, width_px)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The images of one folder, in one layout."""

    root: Path
    layout: str
    """The module of `layouts/` that read it."""
    classes: tuple[str, ...]
    """Names of the defect classes 1..K."""
    samples: tuple[Sample, ...]
    """Sorted by name."""
    has_masks: bool
    bit_depth: int = 8
    """Of every image: 8, 10, 12, 14 or 16. More than 8 bits are shifted down to 8."""
    flat_end: bool = False
    """See `imaging.read_settings.ReadDeclaration`."""
    notes: tuple[str, ...] = field(default=())
    """Assumptions made while reading, to be shown to the user."""
    skipped: tuple[SkippedImage, ...] = field(default=())
    """Images that are not samples, and table rows without an image."""

    def __len__(self) -> int:
        return len(self.samples)

    def read_settings(self, color: str = COLOR_AS_STORED) -> ReadSettings:
        """Return the settings to read each image with."""
        return ReadSettings(color, self.bit_depth, self.flat_end)

    @property
    def has_splits(self) -> bool:
        """Whether every sample has a split."""
        return bool(self.samples) and all(sample.split for sample in self.samples)

    def in_splits(self, *splits: str) -> tuple[Sample, ...]:
        """Return the samples of some splits, in order."""
        return tuple(sample for sample in self.samples if sample.split in splits)

    def filter(self, predicate: Callable[[Sample], bool]) -> tuple[Sample, ...]:
        """Return the samples for which `predicate` is true, in order."""
        return tuple(sample for sample in self.samples if predicate(sample))

    def with_samples(self, samples: Sequence[Sample]) -> Dataset:
        """Return the set with other samples."""
        return replace(self, samples=tuple(samples))

    def with_skipped(self, *skipped: SkippedImage) -> Dataset:
        """Return the set with more skipped images."""
        return replace(self, skipped=(*self.skipped, *skipped))

    def with_notes(self, *notes: str) -> Dataset:
        """Return the set with more notes."""
        return replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True, slots=True)
class LayoutHints:
    """What the user states instead of a layout's rules."""

    good_classes: tuple[str, ...] = ()
    """Names of the good classes; empty for the rule of `vocabulary.py`."""
    classes: tuple[str, ...] = ()
    """Names of the classes 1..K of masks that contain ids only."""
    layout: str | None = None
    """The layout that the user named: what it does not read is skipped intentionally."""
    draws_boxes: bool = False
    """Boxes are filled as masks, although not every pixel in them belongs to the object."""
