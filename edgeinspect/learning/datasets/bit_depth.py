"""The bit depth of a data set: declared, or inferred from all its images, never from one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeinspect.errors import DataError
from edgeinspect.imaging import (
    BIT_DEPTHS,
    COLOR_AS_STORED,
    DECLARATION_FILE,
    ReadDeclaration,
    ReadSettings,
    StoredBitDepth,
    declared_depth_warning,
    read_native,
    read_stored_bit_depth,
    smallest_bit_depth,
)
from edgeinspect.learning.datasets.parallel import map_in_threads
from edgeinspect.system import escape_name

_MAX_NAMES = 3
_ONE_DEPTH_REMEDY = "A data set has one bit depth: remove the images of the other one"
_CLIPPED_PX = 16
"""Pixels at the maximum of a smaller depth that count as clipping there."""
_SHALLOWER_BITS = 4
"""An image that uses this many bits less than the set's depth is from another camera, or black."""
_UPPER_BITS = 14
_FULL_RATIO = 7 / 8
"""A set that fills this much of 10 or 12 bits is not a very dark set of 16 bits."""
_OUTLIER_DIVISOR = 50
_MIN_OTHERS = 3
"""A depth that only one of four or more images shows, or one in fifty, is not the set's."""


@dataclass(frozen=True, slots=True)
class DatasetBitDepth:
    """The bit depth at which the images of a set are read."""

    bits: int
    """8, 10, 12, 14 or 16."""
    flat_end: bool = False
    """See `imaging.read_settings.ReadDeclaration`."""
    note: str = ""
    """How the depth was determined; empty for 8 bits."""
    warning: str = ""
    """Why the declared depth may be wrong; empty if it is plausible."""

    def read_settings(self, color: str = COLOR_AS_STORED) -> ReadSettings:
        """Return the settings to read each image with."""
        return ReadSettings(color, self.bits, self.flat_end)


@dataclass(frozen=True, slots=True)
class _PixelLevels:
    """Pixel statistics of one image above 8 bits; `max_value` is 0 if it cannot be read."""

    max_value: int = 0
    used_bits: int = 0
    """Bitwise OR of all values."""
    at_max_px: int = 0
    """Pixels of the value `max_value`."""
    is_scaled_8_bit: bool = True
    """Every value is an 8-bit value times 257: both bytes are equal."""


def find_bit_depth(
    paths: Sequence[Path], declaration: ReadDeclaration, where: str
) -> DatasetBitDepth:
    """Return the bit depth of a set: as declared, else inferred from all images.

    Cameras store 10 or 12 bits in files of 16, so the depth in the file header is not enough:
    the depth is the smallest of 8, 10, 12, 14 and 16 bits that holds the highest value of the
    set. Unreadable files are ignored here; reading them reports the reason.

    Args:
        paths: All images of the set.
        declaration: Contents of its `reading.yaml`.
        where: The set, for error messages.

    Raises:
        DataError: The images have several depths (they are named), another depth than the
            declared one, or a depth that is ambiguous.
    """
    stored = list(map_in_threads(read_stored_bit_depth, paths))
    deep = [path for path, one in zip(paths, stored, strict=True) if one and one.bits == 16]
    shallow = [path for path, one in zip(paths, stored, strict=True) if one and one.bits == 8]
    if deep and shallow:
        raise _mixed_depths(("16 bits", deep), ("8 bits", shallow), where, _ONE_DEPTH_REMEDY)
    if not deep:
        if declaration.bits not in (None, 8) and shallow:
            raise DataError(
                f"declares {declaration.bits} bits, but its images have 8: {_list_names(shallow)}",
                where=where,
                remedy=f"Correct {DECLARATION_FILE}",
            )
        return DatasetBitDepth(8, declaration.flat_end)
    header_bits = _depth_in_headers(paths, stored, where)
    if declaration.bits is not None:
        if header_bits not in (None, declaration.bits):
            raise DataError(
                f"declares {declaration.bits} bits, but its image headers say {header_bits}",
                where=where,
                remedy=f"Correct {DECLARATION_FILE}",
            )
        doubt = declared_depth_warning(paths, declaration.bits)
        note = f"{declaration.bits} bits, as declared" + (f"; but {doubt}" if doubt else "")
        return DatasetBitDepth(declaration.bits, declaration.flat_end, note, doubt)
    if header_bits is not None:
        return DatasetBitDepth(
            header_bits, declaration.flat_end, f"{header_bits} bits, as every file header says"
        )
    return _depth_in_pixels(deep, declaration, where)


def _depth_in_headers(
    paths: Sequence[Path], stored: Sequence[StoredBitDepth | None], where: str
) -> int | None:
    by_depth: dict[int | None, list[Path]] = {}
    for path, one in zip(paths, stored, strict=True):
        if one is not None:
            by_depth.setdefault(one.significant_bits, []).append(path)
    if len(by_depth) > 1:
        (first, some), (second, others) = list(by_depth.items())[:2]
        words = [f"{bits} bits" if bits else "16 bits" for bits in (first, second)]
        raise _mixed_depths((words[0], some), (words[1], others), where, _ONE_DEPTH_REMEDY)
    return next(iter(by_depth))


def _depth_in_pixels(
    deep: Sequence[Path], declaration: ReadDeclaration, where: str
) -> DatasetBitDepth:
    levels = list(map_in_threads(lambda path: _read_levels(path, declaration.flat_end), deep))
    top = max(one.max_value for one in levels)
    bits = smallest_bit_depth(top)
    if top and all(one.is_scaled_8_bit for one in levels):
        return DatasetBitDepth(16, declaration.flat_end, "16 bits, each an 8-bit value times 257")
    other = [path for path, one in zip(deep, levels, strict=True) if _is_shallower(one, bits)]
    if other:
        rest = [path for path in deep if path not in set(other)]
        few = smallest_bit_depth(max(one.max_value for one in levels if _is_shallower(one, bits)))
        remedy = (
            f"{_ONE_DEPTH_REMEDY}; if these are only dark, declare `bits: {bits}` in "
            f"{DECLARATION_FILE} beside them"
        )
        raise _mixed_depths((f"{few} bits", other), (f"{bits} bits", rest), where, remedy)
    _check_outliers(deep, levels, bits, where)
    used = int(np.bitwise_or.reduce([one.used_bits for one in levels]))
    low = (used & -used).bit_length() - 1 if used else 0
    full = bits < _UPPER_BITS and top >= _FULL_RATIO * (1 << bits)  # 8 bits shifted up
    if bits < BIT_DEPTHS[-1] and low >= 2 and not full:
        raise DataError(
            f"uses every {1 << low}th value up to {top}: either dark {16 - low}-bit images stored "
            f"in the upper bits of 16, or {bits - low} bits in the upper bits of {bits}",
            where=where,
            remedy=f"Declare `bits: 16` or `bits: {bits}` in {DECLARATION_FILE} beside the images",
        )
    note = f"{bits} bits, inferred from the brightest pixel of {len(deep)} images ({top})"
    return DatasetBitDepth(bits, declaration.flat_end, note)


def _check_outliers(
    paths: Sequence[Path], levels: Sequence[_PixelLevels], bits: int, where: str
) -> None:
    """Check that the depth does not rest on very few images, which may be from another camera.

    Raises:
        DataError: It does.
    """
    if bits == BIT_DEPTHS[0]:
        return
    below = BIT_DEPTHS[BIT_DEPTHS.index(bits) - 1]
    odd = [path for path, one in zip(paths, levels, strict=True) if one.max_value >= 1 << below]
    rest = [path for path, one in zip(paths, levels, strict=True) if 0 < one.max_value < 1 << below]
    if len(rest) < _MIN_OTHERS or len(odd) > max(1, len(paths) // _OUTLIER_DIVISOR):
        return
    fits = smallest_bit_depth(max(one.max_value for one in levels if one.max_value < 1 << below))
    remedy = (
        f"{_ONE_DEPTH_REMEDY}; if the others are only dark, declare `bits: {bits}` in "
        f"{DECLARATION_FILE} beside them"
    )
    raise _mixed_depths((f"{bits} bits", odd), (f"{fits} bits or fewer", rest), where, remedy)


def _is_shallower(one: _PixelLevels, bits: int) -> bool:
    """Return whether an image looks like that of a camera with a smaller bit depth."""
    if bits == 8 or not one.max_value or one.max_value >= 1 << (bits - 1):
        return False
    clipped = one.max_value in [(1 << each) - 1 for each in BIT_DEPTHS if each < bits]
    return one.max_value < 1 << (bits - _SHALLOWER_BITS) or (
        clipped and one.at_max_px >= _CLIPPED_PX
    )


def _read_levels(path: Path, flat_end: bool) -> _PixelLevels:
    try:
        image = read_native(path, flat_end=flat_end)
    except DataError:
        return _PixelLevels()
    top = int(image.max(initial=0))
    return _PixelLevels(
        top,
        int(np.bitwise_or.reduce(image, axis=None)),
        int((image == top).sum()),
        bool((image >> 8 == image & 255).all()),
    )


def _mixed_depths(
    one: tuple[str, list[Path]], other: tuple[str, list[Path]], where: str, remedy: str
) -> DataError:
    (few, some), (many, others) = sorted((one, other), key=lambda pair: len(pair[1]))
    return DataError(
        f"{len(some)} of {len(some) + len(others)} images have {few} ({_list_names(some)}), the "
        f"others {many} ({_list_names(others)})",
        where=where,
        remedy=remedy,
    )


def _list_names(paths: Sequence[Path]) -> str:
    names = ", ".join(escape_name(path.name) for path in paths[:_MAX_NAMES])
    return f"{names}, …" if len(paths) > _MAX_NAMES else names
