"""Masks as data sets store them: files of many kinds, and run-length codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.imaging import decode_runs, parse_runs, read_mask_values
from edgeinspect.learning.datasets.dataset import VOID, ClassMap

SOFT_THRESHOLD = 128
"""From this grey value on a soft (anti-aliased, JPEG) binary mask is set."""
MAX_CLASSES = 64
"""More classes than this are taken for noise."""
UNLABELLED = 255
"""Beside class ids, the value of pixels that nobody labelled; they become `VOID`."""


@dataclass(frozen=True, slots=True)
class MaskEncoding:
    """What the values stored in a set's masks mean."""

    ids: Mapping[int, int]
    """Stored value to class id, 0 for background; the stored 0 is background unless it says."""
    is_soft: bool = False
    """A binary mask with grey edges: everything from THRESHOLD on is class 1."""
    void: frozenset[int] = frozenset()
    """Stored values of pixels that nobody labelled."""
    uses_colors: bool = False
    """The values are colours, also where a file has a palette."""

    def to_class_ids(self, values: NDArray[np.int32], where: str) -> ClassMap:
        """Class ids of stored values.

        Raises:
            DataError: A value that has no meaning here.
        """
        if self.is_soft:
            return (values >= SOFT_THRESHOLD).astype(np.uint8)
        out = np.zeros(values.shape, np.uint8)
        for value in np.unique(values).tolist():
            if value in self.void:
                out[values == value] = VOID
                continue
            if value == 0 and 0 not in self.ids:
                continue
            if value not in self.ids:
                known = ", ".join(map(describe_value, sorted({*self.ids, *self.void}))) or "none"
                raise DataError(
                    f"mask has the value {describe_value(value)}, which is no class",
                    where=where,
                    remedy=f"The values known in this set are: {known}",
                )
            out[values == value] = self.ids[value]
        return out


BINARY_ENCODING = MaskEncoding({1: 1, 255: 1})
"""Black and white, or 0 and 1; never both in one set (`encoding.py`)."""


def describe_value(value: int) -> str:
    """A grey value as a number, a colour as #rrggbb."""
    return str(value) if value < 0x10000 else f"#{value & 0xFFFFFF:06x}"


@dataclass(frozen=True, slots=True)
class MaskFile:
    """One picture file that holds the whole mask."""

    path: Path
    encoding: MaskEncoding

    def read(self, height_px: int, width_px: int) -> ClassMap:
        values = _read_sized(self.path, height_px, width_px, colors=self.encoding.uses_colors)
        return self.encoding.to_class_ids(values, str(self.path))


@dataclass(frozen=True, slots=True)
class MaskPerClass:
    """Several binary files for one picture. Where two overlap, the later class wins."""

    files: tuple[tuple[int, Path], ...]
    """Class id and file, by class id."""
    void: frozenset[int] = frozenset()
    """Stored values of pixels that nobody labelled, where the set says so."""

    def read(self, height_px: int, width_px: int) -> ClassMap:
        out = np.zeros((height_px, width_px), np.uint8)
        void = np.zeros((height_px, width_px), np.bool_)
        for class_id, path in self.files:
            values = _read_sized(path, height_px, width_px)
            if UNLABELLED in self.void or has_void_border(np.unique(values).tolist()):
                void |= values == UNLABELLED
                values = np.where(values == UNLABELLED, 0, values)
            out[set_pixels(values)] = class_id
        out[void & (out == 0)] = VOID
        return out


@dataclass(frozen=True, slots=True)
class MaskRuns:
    """Run-length codes as they stand in a CSV file."""

    codes: tuple[tuple[int, str, str], ...]
    """Class id, code, and where it stands: `train.csv:12`."""

    def read(self, height_px: int, width_px: int) -> ClassMap:
        out = np.zeros((height_px, width_px), np.uint8)
        for class_id, code, where in self.codes:
            runs = parse_runs(code, where=where)
            out[decode_runs(runs, height_px, width_px, where=where) != 0] = class_id
        return out


def has_void_border(values: Iterable[int]) -> bool:
    """True for the values of a binary mask of ids with void beside them, as VOC's border.

    One id and 255, and nothing between that a soft edge would have.
    """
    found = set(values) - {0}
    return len(found) == 2 and UNLABELLED in found and min(found) <= MAX_CLASSES


def set_pixels(values: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which pixels of a binary mask are set, however it is stored: 0/1, 0/7, 0/255, colour, soft.

    Where it is white anywhere, what is darker than grey is an edge; else all but 0 counts.
    """
    top = int(values.max(initial=0))
    return np.asarray(values >= SOFT_THRESHOLD if SOFT_THRESHOLD <= top <= 255 else values > 0)


def _read_sized(
    path: Path, height_px: int, width_px: int, *, colors: bool = False
) -> NDArray[np.int32]:
    values = read_mask_values(path, colors=colors)
    if values.shape != (height_px, width_px):
        turned = " (turned: does the picture have an EXIF rotation?)"
        raise DataError(
            f"mask is {values.shape[0]} x {values.shape[1]} px, "
            f"its picture {height_px} x {width_px} px"
            + (turned if values.shape == (width_px, height_px) else ""),
            where=str(path),
        )
    return values
