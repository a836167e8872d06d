"""Frame size and number of channels of a data set, inferred from a sample of its images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeinspect.errors import DataError
from edgeinspect.imaging import read_image
from edgeinspect.learning.datasets.dataset import Dataset
from edgeinspect.learning.datasets.parallel import map_in_threads

_SAMPLE_COUNT = 256
_COLOR_LEVELS = 2.0
"""Minimum mean difference between blue and red of a coloured image."""
_STRONG_LEVELS = 24
_COLOR_RATIO = 0.002
"""An image with this ratio of strongly coloured pixels, such as rust, is coloured too."""
_MAX_SIDE_PX = 2048
_MIN_SIDE_PX = 32
_COMMON_RATIO = 0.2


def common_size(data: Dataset) -> tuple[int, int]:
    """Return the default frame size, (height_px, width_px).

    The most common size if a fifth of the images have it; else the medians, in multiples of
    16. No side above 2048 (both are scaled down together) or below 32.

    Raises:
        DataError: None of the sampled images can be read.
    """
    sizes = np.asarray([look[:2] for look in _sample_properties(data)])
    values, counts = np.unique(sizes, axis=0, return_counts=True)
    best = int(counts.argmax())
    if counts[best] >= _COMMON_RATIO * len(sizes):
        height, width = (int(side) for side in values[best])
    else:
        height, width = (_round16(float(side)) for side in np.median(sizes, axis=0))
    if (longest := max(height, width)) > _MAX_SIDE_PX:
        height = _round16(height * _MAX_SIDE_PX / longest)
        width = _round16(width * _MAX_SIDE_PX / longest)
    return max(_MIN_SIDE_PX, height), max(_MIN_SIDE_PX, width)


def infer_channels(data: Dataset) -> int:
    """Return 3 for coloured images, 1 for grey ones, even if stored as RGB.

    Raises:
        DataError: None of the sampled images can be read.
    """
    return 3 if any(look[2] for look in _sample_properties(data)) else 1


def _round16(side: float) -> int:
    return max(1, round(side / 16)) * 16


def _sample_properties(data: Dataset) -> list[tuple[int, int, bool]]:
    """Return (height, width, is_colored) of evenly sampled readable images."""
    count = min(_SAMPLE_COUNT, len(data.samples))
    at = np.linspace(0, len(data.samples) - 1, count).astype(int)

    def work(index: int) -> tuple[int, int, bool] | DataError:
        try:
            image = read_image(data.samples[index].path, data.read_settings())
        except DataError as error:
            return error
        height_px, width_px = image.shape[:2]
        return height_px, width_px, is_colored(image)

    done = list(map_in_threads(work, at.tolist()))
    looks = [look for look in done if not isinstance(look, DataError)]
    if not looks:
        raise DataError(f"no image can be read; the first: {done[0]}", where=str(data.root))
    return looks


def is_colored(image: NDArray[np.uint8]) -> bool:
    """Return whether a (h, w, c) image is coloured, not grey stored three times."""
    if image.shape[2] != 3:
        return False
    some = image[::2, ::2].astype(np.int16)
    difference = np.abs(some[:, :, 0] - some[:, :, 2])
    strong = float((difference > _STRONG_LEVELS).mean())
    return float(difference.mean()) > _COLOR_LEVELS or strong > _COLOR_RATIO
