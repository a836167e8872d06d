"""Sources of masks: image files in several encodings, and run-length codes."""

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
"""Pixels of a soft (anti-aliased, JPEG) binary mask are set from this grey value."""
MAX_CLASSES = 64
"""Maximum number of classes."""
UNLABELLED = 255
"""The stored value of unlabelled pixels beside class ids; they become `VOID`."""


@dataclass(frozen=True, slots=True)
class MaskEncoding:
    """How stored mask values map to class ids."""

    ids: Mapping[int, int]
    """Stored value to class id, 0 for background. A stored 0 is background by default."""
    is_soft: bool = False
    """A binary mask with grey edges: values from `SOFT_THRESHOLD` on are class 1."""
    void: frozenset[int] = frozenset()
    """Stored values of unlabelled pixels."""
    uses_colors: bool = False
    """Values are colours, also in files with a palette."""

    def to_class_ids(self, values: NDArray[np.int32], where: str) -> ClassMap:
        """Return the class ids of stored values.

        Raises:
            DataError: A value is not part of the encoding.
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
                    f"mask has the value {describe_value(value)}, which is not a class",
                    where=where,
                    remedy=f"The values of this set are: {known}",
                )
            out[values == value] = self.ids[value]
        return out


BINARY_ENCODING = MaskEncoding({1: 1, 255: 1})
"""0 and 255, or 0 and 1; never both in one set (`encoding.py`)."""


def describe_value(value: int) -> str:
    """Return a grey value as a number, a colour as #rrggbb."""
    return str(value) if value < 0x10000 else f"#{value & 0xFFFFFF:06x}"


@dataclass(frozen=True, slots=True)
class MaskFile:
    """One image file with the whole mask."""

    path: Path
    encoding: MaskEncoding
    is_shared: bool = False
    """A table gives it to its image by name, as it may to others."""

    def read(self, height_px: int, width_px: int) -> ClassMap:
        values = _read_sized(self.path, height_px, width_px, colors=self.encoding.uses_colors)
        return self.encoding.to_class_ids(values, str(self.path))


@dataclass(frozen=True, slots=True)
class MaskPerClass:
    """Several binary files for one image. Where two overlap, the later class wins."""

    files: tuple[tuple[int, Path], ...]
    """Class id and file, sorted by class id."""
    void: frozenset[int] = frozenset()
    """Stored values of unlabelled pixels, if the set declares them."""
    is_shared: bool = False
    """A table gives them to their image by name, as it may to others."""

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
    """Run-length codes of a CSV file."""

    codes: tuple[tuple[int, str, str], ...]
    """Class id, code, and its row: `train.csv:12`."""

    def read(self, height_px: int, width_px: int) -> ClassMap:
        out = np.zeros((height_px, width_px), np.uint8)
        for class_id, code, where in self.codes:
            runs = parse_runs(code, where=where)
            out[decode_runs(runs, height_px, width_px, where=where) != 0] = class_id
        return out


def has_void_border(values: Iterable[int]) -> bool:
    """Return whether the values are one id and 255, a void border as in VOC.

    A soft edge would have values in between.
    """
    found = set(values) - {0}
    return len(found) == 2 and UNLABELLED in found and min(found) <= MAX_CLASSES


def set_pixels(values: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the set pixels of a binary mask in any form: 0/1, 0/7, 0/255, colour, soft.

    If any pixel is at least `SOFT_THRESHOLD`, darker ones are edges; else all but 0 are set.
    """
    top = int(values.max(initial=0))
    return np.asarray(values >= SOFT_THRESHOLD if SOFT_THRESHOLD <= top <= 255 else values > 0)


def _read_sized(
    path: Path, height_px: int, width_px: int, *, colors: bool = False
) -> NDArray[np.int32]:
    values = read_mask_values(path, colors=colors)
    if values.shape != (height_px, width_px):
        turned = " (rotated: does the image have an EXIF orientation?)"
        raise DataError(
            f"mask is {values.shape[0]} x {values.shape[1]} px, "
            f"its image {height_px} x {width_px} px"
            + (turned if values.shape == (width_px, height_px) else ""),
            where=str(path),
        )
    return values
