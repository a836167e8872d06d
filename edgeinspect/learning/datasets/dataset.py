"""What every layout gives: records of pictures, and what is known of each before it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeinspect.imaging import COLOR_AS_STORED, ReadSettings

ClassMap = NDArray[np.uint8]
"""uint8 (h, w), class ids; 0 is background, `VOID` is what nobody labelled."""
VOID = 255
"""In a class map: a pixel of which nothing is known. It is no class, no background and no
defect; losses and figures pass over it."""

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """A picture that could not be used."""

    name: str
    reason: str
    is_intentional: bool = False
    """The set itself says so, or a person: nothing is wrong."""


def has_class(mask: ClassMap) -> bool:
    """True if some pixel of a class map is of a class."""
    return bool(((mask != 0) & (mask != VOID)).any())


class Mask(Protocol):
    """Where a picture's mask comes from. Nothing is read before `read` is called."""

    def read(self, height_px: int, width_px: int) -> ClassMap:
        """The class ids of a picture of this size, freshly allocated.

        Raises:
            DataError: Unreadable, of another size, or with values that no class has.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of a set."""

    name: str
    """Unique in the set; the path below the set's folder where the file name is not."""
    path: Path
    is_defective: bool
    class_name: str | None = None
    """Image-level class where the layout has one; a good picture's is the layout's word for it."""
    group: str = ""
    """Pictures of one group never part: one coil, one part, one exposure series."""
    split: str | None = None
    """`train`, `val`, `test`; None where the layout brings none."""
    mask: Mask | None = None
    """None: no mask is known, which for a good picture is an empty one."""
    class_ids: tuple[int, ...] = ()
    """Ids of the defect classes known to be in it, before any decoding."""

    def read_mask(self, height_px: int, width_px: int) -> ClassMap:
        """The class ids of the whole picture; all 0 where there is no mask.

        Raises:
            DataError: As `Mask.read`.
        """
        if self.mask is None:
            return np.zeros((height_px, width_px), np.uint8)
        return self.mask.read(height_px, width_px)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures of one folder, in one layout."""

    root: Path
    layout: str
    """The file of `edgeinspect/datasets/layouts/` that read it."""
    classes: tuple[str, ...]
    """Names of the defect classes 1..K."""
    samples: tuple[Sample, ...]
    """Sorted by name."""
    has_masks: bool
    bit_depth: int = 8
    """Of every picture: 8, 10, 12, 14 or 16. Deeper ones are shifted down to 8."""
    flat_end: bool = False
    """See `imaging.reading.ReadDeclaration`."""
    notes: tuple[str, ...] = field(default=())
    """What had to be assumed while reading; worth showing to a person."""
    skipped: tuple[SkippedImage, ...] = field(default=())
    """Pictures that are there and are no record, and rows that name no picture."""

    def __len__(self) -> int:
        return len(self.samples)

    def read_settings(self, color: str = COLOR_AS_STORED) -> ReadSettings:
        """How each of its pictures is read."""
        return ReadSettings(color, self.bit_depth, self.flat_end)

    @property
    def has_splits(self) -> bool:
        """True if every record has its split."""
        return bool(self.samples) and all(record.split for record in self.samples)

    def in_splits(self, *splits: str) -> tuple[Sample, ...]:
        """The records of some splits, in order."""
        return tuple(record for record in self.samples if record.split in splits)

    def filter(self, predicate: Callable[[Sample], bool]) -> tuple[Sample, ...]:
        """The records for which `wanted` is true, in order."""
        return tuple(record for record in self.samples if predicate(record))

    def with_samples(self, samples: Sequence[Sample]) -> Dataset:
        """The same set with other records."""
        return replace(self, samples=tuple(samples))

    def with_skipped(self, *left_out: SkippedImage) -> Dataset:
        """The same set with more pictures named as left out."""
        return replace(self, skipped=(*self.skipped, *left_out))

    def with_notes(self, *notes: str) -> Dataset:
        """The same set with more notes."""
        return replace(self, notes=(*self.notes, *notes))


@dataclass(frozen=True, slots=True)
class LayoutHints:
    """What the person knows better than the layout's rule."""

    good_classes: tuple[str, ...] = ()
    """Names of the classes that are good; empty for the rule of `goodness.py`."""
    classes: tuple[str, ...] = ()
    """Names of the classes 1..K of masks that carry ids only."""
    layout: str | None = None
    """The layout that a person chose: what it leaves aside is left aside on purpose."""
