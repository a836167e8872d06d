"""Looking at every picture of a set once: sizes, pixels per class, what is broken or twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.imaging.image_file import read
from edgeinspect.learning.datasets.duplicates import Look, Twins, families, find_twins, look_at
from edgeinspect.learning.datasets.image_properties import is_colored
from edgeinspect.learning.datasets.parallel import in_threads
from edgeinspect.learning.datasets.records import VOID, DataSet, Record


@dataclass(frozen=True, slots=True)
class Seen:
    """What one picture turned out to be."""

    record: Record
    size: tuple[int, int] | None = None
    """(height_px, width_px); None if it cannot be read."""
    class_px: tuple[int, ...] = ()
    """Pixels per class id, 0 first; empty if picture or mask cannot be read."""
    void_px: int = 0
    """Pixels that nobody labelled."""
    problem: str = ""
    """Why it, or its mask, cannot be used."""
    remedy: str = ""
    """What helps against that, where the file itself tells."""
    colored: bool = False
    look: Look | None = None

    @property
    def defect_px(self) -> int:
        """Pixels of any class."""
        return sum(self.class_px[1:])


@dataclass(frozen=True, slots=True)
class Survey:
    """All that is known of a set after looking at every picture."""

    data: DataSet
    seen: tuple[Seen, ...]
    """One per record, in order."""
    twins: tuple[Twins, ...]
    """Duplicates, by places in `seen`."""

    @property
    def broken(self) -> list[Seen]:
        """Pictures that cannot be used."""
        return [seen for seen in self.seen if seen.problem]

    @property
    def sizes(self) -> list[tuple[tuple[int, int], int]]:
        """((height_px, width_px), count), the most common first."""
        return Counter(seen.size for seen in self.seen if seen.size).most_common()

    def leaks(self) -> list[Twins]:
        """Duplicates whose two pictures are in different splits."""
        splits = [seen.record.split for seen in self.seen]
        return [
            pair
            for pair in self.twins
            if None not in (one := {splits[pair.first], splits[pair.second]}) and len(one) > 1
        ]

    def contradictions(self) -> list[Twins]:
        """Exact duplicates of which one is good and the other defective."""
        return [
            pair
            for pair in self.twins
            if pair.exact
            and self.seen[pair.first].record.defective != self.seen[pair.second].record.defective
        ]

    def together(self) -> list[list[str]]:
        """Names that must not part, for `split`."""
        return [
            [self.seen[index].record.name for index in family] for family in families(self.twins)
        ]


def survey(
    data: DataSet, *, twins: bool = True, progress: Callable[[int], None] = lambda done: None
) -> Survey:
    """Decode every picture and mask of a set once; about 4 KiB of each are kept.

    Args:
        data: The set.
        twins: Look for duplicates too.
        progress: Called with the number of pictures done.
    """

    def work(record: Record) -> Seen:
        return _see(data, record, twins)

    seen = []
    for done in in_threads(work, data.records):
        seen.append(done)
        progress(len(seen))
    return Survey(data, tuple(seen), tuple(_twins(seen) if twins else ()))


def _see(data: DataSet, record: Record, twins: bool) -> Seen:
    try:
        picture = read(record.path, data.reading())
    except DataError as error:
        return Seen(record, problem=f"picture {error.what}", remedy=error.remedy)
    size = (picture.shape[0], picture.shape[1])
    look = look_at(picture) if twins else None
    colored = is_colored(picture)
    try:
        mask = record.read_mask(*size)
    except DataError as error:
        where = f"{error.where}: " if error.where else ""
        problem, remedy = where + error.what, error.remedy
        return Seen(record, size, problem=problem, remedy=remedy, colored=colored, look=look)
    count = np.bincount(mask.ravel(), minlength=VOID + 1).tolist()
    pixels = tuple(count[: len(data.classes) + 1])
    return Seen(record, size, pixels, count[VOID], colored=colored, look=look)


def _twins(seen: list[Seen]) -> list[Twins]:
    places = [index for index, one in enumerate(seen) if one.look is not None]
    found = find_twins([look for one in seen if (look := one.look) is not None])
    return [
        Twins(places[pair.first], places[pair.second], pair.exact, pair.correlation)
        for pair in found
    ]
