"""Scans every image of a data set once: sizes, pixels per class, problems, duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.imaging import read_image
from edgeinspect.learning.datasets.dataset import VOID, Dataset, Sample
from edgeinspect.learning.datasets.duplicates import (
    DuplicatePair,
    ImageFingerprint,
    duplicate_groups,
    find_duplicates,
    fingerprint_image,
)
from edgeinspect.learning.datasets.load import is_colored
from edgeinspect.learning.datasets.masks.content import fills_frame
from edgeinspect.learning.datasets.parallel import map_in_threads


@dataclass(frozen=True, slots=True)
class ScannedImage:
    """The result of scanning one image."""

    sample: Sample
    size: tuple[int, int] | None = None
    """(height_px, width_px); None if it cannot be read."""
    class_px: tuple[int, ...] = ()
    """Pixels per class id, 0 first; empty if image or mask cannot be read."""
    void_px: int = 0
    """Unlabelled pixels."""
    fills_frame: bool = False
    """Most pixels of each border of the image are defects."""
    problem: str = ""
    """Why the image or its mask cannot be used; empty if it can."""
    remedy: str = ""
    """What helps against the problem, if known."""
    is_colored: bool = False
    fingerprint: ImageFingerprint | None = None

    @property
    def defect_px(self) -> int:
        """Pixels of all defect classes."""
        return sum(self.class_px[1:])


@dataclass(frozen=True, slots=True)
class DatasetScan:
    """The result of scanning every image of a data set."""

    data: Dataset
    images: tuple[ScannedImage, ...]
    """One per sample, in order."""
    duplicates: tuple[DuplicatePair, ...]
    """Duplicates, by index in `images`."""

    @property
    def broken(self) -> list[ScannedImage]:
        """Images that cannot be used."""
        return [seen for seen in self.images if seen.problem]

    @property
    def sizes(self) -> list[tuple[tuple[int, int], int]]:
        """((height_px, width_px), count), the most common first."""
        return Counter(seen.size for seen in self.images if seen.size).most_common()

    def leaks(self) -> list[DuplicatePair]:
        """Return duplicates across two splits."""
        splits = [seen.sample.split for seen in self.images]
        return [
            pair
            for pair in self.duplicates
            if None not in (one := {splits[pair.first], splits[pair.second]}) and len(one) > 1
        ]

    def contradictions(self) -> list[DuplicatePair]:
        """Return exact duplicates of which one is labelled good and the other defective."""
        return [
            pair
            for pair in self.duplicates
            if pair.is_exact
            and self.images[pair.first].sample.is_defective
            != self.images[pair.second].sample.is_defective
        ]

    def duplicate_groups(self) -> list[list[str]]:
        """Return the names of each group of duplicates, for `split_dataset`."""
        return [
            [self.images[index].sample.name for index in family]
            for family in duplicate_groups(self.duplicates)
        ]


def scan_dataset(
    data: Dataset,
    *,
    with_duplicates: bool = True,
    progress: Callable[[int], None] = lambda done: None,
) -> DatasetScan:
    """Decode every image and mask of a set once; about 4 KiB of each are kept.

    Args:
        data: The data set.
        with_duplicates: Whether to search for duplicates.
        progress: Called with the number of images done.
    """

    def scan_sample(sample: Sample) -> ScannedImage:
        return _scan_image(data, sample, with_duplicates)

    images = []
    for image in map_in_threads(scan_sample, data.samples):
        images.append(image)
        progress(len(images))
    return DatasetScan(data, tuple(images), tuple(_find_pairs(images) if with_duplicates else ()))


def _scan_image(data: Dataset, sample: Sample, with_duplicates: bool) -> ScannedImage:
    try:
        image = read_image(sample.path, data.read_settings())
    except DataError as error:
        return ScannedImage(sample, problem=f"image {error.what}", remedy=error.remedy)
    scanned = ScannedImage(
        sample,
        (image.shape[0], image.shape[1]),
        is_colored=is_colored(image),
        fingerprint=fingerprint_image(image) if with_duplicates else None,
    )
    try:
        mask = sample.read_mask(*image.shape[:2])
    except DataError as error:
        where = f"{error.where}: " if error.where else ""
        return replace(scanned, problem=where + error.what, remedy=error.remedy)
    count = np.bincount(mask.ravel(), minlength=VOID + 1).tolist()
    return replace(
        scanned,
        class_px=tuple(count[: len(data.classes) + 1]),
        void_px=count[VOID],
        fills_frame=fills_frame((mask > 0) & (mask != VOID)),
    )


def _find_pairs(images: list[ScannedImage]) -> list[DuplicatePair]:
    prints = {index: one.fingerprint for index, one in enumerate(images) if one.fingerprint}
    indices = list(prints)
    return [
        replace(pair, first=indices[pair.first], second=indices[pair.second])
        for pair in find_duplicates(list(prints.values()))
    ]
