"""Run-length masks: column-major, 1-indexed `start length` pairs, as in Severstal's CSV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError

_DIRECTION_RUNS_MIN = 8
_DIRECTION_RATIO_MIN = 0.75
_MAX_DIGITS = 18
"""Longer numbers are no position in an image, and slow to convert."""
CELLS_MAX = 1 << 26
"""Largest class map that is decoded."""


def encode_runs(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> list[int]:
    """Return the runs of the nonzero pixels of a (h, w) mask."""
    flat = np.asarray(mask != 0).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=False, append=False))
    runs = np.empty(len(edges), np.int64)
    runs[0::2] = edges[0::2] + 1
    runs[1::2] = edges[1::2] - edges[0::2]
    out: list[int] = runs.tolist()
    return out


def format_runs(runs: Sequence[int]) -> str:
    """Return the runs as in a CSV file: numbers separated by spaces."""
    return " ".join(map(str, runs))


def parse_runs(text: str, *, where: str = "") -> list[int]:
    """Return the numbers of a run-length code.

    Raises:
        DataError: A value is not an integer; the message states its position.
    """
    runs = []
    for position, word in enumerate(text.split(), 1):
        if not (word.removeprefix("-").isascii() and word.removeprefix("-").isdecimal()):
            raise DataError(
                f"value {position} of the run-length code is {word[:20]!r}, not an integer",
                where=where,
                remedy="Write `start length` pairs separated by spaces",
            )
        if len(word) > _MAX_DIGITS:
            raise DataError(
                f"value {position} of the run-length code has {len(word)} digits", where=where
            )
        runs.append(int(word))
    return runs


def decode_runs(
    runs: Sequence[int], height_px: int, width_px: int, *, where: str = ""
) -> NDArray[np.uint8]:
    """Return the (h, w) uint8 mask of 0 and 1 that the runs describe.

    Raises:
        DataError: An odd number of values, a length below 1, a run outside the image,
            or runs that descend or overlap; the message states the run.
    """
    if len(runs) % 2:
        raise DataError(f"run-length code has an odd number of values ({len(runs)})", where=where)
    flat = np.zeros(height_px * width_px, np.uint8)
    end = 0
    for index in range(0, len(runs), 2):
        start, length = int(runs[index]) - 1, int(runs[index + 1])
        name = f"run {index // 2 + 1} ({runs[index]} {runs[index + 1]})"
        if length < 1:
            raise DataError(f"{name} has a length below 1", where=where)
        if start < 0 or start + length > flat.size:
            raise DataError(f"{name} lies outside {height_px} x {width_px} pixels", where=where)
        if start < end:
            raise DataError(f"{name} overlaps or precedes the run before it", where=where)
        end = start + length
        flat[start:end] = 1
    return flat.reshape((height_px, width_px), order="F")


def detect_run_direction(
    runs: Sequence[int], height_px: int, width_px: int
) -> Literal["columns", "rows"] | None:
    """Return whether a code runs along columns or rows, by the distances between its runs.

    Returns:
        None if it is not certain: too few runs, or one side of the image divides the other.
    """
    low, high = sorted((height_px, width_px))
    starts = np.asarray(runs[0::2], np.int64)
    if len(starts) < _DIRECTION_RUNS_MIN or not low or high % low == 0:
        return None
    slack = min(8, (high - low) // 4)

    def ratio(apart_px: int) -> float:
        """Return the share of runs that are followed by another one at this distance."""
        at = np.searchsorted(starts, starts + (apart_px - slack))
        follows = np.append(starts, np.iinfo(np.int64).max)[at] <= starts + (apart_px + slack)
        return float(follows.mean())

    down, along = ratio(height_px), ratio(width_px)
    if max(down, along) < _DIRECTION_RATIO_MIN or min(down, along) > 1 - _DIRECTION_RATIO_MIN:
        return None
    return "columns" if down > along else "rows"


def encode_classes(class_map: NDArray[np.uint8]) -> dict[int, list[int]]:
    """Return the runs per class id of a (h, w) class map, without background (0)."""
    return {
        int(class_id): encode_runs(class_map == class_id)
        for class_id in np.unique(class_map)
        if class_id
    }


def decode_classes(
    runs: dict[int, list[int]], height_px: int, width_px: int, *, where: str = ""
) -> NDArray[np.uint8]:
    """Return the (h, w) class map of `encode_classes`.

    Raises:
        DataError: As `decode_runs`, or the class map is too large.
    """
    if height_px * width_px > CELLS_MAX:
        raise DataError(
            f"a class map of {height_px} x {width_px} exceeds {CELLS_MAX} cells", where=where
        )
    class_map = np.zeros((height_px, width_px), np.uint8)
    for class_id, code in runs.items():
        if not 0 < class_id < 256:
            raise DataError(f"class {class_id} is not within 1 to 255", where=where)
        mask = decode_runs(code, height_px, width_px, where=where)
        class_map[mask != 0] = class_id
    return class_map
